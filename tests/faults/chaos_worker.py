"""The worker processes of `chaos.py`: machines that leave traces, and a loop that starts, resumes and signals flows.

An activity names its process in the events it sends, and holds a lock of its own on its flow while it runs. So there
are two independent ways to see whether two processes drove the same flow: the journal and the locks. A worker writes
each acknowledgement it gets (a start, a delivered event) to `acks`, in one write that a SIGKILL cannot cut, and each
broken promise it sees to `problems`.
"""

from __future__ import annotations

import fcntl
import math
import os
import random
import time
import traceback
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
import trio
from systemprompt_cloud.base.errors import CloudError
from systemprompt_cloud.engine.engine import Engine, open_engine
from systemprompt_cloud.engine.errors import EventNotAccepted, FlowBusy
from systemprompt_cloud.engine.journal.records import UNFINISHED
from systemprompt_cloud.engine.machine.machine import Machine
from systemprompt_cloud.engine.machine.parts import (
    ANY,
    STAY,
    CancelRequested,
    Context,
    DeadlinePassed,
    Event,
    ResumePolicy,
    State,
    Verdict,
    on,
)
from systemprompt_cloud.engine.visit import Program, Visit, await_signal
from systemprompt_cloud.io.local.paths import CloudPaths

SLOWEST: Final = 0.05
"""Seconds after which an impatient caller gives up, at most."""
STUMBLES: Final = 0.1
"""How often an activity fails, so that its flow is paused."""
KEYS: Final = 4
"""Few keys, so that processes compete for them."""
MOST_UNFINISHED: Final = 40
REST_SECONDS: Final = 0.03
WAKING: Final = 0.6
"""How many of the engines wake flows that rest."""


class Errand(Context, frozen=True, kw_only=True):
    """How many items are left, and how many `Poked` events were delivered."""

    left: int = 4
    pokes: int = 0


class Packed(Event, frozen=True):
    """A visit's work is done; `driver` names the process that did it."""

    driver: str


class Poked(Event, frozen=True):
    """An event from outside; its nonce is unique."""

    nonce: str


class Nudged(Event, frozen=True):
    """An event that is taken in one state only; its nonce is unique."""

    nonce: str


class Stumbled(CloudError, hint="Resume the flow."):
    """An activity failed."""


class Arrived(Event, frozen=True):
    """The child flow ended."""

    state: str


def more_is_left(context: Errand, _: Packed) -> bool:
    """Whether another item is left after this one."""
    return context.left > 1


def _packed(context: Errand, _: Packed) -> Errand:
    return msgspec.structs.replace(context, left=context.left - 1)


def _poked(context: Errand, _: Poked) -> Errand:
    return msgspec.structs.replace(context, pokes=context.pokes + 1)


ERRAND: Final = Machine(
    "errand",
    version=1,
    initial="packing",
    context=Errand,
    states=[
        State("packing", "packing one thing", effect="packs a thing", resume=ResumePolicy.RETRY),
        State("resting", "resting before the next", timeout=REST_SECONDS, late="continue"),
        State("done", "everything is packed", verdict=Verdict.SUCCESS),
        State("cancelled", "cancelled", verdict=Verdict.CANCELLED),
    ],
    rows=[
        on(Packed, "packing", "resting", when=more_is_left, update=_packed),
        on(Packed, "packing", "done", update=_packed),
        on(DeadlinePassed, "resting", "packing"),
        on(Poked, ANY, STAY, update=_poked),
        on(Nudged, "resting", STAY),
        on(CancelRequested, ANY, "cancelled"),
    ],
)

VIGIL: Final = Machine(
    "vigil",
    version=1,
    initial="packing",
    context=Errand,
    states=[
        State("packing", "packing one thing", effect="packs a thing", resume=ResumePolicy.RETRY),
        State("at_rest", "waiting without a process", timeout=2 * REST_SECONDS, late="continue"),
        State("done", "everything is packed", verdict=Verdict.SUCCESS),
        State("cancelled", "cancelled", verdict=Verdict.CANCELLED),
    ],
    rows=[
        on(Packed, "packing", "at_rest", when=more_is_left, update=_packed),
        on(Packed, "packing", "done", update=_packed),
        on(DeadlinePassed, "at_rest", "packing"),
        on(Poked, ANY, STAY, update=_poked),
        on(Nudged, "at_rest", "packing"),
        on(CancelRequested, ANY, "cancelled"),
    ],
)

CONVOY: Final = Machine(
    "convoy",
    version=1,
    initial="sending",
    context=Context,
    states=[
        State("sending", "an errand runs", child="errand"),
        State("done", "the errand has ended", verdict=Verdict.SUCCESS),
        State("cancelled", "cancelled", verdict=Verdict.CANCELLED),
    ],
    rows=[on(Arrived, "sending", "done"), on(CancelRequested, ANY, "cancelled")],
)


class Ack(msgspec.Struct, frozen=True):
    """The result of one action of a worker.

    Attributes:
        what: A flow was `started`, `resumed` or `cancelled`; an event was `taken` by a flow, or `posted` to its inbox;
            it was `refused`; a flow was `busy`, driven by another process.
        flow: The flow's id.
        nonce: The nonce of the event; empty for other actions.
    """

    what: Literal["started", "taken", "posted", "refused", "cancelled", "busy", "resumed"]
    flow: str
    nonce: str = ""


