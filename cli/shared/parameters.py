"""Arguments and numbers of commands as click has them, with help of their own and mistakes in plain words."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final, TypeVar

import click
from typing_extensions import override

T = TypeVar("T")

MOST: Final = 1_000_000_000
"""More than there is of anything that is counted, and less than SQLite takes."""


class Argument(click.Argument):
    """An argument that the command's help explains.

    Args:
        declarations: Its name, as click takes it.
        about: What it is, for the help.
        attributes: Whatever else click takes.
    """

    def __init__(self, declarations: list[str], *, about: str, **attributes: Any) -> None:
        super().__init__(declarations, **attributes)
        self.about = about

    @override
    def make_metavar(self, ctx: click.Context) -> str:
        name = self.human_readable_name if self.required else f"[{self.human_readable_name}]"
        return name if self.nargs == 1 else f"{name}..."

    @override
    def get_error_hint(self, ctx: click.Context | None) -> str:
        return f"'{self.human_readable_name}'"

    @override
    def get_help_record(self, ctx: click.Context) -> tuple[str, str]:
        return self.human_readable_name, f"{self.about}{'  [required]' if self.required else ''}"


class Command(click.Command):
    """A command whose help lists its arguments before its options."""

    @override
    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, kind in (("Arguments", click.Argument), ("Options", click.Option)):
            found = [each for each in self.get_params(ctx) if isinstance(each, kind)]
            records = [record for each in found if (record := each.get_help_record(ctx)) is not None]
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


class WholeNumber(click.IntRange):
    """A whole number within bounds."""

    def __init__(self, least: int, most: int) -> None:
        super().__init__(least, most)
        self.bounds = f"from {least} to {most}"

    @override
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            self.fail(f"{value!r} is not a whole number {self.bounds}", param, ctx)


class Number(click.FloatRange):
    """A number within bounds."""

    def __init__(self, least: int, most: int) -> None:
        super().__init__(least, most)
        self.bounds = f"from {least} to {most}"

    @override
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            found = super().convert(value, param, ctx)
        except click.BadParameter:
            found = math.nan
        if math.isnan(found):  # also where "nan" was typed, which is in no order, and so within any bounds
            self.fail(f"{value!r} is not a number {self.bounds}", param, ctx)
        return found


def checking(check: Callable[[T], T]) -> Callable[[click.Context, click.Parameter, T | None], T | None]:
    """A callback of a parameter: what was given goes through the check, which raises `click.BadParameter`."""

    def callback(_context: click.Context, _parameter: click.Parameter, value: T | None) -> T | None:
        return None if value is None else check(value)

    return callback
