"""What a start asks for: when the flow begins, and whether two starts with one key ask for the same flow."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import msgspec

from ..base.log import get_logger
from .errors import IncompatibleFlow, KeyInUse, NotStorable
from .given import check_is
from .journal.records import FlowRow, Record
from .journal.vault import is_secret_name
from .machine.carry import carry_context
from .machine.machine import Machine
from .machine.parts import Context
from .machine.storable import same
from .sizes import check_secret
from .versions import MigratedBody, Table

logger = get_logger(__name__)

C = TypeVar("C", bound=Context)

KEY_CHARACTERS = 1000
"""The longest key."""


LONGEST_DELAY = timedelta(days=36525)
"""A hundred years, as for timeouts."""


def begin_moment(now: datetime, delay: float | None, at: datetime | None) -> datetime | None:
    """When a flow is to begin that is started now; None for at once.

    Raises:
        ValueError: The delay is no number of seconds from 0 on, the moment has no time zone, one is more than a hundred
            years away, or both are given.
    """
    if delay is not None:
        if at is not None:
            raise ValueError("a flow begins after `delay` or at `at`: give one of them")
        if type(delay) not in {int, float} or not (math.isfinite(delay) and delay >= 0):
            raise ValueError(f"delay={delay!r} is no number of seconds from 0 on")
        if delay > LONGEST_DELAY.total_seconds():
            raise ValueError(f"delay={delay!r} is more than a hundred years")
        at = now + timedelta(seconds=delay)
    if at is None:
        return None
    if at.tzinfo is None:
        raise ValueError(f"at={at!r} has no time zone")
    at = at.astimezone(UTC)
    if at - now > LONGEST_DELAY:
        raise ValueError(f"at={at!r} is more than a hundred years away")
    return at if at > now else None


def check_key(key: str) -> None:
    """Check that a key can be stored and found again. Raises `NotStorable`."""
    try:
        good = 0 < len(key) <= KEY_CHARACTERS and "\0" not in key and bool(key.encode())
    except (UnicodeEncodeError, TypeError, AttributeError):
        good = False
    if not good:
        raise NotStorable(
            f"{str(key)[:40]!a} is no key", field="key", hint=f"Use text of 1 to {KEY_CHARACTERS} characters."
        )


def check_text(text: str, field: str) -> None:
    """Check that a text can be stored. Raises `NotStorable`."""
    if not _is_text(text):
        raise NotStorable(f"the {field} is no text that can be stored: {text!a}", field=field)


def check_secrets(secrets: Mapping[str, str] | None) -> None:
    """Check that the secrets of a start can be kept. No message has one of them.

    Raises:
        NotStorable: A name has other characters than letters, digits, dots, dashes and underscores, or a secret is no
            text that can be stored, or is too large.
        TypeError: They are no mapping.
    """
    if secrets is None:
        return
    check_is(secrets, Mapping, "Engine.start")
    for name, secret in secrets.items():
        if not is_secret_name(name):
            raise NotStorable(
                f"{str(name)[:40]!a} is no secret's name",
                field="secrets",
                hint="Use letters, digits, dots, dashes and underscores only.",
            )
        if not _is_text(secret):
            raise NotStorable(f"the secret {name} is no text that can be stored", field="secrets")
        check_secret(name, secret)


def _is_text(value: object) -> bool:
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def different_fields(one: Context, other: Context) -> list[str]:
    """The names of the fields in which two contexts of one class differ."""
    return [name for name in one.__struct_fields__ if not same(getattr(one, name), getattr(other, name))]


def changed_in_place(stored: Context, context: Context) -> NotStorable | None:
    """What is wrong with a context that differs from what is stored: it was changed in place."""
    if stored == context or not (names := different_fields(stored, context)):
        return None
    field = f"{type(stored).__name__}.{names[0]}"
    return NotStorable(
        f"{field} was changed in place; the flow keeps what was written",
        field=field,
        hint="Return a new context from `update` (`msgspec.structs.replace`), and change none in an activity.",
    )


def started_context(machine: Machine[Any], row: FlowRow, first: Record | None) -> Context | None:
    """What a flow was started with, by its first record; None when an older table was given it, in its own terms."""
    if first is None or not machine.wrote(row.version, row.fingerprint):
        return None
    try:
        return machine.decode_context(first.body)
    except msgspec.DecodeError:
        return None


def carried_start(machine: Machine[C], row: FlowRow, records: Sequence[Record]) -> C | None:
    """What a flow that an older table was given was started with, in the terms of today's.

    Where that cannot be carried over, it is what the flow knew later: what tells one flow from another seldom changes.
    None where that cannot be carried over either.

    Args:
        machine: Today's table.
        row: The flow as it is stored.
        records: Its history.
    """
    origin, migrations = Table(row.version, row.fingerprint), [each for each in records if each.kind == "migrated"]
    try:
        if migrations:
            origin = msgspec.json.decode(migrations[0].body, type=MigratedBody).origin
        return carry_context(machine, version=origin.version, fingerprint=origin.fingerprint, context=records[0].body)
    except (IncompatibleFlow, msgspec.DecodeError):
        pass
    try:
        if migrations and machine.wrote(row.version, row.fingerprint):
            return machine.decode_context(bytes(msgspec.json.decode(migrations[-1].body, type=MigratedBody).context))
        return carry_context(machine, version=row.version, fingerprint=row.fingerprint, context=row.context)
    except (IncompatibleFlow, msgspec.DecodeError):
        return None


def check_same_start(machine: Machine[Any], flow: str, stored: Context, given: Context) -> None:
    """Check that a flow is the one that a start with its key asks for.

    Args:
        machine: Its table.
        flow: Its id.
        stored: What it was started with.
        given: What the start was given.

    Raises:
        KeyInUse: A field of the machine's identity differs.
    """
    different = different_fields(stored, given)
    if identity := [name for name in machine.identity if name in different]:
        raise KeyInUse(flow, identity)
    if different:
        # Names only: what a flow knows is not for a log.
        logger.info("%s continues as it was started: what is given for %s is not used", flow, ", ".join(different))