class Place:
    """The files of one run.

    Args:
        directory: Where they are.
    """

    def __init__(self, directory: Path) -> None:
        home = directory / ".systemprompt"
        self.directory = directory
        self.paths = CloudPaths(directory=home, state_directory=home, origin="explicit")

    def note(self, file: Literal["acks", "problems", "effects"], text: str) -> None:
        """Add a line, in one write."""
        fd = os.open(self.directory / file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(fd, text.replace("\n", "\\n").encode() + b"\n")
        finally:
            os.close(fd)

    def lines(self, file: Literal["acks", "problems", "effects"]) -> list[str]:
        """What was noted."""
        path = self.directory / file
        return path.read_text().splitlines() if path.exists() else []

    @contextmanager
    def alone_on(self, flow: str, driver: str) -> Generator[None, None, None]:
        """Lock a flow while one of its activities runs; notes a problem if another process holds the lock."""
        (self.directory / "held").mkdir(exist_ok=True)
        fd = os.open(self.directory / "held" / flow, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.note("problems", f"{driver} runs flow {flow}, and so does another process")
            yield
        finally:
            os.close(fd)


def programs(place: Place, driver: str, *, stumbles: float = 0.0) -> list[Program[Any]]:
    """The machines with their activities.

    Args:
        place: Where the traces are written.
        driver: A name for the engine that runs them, unique in the run.
        stumbles: How often an activity fails.
    """

    async def pack(visit: Visit[Errand]) -> Packed:
        with place.alone_on(visit.flow, driver):
            await visit.keep("label", f"{visit.flow}-{visit.incarnation}")
            if random.random() < stumbles:  # noqa: S311 no secret
                raise Stumbled("it was dropped")
            intent = await visit.announce("pack")
            place.note("effects", f"{intent.key} {'again' if intent.uncertain else 'first'}")
            await trio.sleep(random.uniform(0, 0.02))  # noqa: S311 no secret
            return Packed(driver)

    async def rest(visit: Visit[Errand]) -> None:
        with place.alone_on(visit.flow, driver):
            await trio.sleep_forever()

    errand = Program(ERRAND, {"packing": [pack], "resting": [rest]})

    async def send_errand(visit: Visit[Context]) -> Arrived:
        with place.alone_on(visit.flow, driver):
            return Arrived((await visit.run_child(errand, Errand(left=3))).state)

    vigil = Program(VIGIL, {"packing": [pack], "at_rest": [await_signal]})
    return [errand, vigil, Program(CONVOY, {"sending": [send_errand]})]


def work(directory: Path, seed: int, until: float) -> None:
    """Run one worker: open an engine, do random actions, close it, and repeat.

    Args:
        directory: Where the files are.
        seed: Decides the actions.
        until: When to stop, in seconds since 1970.
    """
    place = Place(directory)
    random.seed(seed)
    try:
        trio.run(_work, place, seed, until)
    except BaseException:  # noqa: BLE001 the process ends here; the parent reads the reason
        place.note("problems", f"a worker failed: {traceback.format_exc()}")


async def _work(place: Place, seed: int, until: float) -> None:
    session = 0
    while time.time() < until:
        session += 1
        driver = f"{os.getpid()}-{seed}-{session}"
        leave = time.time() + random.uniform(0.2, 1.2)  # noqa: S311 no secret
        wake = random.random() < WAKING  # noqa: S311 no secret
        async with open_engine(place.paths, programs(place, driver, stumbles=STUMBLES), wake=wake) as engine:
            while time.time() < min(until, leave):
                async with trio.open_nursery() as nursery:
                    for _ in range(random.choice((1, 1, 2, 3))):  # noqa: S311 no secret
                        nursery.start_soon(_act_impatiently, place, engine)
                await trio.sleep(random.uniform(0, 0.03))  # noqa: S311 no secret


async def _act_impatiently(place: Place, engine: Engine) -> None:
    impatient = random.random() < 0.2  # noqa: S311 no secret
    with trio.move_on_after(random.uniform(0, SLOWEST) if impatient else math.inf):  # noqa: S311 no secret
        await _act(place, engine)


async def _act(place: Place, engine: Engine) -> None:
    rows = engine.journal.flows(statuses=UNFINISHED, limit=MOST_UNFINISHED)
    what = random.choice(("start", "start", "resume", "resume", "resume", "cancel", "poke", "poke", "nudge"))  # noqa: S311 no secret
    if not rows or (what == "start" and len(rows) == MOST_UNFINISHED):
        what = "resume" if rows else "start"
    flow = random.choice(rows).id if rows else ""  # noqa: S311 no secret
    nonce = os.urandom(8).hex() if what in {"poke", "nudge"} else ""
    ack: Ack | None = None
    try:
        match what:
            case "start":
                key = random.choice((None, f"key-{random.randrange(KEYS)}"))  # noqa: S311 no secret
                machine: Machine[Any] = random.choice((ERRAND, ERRAND, VIGIL, CONVOY))  # noqa: S311 no secret
                context = Context() if machine is CONVOY else Errand()
                secrets = random.choice(({}, {"given": "a secret"}))  # noqa: S311 no secret
                ack = Ack("started", (await engine.start(machine, context, key=key, secrets=secrets)).id)
            case "resume":
                ack = Ack("resumed", (await engine.resume(flow)).id)
            case "cancel":
                ack = Ack("cancelled" if await engine.cancel(flow, "chaos") else "posted", flow)
            case _:
                event = Poked(nonce) if what == "poke" else Nudged(nonce)
                ack = Ack("taken" if await engine.send(flow, event) else "posted", flow, nonce)
    except FlowBusy as busy:
        ack = Ack("busy", busy.flow)
    except EventNotAccepted:  # it has ended meanwhile, or has no row for the event
        ack = Ack("refused", flow, nonce)
    except CloudError as exc:
        place.note("problems", f"{what} {flow}: {exc.kind}: {exc.user_message}")
    if ack is not None:
        place.note("acks", msgspec.json.encode(ack).decode())
