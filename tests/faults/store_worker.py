"""A process that reads and writes the stores shared with the Rust CLI, and fails if one of them lost an update.

    python -m tests.faults.store_worker DIRECTORY NAME OPERATIONS SEED

Many of these run on one directory, and any of them may be killed at any instruction and started again. A lost update
must be visible in the files alone, so every change of a store is two changes at once: the worker's own count and the
total go up by one. The total is always the sum (a torn or half-applied write breaks that), and a worker's own count is
always the last one it wrote (an update overwritten by another process's older copy breaks that). Each change also
toggles one of the worker's eight items, so a removed item that reappears is detected, too.

The credentials have no parts to add up. The last writer wins, so they may be any worker's; but if they are this
worker's, they must be its last.

A worker logs what it begins and finishes to `NAME.log` beside the directory, each line in one write that a SIGKILL
cannot cut.
"""

from __future__ import annotations

import os
import random
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
from systemprompt_cloud.errors import NotAuthenticated, TenantsNotSynced
from systemprompt_cloud.io.local.credentials import CloudCredentials
from systemprompt_cloud.io.local.session_store import SessionStore
from systemprompt_cloud.io.local.sessions import CliSession, SessionKey
from systemprompt_cloud.io.local.tenants import StoredTenant, TenantStore

ITEMS: Final = 8
PADDING: Final = "x" * 300
"""Makes the files longer than what a file system writes at once."""

Kind = Literal["credentials", "tenants", "sessions"]
KINDS: Final[tuple[Kind, ...]] = ("credentials", "tenants", "sessions")


class Place(msgspec.Struct, frozen=True):
    """Where the stores are, and the logs of the workers beside them."""

    directory: Path

    @property
    def credentials(self) -> Path:
        """The store that holds one login."""
        return self.directory / "credentials.json"

    @property
    def tenants(self) -> Path:
        """A store of many parts."""
        return self.directory / "tenants.json"

    @property
    def sessions(self) -> Path:
        """A store of many parts."""
        return self.directory / "sessions" / "index.json"

    def log(self, worker: str) -> Path:
        """The log of what a worker began and finished."""
        return self.directory.parent / f"{worker}.log"


class Known(msgspec.Struct):
    """A worker's own past, read from its log.

    Attributes:
        finished: How many reads and writes were finished.
        done: The last change of each store that was finished.
        begun: The last change of each store that was begun: it may or may not be in the file.
    """

    finished: int
    done: dict[str, int]
    begun: dict[str, int]


def remember(place: Place, worker: str) -> Known:
    """Read a worker's log."""
    known = Known(0, dict.fromkeys(KINDS, 0), dict.fromkeys(KINDS, 0))
    try:
        lines = place.log(worker).read_text().splitlines()
    except FileNotFoundError:
        return known
    for line in lines:
        what, kind, count = line.split()
        if what == "begin":
            known.begun[kind] = int(count)
            continue
        known.finished += 1
        if what == "done":
            known.done[kind] = int(count)
    return known


