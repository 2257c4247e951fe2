"""The decoder keeps to the WHATWG algorithm, corner by corner; the stream notices its own death.

`test_sse_reference.py` compares it with another decoder on any stream, `test_sse_scale.py` looks at time and memory.
"""

from __future__ import annotations

from typing import Any

import httpx
import pytest
import trio
import trio.testing
from systemprompt_cloud.errors import StreamLost, TooLarge
from systemprompt_cloud.io.sse.decoder import EventDecoder, EventStream, ServerSentEvent
from systemprompt_cloud.testing.streams import Script, ScriptedStep

Event = ServerSentEvent


def decode(*chunks: bytes, max_line: int = 1000, max_event: int = 1000) -> list[Event]:
    decoder = EventDecoder(max_line=max_line, max_event=max_event)
    return [event for chunk in chunks for event in decoder.feed(chunk)]


CLAUSES: dict[str, tuple[bytes, list[tuple[str, str, str]]]] = {
    "one BOM at the start is dropped": (b"\xef\xbb\xbfdata: a\n\n", [("message", "a", "")]),
    "a second BOM makes an unknown field": (b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\n", []),
    "a BOM later on is text": (b"data: \xef\xbb\xbfa\n\n", [("message", "\ufeffa", "")]),
    "data without a colon is an empty line": (b"data\n\n", [("message", "", "")]),
    "two empty data lines are one newline": (b"data\ndata\n\n", [("message", "\n", "")]),
    "only one space is dropped": (b"data:  a\n\n", [("message", " a", "")]),
    "an event without data is not dispatched": (b"event: x\nid: 4\n\ndata: a\n\n", [("message", "a", "4")]),
    "the event type is forgotten with it": (b"event: x\n\ndata: a\n\n", [("message", "a", "")]),
    "an empty event type means message": (b"event: x\nevent:\ndata: a\n\n", [("message", "a", "")]),
    "the last of several types counts": (b"event: x\nevent: y\ndata: a\n\n", [("y", "a", "")]),
    "an id lasts": (b"id: 1\ndata: a\n\ndata: b\n\n", [("message", "a", "1"), ("message", "b", "1")]),
    "an empty id resets": (b"id: 1\ndata: a\n\nid\ndata: b\n\n", [("message", "a", "1"), ("message", "b", "")]),
    "an id of one space resets": (
        b"id: 1\ndata: a\n\nid: \ndata: b\n\n",
        [("message", "a", "1"), ("message", "b", "")],
    ),
    "an id with NULL is ignored": (b"id: 1\nid: 2\0\ndata: a\n\n", [("message", "a", "1")]),
    "the second id of an event counts": (b"id: 1\nevent: e\nid: 2\ndata: a\n\n", [("e", "a", "2")]),
    "the unterminated last event never happened": (b"data: a\n\ndata: b\n", [("message", "a", "")]),
    "data lines without the space join alike": (b"id:1\ndata:a\ndata:b\n\n", [("message", "a\nb", "1")]),
    "data lines with and without the space mix": (b"data: a\ndata:b\ndata:  c\n\n", [("message", "a\nb\n c", "")]),
    "text that looks like a data line inside one stays": (
        b"data: xdata: y\ndata: z\n\n",
        [("message", "xdata: y\nz", "")],
    ),
    "comments vanish": (b": hello\ndata: a\n:\n\n", [("message", "a", "")]),
    "field names are case-sensitive": (b"Data: a\n\n", []),
    "a space before the colon makes another field": (b"data : a\n\n", []),
    "vertical tab, form feed, NEL and LS end no line": (
        "data: a\x0b\x0c\x85\u2028b\n\n".encode(),
        [("message", "a\x0b\x0c\x85\u2028b", "")],
    ),
    "lone CR ends lines": (b"data: a\rdata: b\r\r", [("message", "a\nb", "")]),
    "invalid bytes become U+FFFD": (b"data: \xff\xc3\n\n", [("message", "\ufffd\ufffd", "")]),
}


@pytest.mark.parametrize("clause", CLAUSES)
def test_clause(clause: str) -> None:
    """Each corner of the format, whole and byte by byte."""
    stream, expected = CLAUSES[clause]
    assert [(event.event, event.data, event.id) for event in decode(stream)] == expected
    single = [stream[at : at + 1] for at in range(len(stream))]
    assert [(event.event, event.data, event.id) for event in decode(*single)] == expected


def test_cr_dispatches_at_once_and_swallows_the_lf_of_the_next_chunk() -> None:
    """An event ended by CR is not held back until it is known whether an LF follows."""
    decoder = EventDecoder()
    assert decoder.feed(b"data: a\r\n\r") == [Event("message", "a", "")]
    assert decoder.feed(b"") == []
    assert decoder.feed(b"\ndata: b\n\n") == [Event("message", "b", "")]


def test_last_event_id_counts_when_dispatched() -> None:
    """An id line alone says nothing yet; the empty line behind it does, also without data."""
    decoder = EventDecoder("7")
    decoder.feed(b"id: 8\n")
    assert decoder.last_event_id == "7"
    decoder.feed(b"\n")
    assert decoder.last_event_id == "8"


def test_reconnecting_reader_carries_its_id_on() -> None:
    """Events without an id of their own have the one the reader came with."""
    assert EventDecoder("7").feed(b"data: a\n\n") == [Event("message", "a", "7")]


@pytest.mark.parametrize(
    ("value", "expected"),
    [("250", 250), ("007", 7), ("0", 0), ("", None), ("+5", None), ("5 ", None), ("1.5", None), ("٣", None)],
)
def test_retry_takes_ascii_digits_only(value: str, expected: int | None) -> None:
    """`retry` counts when it is digits, at once, and nothing else is guessed at."""
    decoder = EventDecoder()
    decoder.feed(f"retry:{value}\n".encode())
    assert decoder.retry_ms == expected


def test_retry_of_ten_thousand_digits_is_a_long_wait_and_no_crash() -> None:
    """Python refuses to convert so many digits; the decoder does not pass that on."""
    decoder = EventDecoder()
    decoder.feed(b"retry: " + b"9" * 10_000 + b"\n")
    assert decoder.retry_ms is not None
    assert decoder.retry_ms > 10**18


def test_line_over_the_bound_is_refused_before_it_ends() -> None:
    """A line that never ends is an error with its size, not memory."""
    decoder = EventDecoder(max_line=100)
    decoder.feed(b"data: " + b"x" * 90)
    with pytest.raises(TooLarge, match=r"line of at least 106 bytes; at most 100"):
        decoder.feed(b"x" * 10)


def test_event_over_the_bound_is_refused_before_it_ends() -> None:
    """Many short lines of one event add up."""
    decoder = EventDecoder(max_event=50)
    with pytest.raises(TooLarge, match="event of at least 59 characters; at most 50"):
        decoder.feed(b"data: 123456789\n" * 6)


def test_event_and_line_of_exactly_the_bound_are_taken() -> None:
    """The bound itself is allowed."""
    assert decode(b"data: 1234\n\n", max_line=10, max_event=4) == [Event("message", "1234", "")]
    assert decode(b"data: 12\ndata: 4\n\n", max_event=4) == [Event("message", "12\n4", "")]


def test_events_before_a_refused_one_are_not_lost_and_the_decoder_is_spent() -> None:
    """What was complete is handed out first; then every call refuses."""
    decoder = EventDecoder(max_line=20)
    assert decoder.feed(b"data: a\n\ndata: " + b"x" * 50 + b"\n\ndata: c\n\n") == [Event("message", "a", "")]
    for chunk in (b"", b"data: d\n\n"):
        with pytest.raises(TooLarge):
            decoder.feed(chunk)


# --- the stream ----------------------------------------------------------------------------------------


def stream_of(*steps: ScriptedStep, **options: Any) -> EventStream:
    return EventStream(httpx.Response(200, stream=Script(*steps)), where="GET http://x/events", **options)


async def test_stream_gives_events_then_says_that_it_ended() -> None:
    """An ended stream is lost, not done: only the machine knows whether the story is over."""
    stream = stream_of(b"retry: 50\nid: 1\ndata: a\n\nid: 2\ndata:", b" b\n\n")
    assert [await anext(stream), await anext(stream)] == [Event("message", "a", "1"), Event("message", "b", "2")]
    with pytest.raises(StreamLost, match="GET http://x/events: the event stream was lost: the server ended it"):
        await anext(stream)
    assert (stream.last_event_id, stream.retry_ms) == ("2", 50)


async def test_last_event_id_is_that_of_the_event_handed_out() -> None:
    """Two events in one chunk: who stops after the first must get the second again."""
    stream = stream_of(b"id: 1\ndata: a\n\nid: 2\ndata: b\n\nid: 3\n\n")
    await anext(stream)
    assert stream.last_event_id == "1"
    await anext(stream)
    assert stream.last_event_id == "3"
    await stream.aclose()


async def test_broken_stream_says_so_and_keeps_the_cause() -> None:
    """A reset connection is translated, its reason kept."""
    stream = stream_of(b"data: a\n\n", httpx.ReadError("connection reset"))
    await anext(stream)
    with pytest.raises(StreamLost, match="was lost: connection reset") as lost:
        await anext(stream)
    assert isinstance(lost.value.__cause__, httpx.ReadError)


async def test_silent_stream_is_given_up(autojump_clock: trio.testing.MockClock) -> None:
    """Nothing for the idle timeout: the connection counts as dead."""
    stream = stream_of(b"data: a\n\n", 3600.0, idle_timeout=30.0)
    await anext(stream)
    with pytest.raises(StreamLost, match="was lost: no data for 30 s"):
        await anext(stream)
    assert trio.current_time() == pytest.approx(30.0)


async def test_comments_and_heartbeats_feed_the_watchdog(autojump_clock: trio.testing.MockClock) -> None:
    """Any byte proves life, also one that is no event, also part of a line."""
    quiet = [step for _ in range(10) for step in (25.0, b": still here\n")]
    stream = stream_of(*quiet, 25.0, b"da", 25.0, b"ta: a\n\n", idle_timeout=30.0)
    assert (await anext(stream)).data == "a"
    assert trio.current_time() == pytest.approx(300.0)
    await stream.aclose()


async def test_stream_over_the_bound_is_refused_after_its_good_events() -> None:
    """The event before the flood is delivered, then the flood is refused without waiting for more bytes."""
    stream = stream_of(b"data: a\n\ndata: " + b"x" * 100, 3600.0, max_line=50)
    assert (await anext(stream)).data == "a"
    with pytest.raises(TooLarge):
        await anext(stream)
    await stream.aclose()


async def test_cancelled_wait_loses_nothing_that_was_handed_out(autojump_clock: trio.testing.MockClock) -> None:
    """Cancelling a reader leaves the id to reconnect with."""
    stream = stream_of(b"id: 9\ndata: a\n\n", 3600.0, idle_timeout=7200.0)
    with trio.move_on_after(1) as scope:
        while True:
            await anext(stream)
    assert scope.cancelled_caught
    assert stream.last_event_id == "9"
