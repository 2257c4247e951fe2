"""The decoder against two others: one written down from the specification, word by word, and httpx-sse.

`Reference` is slow and knows no chunks; where it and the decoder differ on any cut of any stream, one of them is wrong.
httpx-sse is what others use. It differs from the specification in the ways of `Quirk`, each decided by a clause. The
reference can be given those ways, and must then agree with httpx-sse on every stream: a difference that no clause
explains fails.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import suppress
from enum import Enum
from itertools import combinations, pairwise, product

import httpx
import httpx_sse
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from systemprompt_cloud.errors import TooLarge
from systemprompt_cloud.io.sse.decoder import EventDecoder, ServerSentEvent

from tests.support.length import by_length


class Quirk(Enum):
    """Where httpx-sse leaves the specification (WHATWG HTML), and the clause that decides."""

    KEEPS_THE_BOM = '9.2.5: "UTF-8 decode" strips one leading BOM'
    DISPATCHES_WITHOUT_DATA = '9.2.6, dispatch, step 2: "If the data buffer is an empty string […] return"'
    TAKES_ANY_INTEGER = '9.2.6, "retry": only if "the field value consists of only ASCII digits"'


def utf8_decode(stream: bytes) -> str:
    """The UTF-8 decoder of the Encoding Standard, section 8.1.1, in replacement mode."""
    text: list[str] = []
    point = needed = seen = 0
    lower, upper = 0x80, 0xBF
    position = 0
    while position < len(stream):
        byte = stream[position]
        position += 1
        if needed == 0:
            if byte <= 0x7F:
                text.append(chr(byte))
            elif 0xC2 <= byte <= 0xDF:
                needed, point = 1, byte & 0x1F
            elif 0xE0 <= byte <= 0xEF:
                lower = 0xA0 if byte == 0xE0 else lower
                upper = 0x9F if byte == 0xED else upper
                needed, point = 2, byte & 0xF
            elif 0xF0 <= byte <= 0xF4:
                lower = 0x90 if byte == 0xF0 else lower
                upper = 0x8F if byte == 0xF4 else upper
                needed, point = 3, byte & 0x7
            else:
                text.append("\ufffd")
        elif not lower <= byte <= upper:
            point = needed = seen = 0
            lower, upper = 0x80, 0xBF
            position -= 1
            text.append("\ufffd")
        else:
            lower, upper = 0x80, 0xBF
            point, seen = point << 6 | byte & 0x3F, seen + 1
            if seen == needed:
                text.append(chr(point))
                point = needed = seen = 0
    return "".join(text) + ("\ufffd" if needed else "")


class Reference:
    """HTML 9.2.6 over the whole stream at once.

    Attributes:
        events: Type, data and id of each, and the last `retry` since the one before.
        last_event_id: That of the event source, at the end.
        retry: The reconnection time, at the end.
    """

    def __init__(self, stream: bytes, quirks: Collection[Quirk] = ()) -> None:
        self.events: list[tuple[str, str, str, int | None]] = []
        self.last_event_id = ""
        self.retry: int | None = None
        self._quirks = quirks
        self._data, self._type, self._id = "", "", ""
        self._latest_retry: int | None = None
        text = utf8_decode(stream)
        if text[:1] == "\ufeff" and Quirk.KEEPS_THE_BOM not in quirks:
            text = text[1:]
        line, position = "", 0
        while position < len(text):
            character = text[position]
            position += 1
            if character not in "\r\n":
                line += character
                continue
            if character == "\r" and text[position : position + 1] == "\n":
                position += 1
            self._process_line(line)
            line = ""
        # "Once the end of the file is reached, any pending data must be discarded."

    def _process_line(self, line: str) -> None:
        if line == "":
            self._dispatch()
        elif line[0] == ":":
            pass
        elif ":" in line:
            field, value = line[: line.index(":")], line[line.index(":") + 1 :]
            self._process_field(field, value[1:] if value[:1] == " " else value)
        else:
            self._process_field(line, "")

    def _process_field(self, field: str, value: str) -> None:
        if field == "event":
            self._type = value
        elif field == "data":
            self._data += value + "\n"
        elif field == "id":
            if "\0" not in value:
                self._id = value
        elif field == "retry":
            if Quirk.TAKES_ANY_INTEGER in self._quirks:
                with suppress(ValueError):
                    self.retry = self._latest_retry = int(value)
            elif value and all(character in "0123456789" for character in value):
                self.retry = self._latest_retry = int(value)

    def _dispatch(self) -> None:
        self.last_event_id = self._id
        nothing = self._data == ""
        if nothing and Quirk.DISPATCHES_WITHOUT_DATA in self._quirks:
            nothing = not (self._type or self._id or self._latest_retry is not None)
        if nothing:
            self._type = ""
            return
        self.events.append((self._type or "message", self._data[:-1], self._id, self._latest_retry))
        self._data, self._type, self._latest_retry = "", "", None


def check(stream: bytes, cuts: Collection[int]) -> None:
    """The decoder, fed with the stream cut at these places, and the reference agree."""
    reference, decoder = Reference(stream), EventDecoder()
    points = sorted({0, len(stream), *cuts})
    found = [event for a, b in pairwise(points) for event in decoder.feed(stream[a:b])]
    assert [(event.event, event.data, event.id) for event in found] == [each[:3] for each in reference.events]
    assert decoder.last_event_id == reference.last_event_id
    assert decoder.retry_ms == reference.retry


FIELDS = [b"data", b"data:", b"data: ", b"event", b"event:", b"event: ", b"id", b"id:", b"id: ", b"retry", b"retry: "]
ENDS = [b"\n", b"\n", b"\n\n", b"\r", b"\r\n", b"\r\n\r\n"]
TEXT = [b":", b" ", b"x", b"7", b"+5", b"\0", b"Data: x", b"\x0b", b"\x0c", b"\x85", "\u2028".encode(), "٣".encode()]
UTF8 = [
    b"\xef\xbb\xbf",
    b"\xc3\xa9",
    b"\xc3",
    b"\xe2\x82\xac",
    b"\xe2\x82",
    b"\xf0\x9f\x98\x80",
    b"\xed\xa0\x80",
    b"\xff",
]
WHOLE = [
    b"id: 1\ndata: a\n\n",
    b"event: e\nid: 2\ndata: b\n\n",
    b"id: 3\nevent: f\ndata:c\n\n",
    b"id:4\nevent:g\ndata:d\ndata:d\n\n",
    b"data: e\ndata: e\n\n",
]
PIECES = st.sampled_from([*FIELDS, *ENDS, *TEXT, *UTF8, *WHOLE])
LONG = st.lists(PIECES, max_size=40).map(b"".join) | st.binary(max_size=60)
SHORT = st.lists(PIECES, max_size=5).map(lambda pieces: b"".join(pieces)[:10])
CUTS = st.lists(st.integers(0, 400), max_size=12)


def places(stream: bytes, cuts: list[int]) -> list[int]:
    return [cut % (len(stream) + 1) for cut in cuts]


@settings(max_examples=by_length(400, 10000))
@given(LONG, CUTS)
@example(b"event: x\nevent:\ndata: a\n\n", [])
@example(b"data: a\r\n\r\ndata: b\r\n\r\n", list(range(30)))
def test_any_cut_of_any_stream_gives_what_the_specification_says(stream: bytes, cuts: list[int]) -> None:
    """Chunk borders do not exist: on long streams, at random."""
    check(stream, places(stream, cuts))


@settings(max_examples=30)
@given(SHORT)
@example(b"data:\xe2\x82\xac\n\n")
@example(b"\xef\xbb\xbfdata\r\n\r")
def test_every_split_of_a_short_stream(stream: bytes) -> None:
    """Exhaustively: all the ways a stream of up to ten bytes can come in chunks."""
    inner = range(1, len(stream))
    for count in range(len(stream)):
        for cuts in combinations(inner, count):
            check(stream, cuts)


def test_every_short_stream() -> None:
    """Exhaustively: every stream of up to four of these pieces, before an event that shows what they left behind."""
    pieces = [b"data", b"id", b":", b" ", b"x", b"\0", b"\n", b"\r", b"\xef\xbb\xbf", b"\xc3"]
    for count in range(5):
        for chosen in product(pieces, repeat=count):
            stream = b"".join(chosen)
            check(stream + b"\n\ndata: z\n\n", [len(stream)])


@given(LONG)
def test_every_split_in_two_and_byte_by_byte(stream: bytes) -> None:
    """Each of the places a long stream can be cut in two, and every byte alone."""
    for cut in range(len(stream) + 1):
        check(stream, [cut])
    check(stream, range(len(stream)))


@given(st.binary(max_size=12) | st.lists(st.sampled_from(UTF8), max_size=6).map(b"".join))
def test_text_is_decoded_as_the_encoding_standard_says(text: bytes) -> None:
    """As many U+FFFD as the Encoding Standard asks for, for any bytes."""
    line = text.replace(b"\r", b"").replace(b"\n", b"")
    (event,) = EventDecoder().feed(b"data:x" + line + b"\n\n")
    assert event.data == "x" + utf8_decode(line)


@given(LONG, CUTS, st.integers(1, 12), st.integers(0, 12))
def test_bounds_do_not_depend_on_the_cut(stream: bytes, cuts: list[int], max_line: int, max_event: int) -> None:
    """However a stream is cut, the same events come before the same refusal."""

    def run(points: list[int]) -> tuple[list[ServerSentEvent], bool]:
        decoder, found = EventDecoder(max_line=max_line, max_event=max_event), list[ServerSentEvent]()
        try:
            for a, b in pairwise(points):
                found += decoder.feed(stream[a:b])
            decoder.feed(b"")
        except TooLarge:
            return found, True
        return found, False

    assert run([0, len(stream)]) == run(sorted({0, len(stream), *places(stream, cuts)}))


# --- httpx-sse -----------------------------------------------------------------------------------------


def ask_httpx_sse(stream: bytes, cuts: Collection[int] = ()) -> list[tuple[str, str, str, int | None]]:
    """What httpx-sse makes of a stream that comes in these chunks."""

    def chunks() -> Iterator[bytes]:
        for a, b in pairwise(sorted({0, len(stream), *cuts})):
            yield stream[a:b]

    response = httpx.Response(200, headers={"Content-Type": "text/event-stream"}, content=chunks())
    found = httpx_sse.EventSource(response).iter_sse()
    return [(event.event, event.data, event.id, event.retry) for event in found]


@settings(max_examples=by_length(300, 10000))
@given(LONG, CUTS)
@example(b"retry: +5\n\n", [])
def test_every_difference_from_httpx_sse_is_explained(stream: bytes, cuts: list[int]) -> None:
    """With its three ways, the reference does what httpx-sse does; without them, what the decoder does."""
    assert ask_httpx_sse(stream, places(stream, cuts)) == Reference(stream, list(Quirk)).events
    check(stream, places(stream, cuts))


WITNESSES = {
    Quirk.KEEPS_THE_BOM: b"\xef\xbb\xbfdata: a\n\n",
    Quirk.DISPATCHES_WITHOUT_DATA: b"id: 1\n\n",
    Quirk.TAKES_ANY_INTEGER: b"retry: +1_0\ndata: a\n\n",
}


@pytest.mark.parametrize("quirk", Quirk, ids=lambda quirk: quirk.name)
def test_every_explanation_is_needed(quirk: Quirk) -> None:
    """Each way of httpx-sse shows on a stream of its own; one it has given up has to leave the table."""
    stream = WITNESSES[quirk]
    assert ask_httpx_sse(stream) == Reference(stream, [quirk]).events != Reference(stream).events
    check(stream, [])
