"""The example of a certificate order: killed anywhere, it ends with the certificate, and one order was placed."""

from __future__ import annotations

import ast
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import aclosing, contextmanager
from functools import partial
from pathlib import Path
from subprocess import DEVNULL, PIPE

import msgspec
import pytest
import trio
from systemprompt_cloud.engine import EnginePaths, open_engine
from systemprompt_cloud.engine.fold import check_flow
from systemprompt_cloud.engine.journal.journal import Journal
from systemprompt_cloud.engine.machine.machine import Machine
from systemprompt_cloud.testing.checks import table_faults
from systemprompt_cloud.testing.clock import VirtualClock
from trio.testing import MockClock

import examples.authority
from examples import certificate
from examples.authority import Authority
from tests.faults.crash_probe import Point
from tests.faults.crash_stage import Zygote, open_zygote
from tests.faults.example_child import ExampleJob
from tests.support.length import by_length

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "certificate.py"
AUTHORITY = ROOT / "examples" / "authority.py"
DOMAIN = "example.org"
CHILD = "tests.faults.example_child"
EVENTS = {"certificate": ["Approved", "Placed", "Proven", "Issued"], "challenge": ["Proven"]}
LANES = 2
"""Orders at once."""

EVERY = by_length(10, 1)
"""One point in so many is tried, and not the same ones each time; `make test-long` tries all."""


@contextmanager
def serve(*, silent: bool = False) -> Generator[Authority]:
    """An authority in a thread of this process."""
    with Authority(silent=silent) as authority:
        thread = threading.Thread(target=partial(authority.serve_forever, 0.02))
        thread.start()
        try:
            yield authority
        finally:
            authority.shutdown()
            thread.join()


class Ordered(msgspec.Struct):
    """What became of an order: the exit codes of its processes, the points they met, and what is wrong."""

    codes: list[int]
    met: list[Point]
    problems: list[str]


class Orders:
    """Orders certificates, each in a directory of its own at an authority of its own."""

    def __init__(self, zygote: Zygote, directory: Path) -> None:
        self._zygote = zygote
        self._directory = directory
        self._runs = 0

    async def order(self, target: Point | None = None, *, silent: bool = False) -> Ordered:
        """Order one, with a process that is killed at a point, and one that is not; without a point, with that one."""
        self._runs += 1
        home, out = self._directory / f"{self._runs}" / "state", self._directory / f"{self._runs}" / "out"
        home.parent.mkdir(parents=True)
        out.touch()
        with serve(silent=silent) as authority:
            words = (str(EXAMPLE), str(home), "order", DOMAIN, authority.url)
            job = ExampleJob(words=words, home=str(home), out=str(out), trace=target is None)
            ordered = Ordered([], [], [])
            async with trio.open_nursery() as nursery:
                nursery.start_soon(approve_once, home, out)
                if target is not None:
                    await self._process(msgspec.structs.replace(job, target=target), ordered)
                if ordered.codes in ([], [-signal.SIGKILL]):
                    await self._process(job, ordered)
                nursery.cancel_scope.cancel()
            ordered.problems = [*wrong(authority), *wrong_in(home)]
            if ordered.codes[-1] != 0 or "-----END CERTIFICATE-----" not in out.read_text():
                ordered.problems.append(f"{ordered.codes}\n{out.read_text()}")
        return ordered

    async def _process(self, job: ExampleJob, ordered: Ordered) -> None:
        await self._zygote.begin(job)
        while (said := await self._zygote.receive()).exit is None:
            if said.met is not None:
                ordered.met.append(said.met)
        ordered.codes.append(said.exit)


async def approve_once(home: Path, out: Path) -> None:
    """A person: reads that the order waits for an approval, and gives it."""
    while True:
        if "awaiting_approval" in await trio.Path(out).read_text():
            break
        await trio.sleep(0.02)
    await certificate.main(str(home), "approve", DOMAIN, "ada")


def wrong(authority: Authority) -> list[str]:
    """What an order must not leave at the authority."""
    found = [f"{len(authority.asked)} orders were asked for"] if len(authority.asked) != 1 else []
    found += [f"{len(authority.orders)} orders were placed"] if len(authority.orders) != 1 else []
    return [*found, *(f"the DNS record {name} is left" for name in authority.records)]


def wrong_in(home: Path) -> list[str]:
    """What an order must not leave in its directory."""
    found: list[str] = []
    with Journal(home / "journal.sqlite3", create=False) as journal:
        rows = journal.flows(limit=100)
        states = Counter((row.machine, row.state) for row in rows)
        if states != {("certificate", "issued"): 1, ("challenge", "proven"): 1}:
            found.append(f"flows: {states}")
        for row in rows:
            found += check_flow(journal, certificate.PROGRAMS, row)
            found += [f"{row.machine} has an owner"] if row.owner is not None else []
            names = [record.name for record in journal.records(row.id) if record.kind == "event"]
            if names != EVENTS[row.machine]:
                found.append(f"events of {row.machine}: {names}")
        found += [f"{each.name} is still in the inbox" for each in journal.signals()]
    left = {str(path.relative_to(home)) for path in home.rglob("*")} - {".gitignore", "journal.sqlite3", "owners"}
    return [*found, *(f"{name} is left" for name in sorted(left))]


async def try_points(points: Sequence[Point], directory: Path) -> list[tuple[Point, Ordered]]:
    """One order for each point, several at a time."""
    tried: list[tuple[Point, Ordered]] = []

    async def lane(number: int) -> None:
        async with open_zygote(CHILD) as zygote:
            orders = Orders(zygote, directory / f"lane {number}")
            for point in points[number::LANES]:
                tried.append((point, await orders.order(point)))  # noqa: PERF401 others append to it, too

    async with trio.open_nursery() as nursery:
        for number in range(LANES):
            nursery.start_soon(lane, number)
    return tried