def items_after(count: int) -> set[int]:
    """Which of a worker's items exist after `count` changes: those that were toggled an odd number of times."""
    # Change n toggles item n % ITEMS, so item k is toggled by k, k + ITEMS ...; item 0 first by change ITEMS.
    return {item for item in range(ITEMS) if (count + ITEMS - 1 - (item - 1) % ITEMS) // ITEMS % 2}


def problems_in(counts: dict[str, int], total: int, items: dict[str, set[int]]) -> list[str]:
    """The inconsistencies within one reading of a store, a sentence each.

    Args:
        counts: The changes of each worker.
        total: The changes of all workers.
        items: The items of each worker.
    """
    found = [] if sum(counts.values()) == total else [f"the total is {total}, the workers counted {counts}"]
    return found + [
        f"{worker} has the items {items.get(worker, set())} after {count} changes"
        for worker, count in counts.items()
        if items.get(worker, set()) != items_after(count)
    ]


def numbers(entries: dict[str, str]) -> tuple[dict[str, int], int, dict[str, set[int]]]:
    """The counts, the total and the items, from a store's entries by id."""
    counts = {id_.removeprefix("count."): int(text) for id_, text in entries.items() if id_.startswith("count.")}
    items: dict[str, set[int]] = {}
    for id_ in entries:
        if id_.startswith("item."):
            _, worker, item = id_.split(".")
            items.setdefault(worker, set()).add(int(item))
    return counts, int(entries.get("total", 0)), items


class Worker:
    """One process's work.

    Args:
        place: The stores.
        name: The worker's name, without dots.
        rng: Decides what it does next.
    """

    def __init__(self, place: Place, name: str, rng: random.Random) -> None:
        self.place: Final = place
        self.name: Final = name
        self.rng: Final = rng
        self.known: Final = remember(place, name)
        self._log: Final = os.open(place.log(name), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def run(self, operations: int) -> None:
        """Read and write until `operations` are finished, those before a restart included."""
        while self.known.finished < operations:
            kind = self.rng.choice(KINDS)
            if self.rng.random() < 0.5:
                self.look(kind)
                self._note("look", kind, 0)
                self.known.finished += 1
            else:
                self.change(kind)

    def look(self, kind: Kind) -> None:
        """Read a store and check it. Raises `AssertionError` when an update was lost."""
        if kind == "credentials":
            self._own_credentials()
        elif kind == "tenants":
            try:
                self._compare(kind, tenant_entries(TenantStore.load_from_path(self.place.tenants)))
            except TenantsNotSynced:
                self._compare(kind, {})
        else:
            self._compare(kind, session_entries(SessionStore.load_or_create(self.place.sessions)))

    def change(self, kind: Kind) -> None:
        """Change a store; a change that was begun before a restart and is in the file counts as finished."""
        if kind == "credentials":
            self._change_credentials()
        elif kind == "tenants":
            with TenantStore.updating(self.place.tenants) as tenants:
                entries = tenant_entries(tenants)
                count = self._begin(kind, entries)
                tenants.upsert_tenant(tenant("total", int(entries.get("total", 0)) + 1))
                tenants.upsert_tenant(tenant(f"count.{self.name}", count))
                if not tenants.remove_tenant(self._item(count)):
                    tenants.upsert_tenant(tenant(self._item(count), count))
            self._finish(kind, count)
        else:
            with SessionStore.updating(self.place.sessions) as sessions:
                entries = session_entries(sessions)
                count = self._begin(kind, entries)
                sessions.upsert_session(SessionKey.tenant("total"), session(int(entries.get("total", 0)) + 1))
                sessions.upsert_session(SessionKey.tenant(f"count.{self.name}"), session(count))
                if not sessions.remove_session(SessionKey.tenant(self._item(count))):
                    sessions.upsert_session(SessionKey.tenant(self._item(count)), session(count))
            self._finish(kind, count)

    def _item(self, count: int) -> str:
        return f"item.{self.name}.{count % ITEMS}"

    def _compare(self, kind: Kind, entries: dict[str, str]) -> int:
        counts, total, items = numbers(entries)
        count = counts.get(self.name, 0)
        problems = problems_in(counts, total, items)
        if count not in (self.known.done[kind], self.known.begun[kind]):
            problems.append(f"{kind}: {self.name} finished {self.known.done[kind]} changes and finds {count}")
        if problems:
            raise AssertionError("; ".join(problems))
        # Now it is known whether the change that was begun is in the file.
        self.known.done[kind] = self.known.begun[kind] = count
        return count

    def _begin(self, kind: Kind, entries: dict[str, str]) -> int:
        count = self._compare(kind, entries) + 1
        self._note("begin", kind, count)
        self.known.begun[kind] = count
        return count

    def _finish(self, kind: Kind, count: int) -> None:
        self._note("done", kind, count)
        self.known.done[kind] = count
        self.known.finished += 1

    def _own_credentials(self) -> None:
        try:
            found = CloudCredentials.load_from_path(self.place.credentials)
        except NotAuthenticated:
            return
        worker, count = whose(found)
        if worker == self.name:
            last = {self.known.done["credentials"], self.known.begun["credentials"]}
            if count not in last or deletes(count):
                raise AssertionError(f"{self.name} saved or deleted {last} last and finds {count}")

    def _change_credentials(self) -> None:
        count = self.known.begun["credentials"] + 1
        self._note("begin", "credentials", count)
        self.known.begun["credentials"] = count
        if deletes(count):
            CloudCredentials.delete_from_path(self.place.credentials)
        else:
            login(self.name, count).save_to_path(self.place.credentials)
        self._finish("credentials", count)

    def _note(self, what: str, kind: Kind, count: int) -> None:
        os.write(self._log, f"{what} {kind} {count}\n".encode())


def deletes(count: int) -> bool:
    """Whether a worker's change of this number is a logout."""
    return count % 7 == 0


def login(worker: str, count: int) -> CloudCredentials:
    """A worker's login of this number."""
    return CloudCredentials(
        api_token=f"token-{worker}-{count}-{PADDING}",
        api_url="https://api.systemprompt.io",
        authenticated_at=datetime.now(UTC),
        user_email=f"{worker}.{count}@example.com",
    )


def whose(found: CloudCredentials) -> tuple[str, int]:
    """Which worker's login it is, and its number. Raises `AssertionError` when its parts are of different logins."""
    worker, count = found.user_email.removesuffix("@example.com").split(".")
    if found.api_token != f"token-{worker}-{count}-{PADDING}":
        raise AssertionError(f"the token is not that of {found.user_email}")
    return worker, int(count)


def tenant(id_: str, count: int) -> StoredTenant:
    """A number as a tenant."""
    return StoredTenant.new_local(id_, str(count), PADDING)


def session(count: int) -> CliSession:
    """A number as a session."""
    return CliSession.new("p", f"token-{PADDING}", "s", str(count))


def tenant_entries(store: TenantStore) -> dict[str, str]:
    """The numbers in the tenants, by id."""
    return {each.id: each.name for each in store.tenants}


def session_entries(store: SessionStore) -> dict[str, str]:
    """The numbers in the sessions, by id."""
    return {key.removeprefix("tenant_"): each.context_id for key, each in store.all_sessions()}


def main(arguments: list[str]) -> None:
    """Run the command."""
    directory, name, operations, seed = arguments
    os.umask(0)  # a file created without a mode is then visibly too open
    rng: Any = random.Random(seed)  # noqa: S311 - no secret
    Worker(Place(Path(directory)), name, rng).run(int(operations))


if __name__ == "__main__":
    main(sys.argv[1:])
