"""What the journal has of a flow, for the commands that only look."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from ..diagrams.text import draw_tree
from ..flows.flow import Change
from ..io.journal import Journal
from ..io.log import redact
from .render import MACHINES
from .settings import Settings
from .terminal import stream_style


def histories_of(settings: Settings, flow: str) -> list[list[Change]]:
    """A flow's history and then those of its children, each in order.

    Args:
        settings: Where the journal is.
        flow: The flow's id, or a beginning of it that fits no other.

    Raises:
        FlowNotFound: There is none, or several.
    """
    with Journal(settings.paths.journal, create=False) as journal:
        todo = [journal.find(flow)]
        found: list[list[Change]] = []
        while todo:
            row = todo.pop(0)
            found.append([Change.of(row.machine, record) for record in journal.records(row.id)])
            todo += journal.children(row.id)
    return found


def draw(histories: Sequence[Sequence[Change]]) -> str:
    """The path of a flow and of its children, for stdout."""
    return redact(draw_tree(MACHINES.values(), histories, **stream_style(sys.stdout)))
