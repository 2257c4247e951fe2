"""A flow for people at a terminal: the lines of `render`, in colour, above a last line that moves.

The moving part says where each running flow stands, for how long, and where its news comes from. It is wiped when the
flow ends, so that what stays on the screen is the story and nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from typing import Final, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text
from typing_extensions import override

from ...base.errors import CloudError
from ...engine.history import Outcome
from ...engine.journal.records import FlowRow
from ..shared.settings import Settings
from .render import People, Told, clock, meaning

_STYLES: Final = {"plain": "", "good": "green", "bad": "yellow", "quiet": "dim"}


class LivePeople(People):
    """Shows a flow to a person at a terminal."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._console = Console(stderr=True, highlight=False)
        self._spinner = Spinner("dots", style="cyan")
        self._live = Live(console=self._console, transient=True, auto_refresh=False, get_renderable=self._standing)

    @override
    def __enter__(self) -> Self:
        self._live.start()
        return self

    @override
    def __exit__(self, *_: object) -> None:
        self._live.stop()

    @override
    def tick(self) -> None:
        super().tick()
        if self._live.is_started:
            self._live.refresh()

    @override
    @contextmanager
    def paused(self) -> Generator[None, None, None]:
        self._live.stop()
        try:
            with super().paused():
                yield
        finally:
            if not self._questions:
                self._live.start()

    @override
    def line(self, machine: str, told: Told) -> None:
        sign = f"{told.sign} " if told.sign else ""
        text = Text.assemble(
            (f"{self.elapsed:>6}  ", "dim"), (f"{machine:<12}  ", "cyan"), (sign + told.text, _STYLES[told.tone])
        )
        self.after_question(partial(self._console.print, text))

    @override
    def show(self, text: str) -> None:
        self.after_question(partial(self._console.print, Text(text)))

    @override
    def show_address(self, text: str) -> None:
        # Not wrapped by us: a line break in it would spoil what is copied from the screen.
        self.after_question(partial(self._console.print, Text(text, style="bold"), soft_wrap=True))

    @override
    def ended(self, outcome: Outcome, hint: str) -> None:
        self._live.stop()
        super().ended(outcome, hint)

    @override
    def interrupted(self, row: FlowRow | None) -> None:
        self._live.stop()
        super().interrupted(row)

    @override
    def stuck(self, row: FlowRow | None, error: CloudError) -> None:
        self._live.stop()
        super().stuck(row, error)

    def _standing(self) -> RenderableType:
        if not self.running:
            return Text("")
        # The innermost flow is the one that does something; its parents only wait for it.
        standing = list(self.running.values())[-1]
        here = clock(time.monotonic() - standing.since)
        if standing.limit is not None:
            here += f" of {clock(round(standing.limit))}"
        self._spinner.update(
            text=Text.assemble(
                (f"{standing.machine}: {meaning(standing.machine, standing.state)}", "bold"),
                (f"  {here}", "cyan"),
            )
        )
        notes = [f"total {self.elapsed}", "Ctrl-C stops; you can resume later"]
        if standing.steps:
            notes.insert(0, f"{standing.steps} steps done")
        below = Text("  " + ", ".join(notes), style="dim")
        return Group(*(_cut(each) for each in (self._spinner.render(self._console.get_time()), below)))


def _cut(line: RenderableType) -> RenderableType:
    """A moving line that ends at the edge: on a narrow terminal it must not take more rows than are wiped again."""
    if isinstance(line, Text):
        line.no_wrap, line.overflow = True, "ellipsis"
    return line
