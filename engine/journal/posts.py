"""Tells the listeners of this process what it has written to a journal, and that an event was left in an inbox."""

from __future__ import annotations

import threading
from typing import Final, Protocol
from weakref import WeakSet

from .file import FileId


class Listener(Protocol):
    """What is told; held weakly."""

    def tell(self, *, posted: bool) -> None:
        """Something was written; `posted` when it left events in an inbox. Called from any thread, after the commit."""
        ...


_lock: Final = threading.Lock()
_listeners: Final[dict[FileId, WeakSet[Listener]]] = {}


def listen(file: FileId, listener: Listener) -> None:
    """Tell a listener of every commit of this process to a journal, for as long as it lives."""
    with _lock:
        for known, listeners in list(_listeners.items()):
            if not listeners:
                del _listeners[known]
        _listeners.setdefault(file, WeakSet()).add(listener)


def tell(file: FileId, *, posted: bool) -> None:
    """Something was written to a journal."""
    if file not in _listeners:
        return
    with _lock:
        listeners = list(_listeners.get(file, ()))
    for listener in listeners:
        listener.tell(posted=posted)
