"""The status of a flow, for people and for programs: what it is doing, who drives it, how it ended, how to resume it.

The journal says of a flow that it runs until something else is written. Whether it does, only the lock of its driver
shows; so one function decides, and every view of a flow asks it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from ...base.moments import parse_moment
from ..screen.terminal import clean, shortened
from ..screen.times import dated, relative
from ..shared.settings import Settings

if TYPE_CHECKING:
    from ...engine.journal.journal import Journal
    from ...engine.journal.records import FlowRow

Doing = Literal["running", "paused", "queued", "resting", "ended", "interrupted"]

STORED: Final = {
    "running": "running",
    "interrupted": "running",
    "paused": "paused",
    "queued": "queued",
    "waiting": "resting",
    "ended": "ended",
    "success": "ended",
    "failure": "ended",
    "cancelled": "ended",
}
"""What a flow may be doing or how it may have ended, and its status in the journal then."""

IN_WORDS: Final = {"resting": "waiting"}
"""What people are shown instead of a status of the journal."""


class Known(msgspec.Struct):
    """The part of every flow's context that says where it may send a person, who may answer, and why it ended badly."""

    api_url: str = ""
    bound: bool = True
    problem: str = ""


KNOWN: Final = msgspec.json.Decoder(Known)


def driver_of(settings: Settings, row: FlowRow) -> str | None:
    """The process that drives a flow at this moment, if one does."""
    from ...engine.journal.owners import OwnerName, owner_is_alive

    if row.owner is None or not owner_is_alive(settings.paths.owners, row.owner):
        return None
    owner = OwnerName.parse(row.owner)
    return f"{owner.pid} on {owner.host}"


def doing_of(settings: Settings, row: FlowRow) -> Doing:
    """What a flow is doing: one that the journal says is running and that nobody drives was interrupted."""
    return "interrupted" if row.status == "running" and driver_of(settings, row) is None else row.status


def shown_status(settings: Settings, row: FlowRow) -> str:
    """The verdict of a flow that has ended, else what it is doing."""
    doing = doing_of(settings, row)
    return row.verdict or IN_WORDS.get(doing, doing)


def begins_of(row: FlowRow) -> str:
    """What a queued flow waits for, in words."""
    if row.deadline is None:
        return "its turn"
    return when(row.deadline)


def ago(moment: str) -> str:
    """How far a moment of the journal is, for people."""
    return relative(parse_moment(moment), datetime.now(UTC))


def when(moment: str) -> str:
    """A moment of the journal for people: in UTC, and how far it is."""
    return dated(parse_moment(moment), datetime.now(UTC))


def ended_as(row: FlowRow) -> str:
    """How a flow ended: by its state, or by its verdict where the state does not say it."""
    return row.state if row.state == row.verdict else f"{row.verdict}, at {row.state}"


def problem_of(journal: Journal, row: FlowRow) -> str:
    """Why a flow ended other than well, as far as it knows itself or its last record says; empty when it did not."""
    from ...engine.history import Change
    from ...engine.machine.stored import decoded
    from ..screen.hints import problem_text

    if row.verdict in {None, "success"}:
        return ""
    try:
        known = decoded(KNOWN, row.context).problem
    except msgspec.DecodeError:
        known = ""  # another program's context means something else by the name; or it is damaged
    last = None if known else journal.last_record(row.id)
    return clean(problem_text(known or ("" if last is None else Change.of(row.machine, last).message)))


def waiting_of(journal: Journal, row: FlowRow) -> list[str]:
    """The names of the events in a flow's inbox, the oldest first."""
    return [clean(signal.name) for signal in journal.signals(row.id)]


def refused_of(journal: Journal, row: FlowRow) -> list[dict[str, str]]:
    """The events from its inbox that a flow could not take, and why."""
    from ...engine.history import Change

    return [
        {"at": record.at, "event": clean(record.name), "message": clean(Change.of(row.machine, record).message)}
        for record in journal.refused(row.id)
    ]


def way_on_of(settings: Settings, row: FlowRow) -> str:
    """How to continue a flow that has not ended, in a sentence with a command to paste."""
    from .ways_on import way_on

    return way_on(settings, row.machine, shortened(row.id))


def resume_of(settings: Settings, row: FlowRow) -> str | None:
    """The command that resumes a flow, for programs; None where none does."""
    from .ways_on import is_ours

    return settings.resume_command(row.id) if row.status != "ended" and is_ours(row.machine) else None


def as_json(settings: Settings, row: FlowRow) -> dict[str, Any]:
    """A flow for programs; its context holds references to secrets, and is left out."""
    return {
        "flow": row.id,
        "machine": row.machine,
        "key": row.key,
        "state": row.state,
        "status": doing_of(settings, row),
        "verdict": row.verdict,
        "parent": row.parent,
        "created": row.created,
        "updated": row.updated,
        "deadline": row.deadline,
    }
