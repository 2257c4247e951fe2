"""What is too large is refused by name before anything is written."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, closing
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from systemprompt_cloud.engine.engine import Engine, open_engine
from systemprompt_cloud.engine.errors import NotStorable
from systemprompt_cloud.engine.history import MESSAGE_CHARACTERS
from systemprompt_cloud.engine.machine.machine import Machine
from systemprompt_cloud.engine.machine.parts import ANY, STAY, CancelRequested, Context, Event, State, Verdict, on
from systemprompt_cloud.engine.sizes import SECRET_BYTES, STORED_BYTES, check_secret
from systemprompt_cloud.engine.visit import Activity, Program, Visit, await_signal
from systemprompt_cloud.io.local.paths import CloudPaths
from systemprompt_cloud.testing.clock import VirtualClock
from trio.testing import MockClock

from tests.support.rehearsal import wait_parked


class Page(Context, frozen=True, kw_only=True):
    """What is written down."""

    title: str = ""
    text: str = ""


class Wrote(Event, frozen=True):
    """More of it."""

    text: str = ""


class Noted(Event, frozen=True):
    """Changes nothing."""

    text: str = ""


class Done(Event, frozen=True):
    """The end."""


def _write(page: Page, event: Wrote) -> Page:
    return msgspec.structs.replace(page, text=page.text + event.text)


BOOK: Machine[Page] = Machine(
    "book",
    version=1,
    initial="writing",
    context=Page,
    states=[
        State("writing", "being written"),
        State("written", "done", verdict=Verdict.SUCCESS),
        State("cancelled", "cancelled", verdict=Verdict.CANCELLED),
    ],
    rows=[
        on(Wrote, "writing", STAY, update=_write),
        on(Noted, "writing", STAY),
        on(Done, "writing", "written"),
        on(CancelRequested, ANY, "cancelled"),
    ],
)
CONTEXT_OVERHEAD = len(BOOK.encode_context(Page())[0])
EVENT_OVERHEAD = len(BOOK.encode_event(Noted())[0])


def opened(paths: CloudPaths, activity: Activity = await_signal) -> AbstractAsyncContextManager[Engine]:
    """An engine for books."""
    return open_engine(paths, [Program(BOOK, {"writing": [activity]})], clock=VirtualClock(), inline=True)


@given(st.integers(-3, 3))
def test_a_context_has_a_limit(more: int) -> None:
    """In bytes of JSON, to the byte; the largest field is named, with its share."""
    page = Page(title="short", text="x" * (STORED_BYTES - CONTEXT_OVERHEAD - len("short") + more))
    if more <= 0:
        assert len(BOOK.encode_context(page)[0]) == STORED_BYTES + more
        return
    with pytest.raises(NotStorable, match=rf"Page\.text: [\d,]+ of the {STORED_BYTES + more:,} bytes") as caught:
        BOOK.encode_context(page)
    assert caught.value.field == "Page.text"
    assert "x" * 100 not in str(caught.value)


def test_bytes_count_and_not_characters() -> None:
    """What a file holds are bytes."""
    with pytest.raises(NotStorable):
        BOOK.encode_context(Page(text="é" * (STORED_BYTES // 2)))


async def test_nothing_is_started_that_is_too_large(paths: CloudPaths, autojump_clock: MockClock) -> None:
    """Neither the flow nor a secret of it is left; not with a key either."""
    good: Mapping[str, str] = {"token": "t" * 100}
    async with opened(paths) as engine:
        for key in (None, "k"):
            with pytest.raises(NotStorable, match=r"Page\.text"):
                await engine.start(BOOK, Page(text="x" * STORED_BYTES), key=key, secrets=good)
            with pytest.raises(NotStorable, match="the secret certificate: 65,547 bytes") as caught:
                await engine.start(BOOK, Page(), key=key, secrets={**good, "certificate": "x" * SECRET_BYTES})
            assert caught.value.field == "certificate"
        assert engine.journal.flows() == []
        assert not paths.vault.exists()


@pytest.mark.parametrize("elsewhere", [False, True])
async def test_an_event_that_is_too_large_changes_nothing(
    paths: CloudPaths, autojump_clock: MockClock, elsewhere: bool
) -> None:
    """Sent by the process that drives the flow or by another; nor does one that makes the context too large."""
    async with opened(paths) as engine, opened(paths) as other:
        flow = await engine.start(BOOK, Page(text="x" * (STORED_BYTES // 2)))
        sender = other if elsewhere else engine
        with pytest.raises(NotStorable, match=r"Noted\.text"):
            await sender.send(flow.id, Noted("x" * (STORED_BYTES - EVENT_OVERHEAD + 1)))
        assert engine.journal.signals(flow.id) == []
        growing = Wrote("x" * (STORED_BYTES // 2))
        if elsewhere:  # only the flow's table knows what becomes of its context: it is refused in the history
            await sender.send(flow.id, growing)
        else:
            with pytest.raises(NotStorable, match=r"Page\.text"):
                await sender.send(flow.id, growing)
        await sender.send(flow.id, Done())
        assert (await flow.wait()).succeeded
        kinds = ["started", *(["refused"] if elsewhere else []), "event"]
        assert [change.kind for change in flow.history] == kinds


@pytest.mark.parametrize(
    ("yields", "message"),
    [(Noted("x" * STORED_BYTES), "Noted.text: "), (Wrote("x" * (STORED_BYTES - 40)), "Page.text: ")],
    ids=["the event", "the context"],
)
async def test_an_activity_that_says_too_much_pauses_its_flow(
    paths: CloudPaths, autojump_clock: MockClock, yields: Event, message: str
) -> None:
    """With the field's name, and without the text."""

    async def say(_visit: Visit[Page]) -> Event:
        return yields

    async with opened(paths, say) as engine:
        error = await wait_parked(await engine.start(BOOK, Page(title="a title of many words, for the overhead")))
        assert error.kind == "NotStorable"
        assert error.user_message.startswith(message)
        assert engine.journal.path.stat().st_size < STORED_BYTES


