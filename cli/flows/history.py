"""What the journal has of a flow, for the commands that only look."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from heapq import merge
from typing import Final

from msgspec.structs import replace

from ...base.redaction import redact
from ...diagrams.summary import draw_summary
from ...diagrams.text import draw_tree
from ...engine.errors import FlowNotFound
from ...engine.history import Change
from ...engine.journal.journal import Journal
from ...engine.journal.records import FlowRow
from ..screen.render import MACHINES
from ..screen.terminal import DrawingStyle, stream_style
from ..shared.settings import Settings


def histories_of(settings: Settings, flow: str | None) -> list[list[Change]]:
    """A flow's history and then those of its children, each in order.

    Args:
        settings: Where the journal is.
        flow: The flow's id, or a beginning of it that fits no other; the newest flow when not given.

    Raises:
        FlowNotFound: There is none, or several.
    """
    with Journal(settings.paths.journal, create=False) as journal:
        family = journal.family(find_or_newest(journal, flow))
        return [list(_past(journal, row)) for row in family]


def each_change(settings: Settings, flow: str | None) -> Iterator[Change]:
    """The changes of a flow and of its children in the order they were written, read as they are asked for.

    Args:
        settings: Where the journal is.
        flow: As for `histories_of`.

    Raises:
        FlowNotFound: There is none, or several.
    """
    with Journal(settings.paths.journal, create=False) as journal:
        yield from merge(*(_past(journal, row) for row in journal.family(find_or_newest(journal, flow))), key=_moment)


def _past(journal: Journal, row: FlowRow) -> Iterator[Change]:
    return (Change.of(row.machine, record) for record in journal.each_record(row.id))


def _moment(change: Change) -> str:
    return change.at


def find_or_newest(journal: Journal, flow: str | None) -> FlowRow:
    """The flow with this id, or beginning of one; without it the one that was started last.

    Raises:
        FlowNotFound: There is none, or several begin so.
    """
    if flow is not None:
        return journal.find(flow)
    if not (newest := journal.flows(roots_only=True, limit=1)):
        raise FlowNotFound(f"there are no flows yet in {journal.path}")
    return newest[0]


TROUBLES: Final = {"StreamLost": "stream lost", "StatusNotAnswered": "status not answered"}
"""The events of our machines that tell of something that went wrong, and what to call each."""


def summarize(histories: Sequence[Sequence[Change]], style: DrawingStyle | None = None) -> str:
    """What a flow went through, a line for each state, for stdout."""
    chosen = style or stream_style(sys.stdout)
    return draw_summary(MACHINES.values(), _redacted(histories), troubles=TROUBLES, **chosen)


def draw(histories: Sequence[Sequence[Change]], style: DrawingStyle | None = None) -> str:
    """The path of a flow and of its children, for stdout; those of other programs' machines without their tables."""
    return draw_tree(MACHINES.values(), _redacted(histories), tableless=True, **(style or stream_style(sys.stdout)))


def _redacted(histories: Sequence[Sequence[Change]]) -> list[list[Change]]:
    # Before it is drawn: a drawing breaks a long word at the edge of the page.
    return [
        [replace(each, message=redact(each.message), brief=redact(each.brief)) for each in history]
        for history in histories
    ]
