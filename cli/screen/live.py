"""A flow for people at a terminal: the lines of `render`, in colour, above a last line that moves.

The moving part shows the state of each running flow, for how long, and where its news comes from. It is wiped when the
flow ends, so that what stays on the screen is the story and nothing else.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Final, Self, TextIO, cast

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text
from typing_extensions import override

from ...base.errors import CloudError
from ...engine.history import Outcome
from ...engine.journal.records import FlowRow
from ..shared.settings import Settings
from .layout import laid_out
from .render import Line, People, clock, meaning
from .terminal import forget_stream

_STYLES: Final = {"plain": "", "good": "green", "bad": "yellow", "quiet": "dim"}


class _Window:
    """The terminal at stderr, which may be closed at any moment: what is written then is dropped, the flow is saved."""

    @property
    def _stream(self) -> TextIO:
        # While something is drawn, rich has put its own in the place of sys.stderr.
        return cast("TextIO", getattr(sys.stderr, "rich_proxied_file", sys.stderr))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            forget_stream(self._stream)


class LivePeople(People):
    """Shows a flow to a person at a terminal."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._console = Console(file=cast("TextIO", _Window()), highlight=False)
        self._spinner = Spinner("dots", style="cyan")
        self._live = Live(console=self._console, transient=True, auto_refresh=False, get_renderable=self._status_line)

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
    def line(self, machine: str, line: Line) -> None:
        columns = self._console.width
        elapsed, name = self.before(machine, columns)
        before = len(elapsed + name)
        words = laid_out(" " * before + line.words, columns, before)[before:]
        self._print(Text.assemble((elapsed, "dim"), (name, "cyan"), (words, _STYLES[line.tone])))

    @override
    def show(self, text: str) -> None:
        self._print(Text(laid_out(text, self._console.width)))

    @override
    def show_address(self, text: str) -> None:
        self._print(Text(text, style="bold"))

    def _print(self, text: Text) -> None:
        # Not wrapped by rich: a line break in an address or a command would spoil what is copied from the screen.
        self.after_question(partial(self._console.print, text, soft_wrap=True))

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

    def _status_line(self) -> RenderableType:
        if not self.running:
            return Text("")
        # The innermost flow is the one that does something; its parents only wait for it.
        flow = list(self.running.values())[-1]
        here = clock(time.monotonic() - flow.since)
        if flow.limit is not None:
            here += f" of {clock(round(flow.limit))}"
        self._spinner.update(
            text=Text.assemble(
                (f"{flow.machine}: {meaning(flow.machine, flow.state)}", "bold"),
                (f"  {here}", "cyan"),
            )
        )
        notes = [f"total {self.elapsed}", "Ctrl-C stops; you can resume later"]
        if flow.steps:
            notes.insert(0, f"{flow.steps} steps done")
        below = Text("  " + ", ".join(notes), style="dim")
        return Group(*(_cut(each) for each in (self._spinner.render(self._console.get_time()), below)))


def _cut(line: RenderableType) -> RenderableType:
    """A moving line that ends at the edge: on a narrow terminal it must not take more rows than are wiped again."""
    if isinstance(line, Text):
        line.no_wrap, line.overflow = True, "ellipsis"
    return line