async def test_a_secret_that_is_too_large_is_not_kept(paths: CloudPaths, autojump_clock: MockClock) -> None:
    """The flow is paused, and what it had kept before is still there."""

    async def keep(visit: Visit[Page]) -> None:
        await visit.keep("small", "s" * 20)
        await visit.keep("large", "x" * (SECRET_BYTES - len("large") + 1))

    async with opened(paths, keep) as engine:
        flow = await engine.start(BOOK, Page())
        error = await wait_parked(flow)
        assert (error.kind, "the secret large" in error.user_message) == ("NotStorable", True)
        assert engine.vault.has(flow.id, "vault:small")
        assert not engine.vault.has(flow.id, "vault:large")


def test_the_limit_of_a_secret_counts_its_name_and_bytes() -> None:
    """Also of text that is no UTF-8; a long name is not quoted whole."""
    check_secret("n" * 100, "x" * (SECRET_BYTES - 100))
    for secret in ("é" * (SECRET_BYTES // 2), "\ud800" * (SECRET_BYTES // 3)):
        with pytest.raises(NotStorable):
            check_secret("n" * 100, secret)
    with pytest.raises(NotStorable) as caught:
        check_secret("n" * SECRET_BYTES, "x")
    assert len(str(caught.value)) < 300


async def test_what_was_written_before_there_were_limits_goes_on(paths: CloudPaths, autojump_clock: MockClock) -> None:
    """Only what is written is measured: a large flow of an earlier version is read, resumed and ended."""
    async with opened(paths) as engine:
        flow = await engine.start(BOOK, Page())
    large = msgspec.json.encode({"text": "x" * (2 * STORED_BYTES)}).decode()
    with closing(sqlite3.connect(paths.journal)) as connection, connection:
        connection.execute("UPDATE flows SET context = ?", (large,))
        connection.execute("UPDATE events SET body = ? WHERE kind = 'started'", (large,))
    async with opened(paths) as engine:
        flow = await engine.resume(flow.id)
        assert await flow.send(Noted("read"))
        with pytest.raises(NotStorable):
            await flow.send(Wrote("more"))
        assert await flow.send(Done())
        assert (await flow.wait()).succeeded


async def test_the_beginning_of_a_long_message_is_kept(paths: CloudPaths, autojump_clock: MockClock) -> None:
    """An exception may quote a whole response."""

    async def fail(_visit: Visit[Any]) -> None:
        raise LookupError("x" * STORED_BYTES)

    async with opened(paths, fail) as engine:
        error = await wait_parked(await engine.start(BOOK, Page()))
        assert error.user_message.startswith("LookupError: xxx")
        assert error.user_message.endswith("...")
        assert len(error.user_message) == MESSAGE_CHARACTERS
