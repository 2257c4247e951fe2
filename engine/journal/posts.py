"""Tells whoever listens in this process that an event was left in an inbox of a journal."""

from __future__ import annotations

import threading
from typing import Final, Protocol
from weakref import WeakSet

from .file import FileId


class Listener(Protocol):
    """What is told; held weakly."""

    def tell(self) -> None:
        """An event was left in the inbox. Called from any thread, after the commit."""
        ...


_lock: Final = threading.Lock()
_listeners: Final[dict[FileId, WeakSet[Listener]]] = {}


def listen(file: FileId, listener: Listener) -> None:
    """Tell a listener of every event that this process leaves in the inbox of a journal, for as long as it lives."""
    with _lock:
        for known, listeners in list(_listeners.items()):
            if not listeners:
                del _listeners[known]
        _listeners.setdefault(file, WeakSet()).add(listener)


def tell(file: FileId) -> None:
    """An event was left in the inbox of a journal."""
    with _lock:
        listeners = list(_listeners.get(file, ()))
    for listener in listeners:
        listener.tell()
