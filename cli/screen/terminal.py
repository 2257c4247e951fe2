"""The two streams: data on stdout, talk on stderr, one flushed line at a time.

Nothing reaches a terminal as it came from a server: secrets are redacted, and what cannot be seen becomes a space,
since an escape sequence in a message could repaint the screen, and a bidirectional override turn an address around. A
reader who went away (`| head`) does not end a flow: what would have been written to them is dropped. Nor does a stdout
that cannot be written (a full disk): that is said once, and the program ends with 1 where it would have ended with 0.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import IO, Final, TextIO, TypedDict

import msgspec

from ..shared.settings import Invocation, Settings
from .columns import terminal_columns

_invocation: Final[ContextVar[Invocation | None]] = ContextVar("invocation", default=None)
"""The command line that is being run here: it is told when its data is lost."""


@contextmanager
def writing_for(invocation: Invocation) -> Generator[None]:
    """Write for a command line: when stdout cannot be written inside the block, its `data_lost` is set."""
    before = _invocation.set(invocation)
    try:
        yield
    finally:
        _invocation.reset(before)


def clean(text: str) -> str:
    """A single line that is safe to show: no secret, and nothing that cannot be seen."""
    from ...base.redaction import printable, redact
    from ...base.texts import path_text

    return printable(path_text(redact(text)))


def put(text: str, *, hang: int | None = None) -> None:
    """A line of data, on stdout; on a terminal it is wrapped.

    Args:
        text: The line.
        hang: The column in which it continues where it is too long; None for a little deeper than it begins.
    """
    _write(sys.stdout, _fitting(sys.stdout, text, hang))


def put_drawn(text: str) -> None:
    """Lines of data that have their breaks, on stdout."""
    _write(sys.stdout, text)


def put_paged(settings: Settings, text: str) -> None:
    """Data on stdout; in a pager (PAGER, else less) where it is longer than the terminal, and not with --no-input."""
    import shutil

    if settings.no_input or not sys.stdout.isatty() or text.count("\n") + 2 < shutil.get_terminal_size().lines:
        put_drawn(text)
        return
    import click

    os.environ.setdefault("LESS", "FRX")  # colours, and no pager at all where it fits after all, as git has it
    click.echo_via_pager(text + "\n")


def put_json(shown: object, *, whole: bool = False) -> None:
    """An object of data as a line of JSON, on stdout; of it what `--fields` and `--jq` choose.

    Args:
        shown: The object.
        whole: Show all of it, whatever was chosen: it is an error.
    """
    from ...base.redaction import printable

    invocation = _invocation.get()
    projection = None if whole or invocation is None else invocation.projection
    try:
        data = msgspec.json.encode(shown)
    except UnicodeEncodeError:  # a path whose bytes are not UTF-8
        from ...base.texts import storable

        data = msgspec.json.encode(storable(msgspec.to_builtins(shown)))
    if projection is None:
        put_utf8(data.decode())
        return
    try:
        for line in projection.lines(data):
            put_utf8("\n".join(map(printable, line.split("\n"))) if sys.stdout.isatty() else line)
    except ValueError as exc:
        if invocation is not None:
            invocation.data_lost = True
        say(f"Error: --jq: {clean(str(exc))}")


def put_utf8(text: str) -> None:
    """A line of JSON, on stdout: in UTF-8, whatever the locale (RFC 8259 section 8.1)."""
    raw = getattr(sys.stdout, "buffer", None)
    if raw is None:  # a program that runs us has put a stream of text there
        put_drawn(text)
    else:
        _write(sys.stdout, text, raw)


def put_done(settings: Settings, shown: object, words: str) -> None:
    """What a command did: an object for programs, or a sentence for people."""
    if settings.json:
        put_json(shown)
    else:
        say(words)


def say(text: str = "", *, hang: int | None = None) -> None:
    """A line of talk, on stderr; on a terminal it is wrapped.

    Args:
        text: The line.
        hang: The column in which it continues where it is too long; None for a little deeper than it begins.
    """
    _write(sys.stderr, _fitting(sys.stderr, text, hang))


def _fitting(stream: TextIO, text: str, hang: int | None) -> str:
    columns = terminal_columns(stream)
    if columns is None or (text.isascii() and len(text) <= columns):
        return text
    from .layout import laid_out

    return laid_out(text, columns, hang)


def prepare_streams() -> None:
    """Make both streams take any text: what their encoding does not have becomes a question mark."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")


def wants_colour(stream: TextIO, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether the stream is a terminal that likes colour and movement (https://no-color.org, `TERM=dumb`)."""
    return stream.isatty() and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"


def speaks_unicode(stream: TextIO) -> bool:
    """Whether ticks and arrows survive the stream's encoding."""
    try:
        "✓✗│▼".encode(stream.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def mark(good: bool) -> str:
    """A tick or a cross, for stderr."""
    # The real stream: a live display puts its own in place of sys.stderr.
    if speaks_unicode(sys.__stderr__ or sys.stderr):
        return "✓" if good else "✗"
    return "+" if good else "x"


def put_table(rows: Sequence[Sequence[str]]) -> None:
    """Rows in columns, on stdout; the first row is the head. Whatever is in a cell is safe to show."""
    from .layout import rows_in_columns

    put_drawn(rows_in_columns([[clean(cell) for cell in row] for row in rows], terminal_columns(sys.stdout)))


def fields(shown: Mapping[str, object]) -> str:
    """Names and values, a line each, for people; what is unknown is a dash, a moment is in UTC."""
    return "\n".join(f"{name.replace('_', ' ')}: {_said(value)}" for name, value in shown.items())


def _said(value: object) -> str:
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else clean(str(value))


def shortened(flow: str) -> str:
    """The beginning of a flow's id, for people; any beginning that fits one flow only is taken as its id."""
    return flow if "." in flow else flow[:12]


def _write(stream: TextIO, text: str, raw: IO[bytes] | None = None) -> None:
    try:
        if raw is None:
            stream.write(text + "\n")
        else:
            stream.flush()
            raw.write(text.encode() + b"\n")
        stream.flush()
    except BrokenPipeError:
        forget_stream(stream)
    except OSError as exc:
        forget_stream(stream)
        if stream is sys.stdout:
            if (invocation := _invocation.get()) is not None:
                invocation.data_lost = True
            say(f"Error: cannot write to stdout: {exc.strerror or exc}")


def forget_stream(stream: TextIO) -> None:
    """Write nothing to a stream any more: its reader, or its terminal, has gone."""
    # The buffer still holds the line; with the descriptor on /dev/null it can be flushed, now and at the end.
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, stream.fileno())
    os.close(nothing)
    with contextlib.suppress(OSError):
        stream.flush()


class DrawingStyle(TypedDict):
    """What a stream can show of a drawing."""

    width: int
    color: bool
    ascii_only: bool


def stream_style(stream: TextIO) -> DrawingStyle:
    """How wide and how colourful a drawing may be on a stream."""
    import shutil

    width = shutil.get_terminal_size((100, 24)).columns if stream.isatty() else 100
    return {"width": max(width, 40), "color": wants_colour(stream), "ascii_only": not speaks_unicode(stream)}
