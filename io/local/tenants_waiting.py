"""Tenants on their way to `tenants.json`: those that wait for the file are written together.

The file is written whole, a third of a second with 10,000 tenants in it. So a tenant is put down as waiting first, and
whoever gets to write then writes all that wait.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final
from weakref import WeakValueDictionary

from .tenants import StoredTenant, TenantStore


class _Place:
    """One file, and the tenants that wait for it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.writing = threading.Lock()
        self.waiting: list[_Waiting] = []

    def write(self, own: _Waiting) -> None:
        with self.writing:
            if own.stored:
                return
            with _guard:
                batch, self.waiting = self.waiting, []
            try:
                with TenantStore.updating(self.path, own.now) as store:
                    store.upsert_tenants(each.tenant for each in batch)
            except BaseException:
                with _guard:  # the others find out for themselves what is wrong, unless they have left meanwhile
                    self.waiting = [each for each in batch if each is not own and not each.over] + self.waiting
                raise
            for each in batch:
                each.stored = True


class _Waiting:
    __slots__ = ("now", "over", "stored", "tenant")

    def __init__(self, tenant: StoredTenant, now: datetime) -> None:
        self.tenant = tenant
        self.now = now
        self.stored = False
        self.over = False


_guard: Final = threading.Lock()
_places: Final[WeakValueDictionary[Path, _Place]] = WeakValueDictionary()


@contextmanager
def waiting_to_be_stored(path: Path, tenant: StoredTenant, now: datetime) -> Generator[Callable[[], None]]:
    """Put a tenant down to be stored: `with waiting_to_be_stored(...) as store: await visit.on_disk(store)`.

    Args:
        path: `tenants.json`.
        tenant: What is stored, as `TenantStore.upsert_tenant` does.
        now: The moment, for a new file.

    Yields:
        What is called in a thread: it returns when the tenant is stored, by itself or by another that wrote before. It
        raises as `TenantStore.updating` does. A tenant that is not stored when the block ends waits no longer.
    """
    own = _Waiting(tenant, now)
    with _guard:
        place = _places.get(path)
        if place is None:
            place = _places[path] = _Place(path)
        place.waiting.append(own)
    try:
        yield lambda: place.write(own)
    finally:
        with _guard:
            own.over = True  # it may be in the batch of another, which puts back what it could not write
            if own in place.waiting:
                place.waiting.remove(own)


def store_tenant(path: Path, tenant: StoredTenant, now: datetime) -> None:
    """The same as one call, for a thread; arguments and errors are those of `waiting_to_be_stored`."""
    with waiting_to_be_stored(path, tenant, now) as store:
        store()