def run(*words: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the example to its end, in an interpreter of its own."""
    return subprocess.run([sys.executable, EXAMPLE, *words], capture_output=True, text=True, timeout=60, check=True)


def test_it_is_short_and_needs_one_installation() -> None:
    """At most 100 lines, and nothing but public names of the package, what it installs, and the standard library."""
    text = EXAMPLE.read_text()
    assert sum(1 for line in text.splitlines() if line.strip()) <= 100
    imported = {
        each.name if isinstance(node, ast.Import) else str(node.module)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for each in node.names
    }
    assert imported == {
        "sys",
        "pathlib",
        "httpx",
        "msgspec.structs",
        "trio",
        "systemprompt_cloud",
        "systemprompt_cloud.engine",
    }


@pytest.mark.parametrize("machine", [certificate.CERTIFICATE, certificate.CHALLENGE], ids=lambda machine: machine.name)
def test_its_tables_are_pure(machine: Machine[certificate.Order]) -> None:
    """Called twice with equal contexts and events, every update answers the same and changes nothing."""
    assert table_faults(machine) == []


def test_its_commands_work_as_it_shows_them(tmp_path: Path) -> None:
    """Killed while it waits for the approval, which is given before it is started again; then asked for once more."""
    home = tmp_path / "state"
    serving = subprocess.Popen([sys.executable, AUTHORITY, "0"], stdout=PIPE, stderr=DEVNULL, text=True)
    with serving:
        try:
            assert serving.stdout is not None
            order = [str(home), "order", DOMAIN, serving.stdout.readline().strip()]
            with subprocess.Popen([sys.executable, EXAMPLE, *order], stdout=PIPE, text=True) as first:
                assert first.stdout is not None
                assert first.stdout.readline() == "certificate started awaiting_approval \n"
                first.kill()
            run(str(home), "approve", DOMAIN, "ada")
            for _ in range(2):
                assert run(*order).stdout.endswith("for example.org\n-----END CERTIFICATE-----\n")
        finally:
            serving.kill()
    assert wrong_in(home) == []


async def test_an_approval_that_does_not_come_ends_the_order(tmp_path: Path, autojump_clock: MockClock) -> None:
    """After a week, and before anything was ordered."""
    paths, programs = EnginePaths.inside(tmp_path / "state"), certificate.PROGRAMS
    async with open_engine(paths, programs, clock=VirtualClock(), inline=True) as engine:
        order = certificate.Order(domain=DOMAIN, authority="http://127.0.0.1:9")
        flow = await engine.start(certificate.CERTIFICATE, order)
        assert (await flow.wait()).state == "expired"


@pytest.mark.parametrize("which", [certificate.CERTIFICATE, certificate.CHALLENGE], ids=lambda machine: machine.name)
async def test_cancelling_either_flow_cancels_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: Machine[certificate.Order]
) -> None:
    """While the authority does not see the record; nothing is issued."""
    monkeypatch.setattr(examples.authority, "SEEN_AFTER", 3600.0)
    paths, programs = EnginePaths.inside(tmp_path / "state"), certificate.PROGRAMS
    with serve() as authority:
        async with open_engine(paths, programs) as engine:
            order = certificate.Order(domain=DOMAIN, authority=authority.url)
            flow = await engine.start(certificate.CERTIFICATE, order)
            await flow.send(certificate.Approved(by="ada"))
            async with aclosing(flow.changes(children=True)) as changes:
                async for change in changes:
                    if change.machine == "challenge":
                        break
            (cancelled,) = await engine.flows(machine=which)
            await engine.cancel(cancelled.id)
            assert (await flow.wait()).state == "cancelled"
            assert {row.state for row in await engine.flows()} == {"cancelled"}


async def test_a_stream_without_news_makes_no_difference(tmp_path: Path) -> None:
    """The poller beside it finds the certificate."""
    async with open_zygote(CHILD) as zygote:
        ordered = await Orders(zygote, tmp_path).order(silent=True)
    assert (ordered.codes, ordered.problems) == ([0], [])


async def test_a_second_order_would_be_found() -> None:
    """The comparison can fail: of two orders under two keys, and of a record that stays."""
    with serve() as authority:
        for key in "ab":
            for status in (503, 201):
                assert authority.place(key, DOMAIN)[0] == status
        authority.records["_acme-challenge.example.org"] = ("", 0.0)
        assert len(wrong(authority)) == 3


async def test_killed_at_any_point_one_certificate_is_ordered(tmp_path: Path) -> None:
    """SIGKILL before, inside and after commits, requests, files and states: the same end, and nothing done twice."""
    async with open_zygote(CHILD) as zygote:
        undisturbed = await Orders(zygote, tmp_path / "undisturbed").order()
    assert undisturbed.codes == [0]
    assert undisturbed.problems == []
    points = sorted(set(undisturbed.met))
    offset = int(time.time()) % EVERY
    print(f"one point in {EVERY} of {len(points)}, from number {offset} on")  # noqa: T201 shown when it fails
    tried = await try_points(points[offset::EVERY], tmp_path)
    problems = [f"killed {point}: {problem}" for point, ordered in tried for problem in ordered.problems]
    assert not problems, "\n".join(problems)
    # Not every run has the same number of polls and inbox reads.
    missed = [str(point) for point, ordered in tried if ordered.codes[0] != -signal.SIGKILL]
    assert len(missed) <= len(tried) // 5, missed
