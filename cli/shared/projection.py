"""`--fields` and `--jq`: which part of each JSON object is shown."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any, Final, Protocol

import click
import msgspec

_NO_JQ: Final = "--jq needs the package jq, which is not installed. Install it: pip install 'systemprompt-cloud[jq]'"


class Filter(Protocol):
    """A compiled jq expression."""

    def input_text(self, text: str) -> Any: ...


class Projection(msgspec.Struct, frozen=True):
    """What is shown of each JSON object.

    Attributes:
        fields: The fields to keep, in this order; empty for all.
        filter: Makes what is shown of the rest; None to show it as it is.
    """

    fields: tuple[str, ...] = ()
    filter: Filter | None = None

    def check(self, words: str) -> None:
        """Make sure that a command has the fields.

        Args:
            words: The command's words.

        Raises:
            click.BadParameter: It has not; the message lists those it has.
        """
        from ..fields import fields_of

        known = fields_of(words)
        for name in self.fields:
            if name not in known:
                problem = f"`{words} --json` has no field {name!r}. Fields: {', '.join(known)}"
                raise click.BadParameter(problem, param_hint="--fields")

    def lines(self, data: bytes) -> Iterator[str]:
        """What to show of an object: nothing where it has none of the fields, null for a field it lacks.

        Args:
            data: The object, as JSON.

        Raises:
            ValueError: The jq expression does not fit it.
        """
        if self.fields:
            whole: dict[str, msgspec.Raw] = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
            if whole.keys().isdisjoint(self.fields):
                return
            data = msgspec.json.encode({name: whole.get(name) for name in self.fields})
        if self.filter is None:
            yield data.decode()
            return
        for found in self.filter.input_text(data.decode()):
            yield found if isinstance(found, str) else msgspec.json.encode(found).decode()


def projection_of(fields: str | None, expression: str | None, *, json: bool) -> Projection | None:
    """What the options choose; None for everything.

    Args:
        fields: The value of `--fields`.
        expression: The value of `--jq`.
        json: Whether `--json` was given.

    Raises:
        click.UsageError: They are given without `--json`, or cannot be understood, or there is no jq here.
    """
    for option, value in (("--fields", fields), ("--jq", expression)):
        if value is not None and not json:
            raise click.UsageError(f"{option} needs --json; add it to the command.")
    if fields is None and expression is None:
        return None
    names = tuple(dict.fromkeys(each.strip() for each in (fields or "").split(",")))
    if fields is not None and "" in names:
        raise click.BadParameter("a name is empty; write them as --fields NAME,NAME", param_hint="--fields")
    return Projection(names if fields else (), None if expression is None else _compiled(expression))


def _compiled(expression: str) -> Filter:
    try:
        jq = importlib.import_module("jq")
    except ImportError as exc:
        raise click.UsageError(_NO_JQ) from exc
    try:
        compiled: Filter = jq.compile(expression)
    except ValueError as exc:
        problem = str(exc).partition("\n")[0].removeprefix("jq: error: ")
        raise click.BadParameter(f"invalid jq expression {expression!r}: {problem}", param_hint="--jq") from exc
    return compiled
