"""Ctrl-Z: the terminal is given back before the process stops, and taken again when it continues."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager


def stop_here() -> None:
    """Stop this process, as Ctrl-Z does; return when it is continued."""
    before = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
    signal.raise_signal(signal.SIGTSTP)
    signal.signal(signal.SIGTSTP, before)


def can_stop() -> bool:
    """Whether Ctrl-Z stops this process: not where it is ignored, nor on Windows."""
    return hasattr(signal, "SIGTSTP") and signal.getsignal(signal.SIGTSTP) not in {signal.SIG_IGN, None}


@contextmanager
def around_stop(give_back: Callable[[], None], take_again: Callable[[], None]) -> Generator[None]:
    """Call these when Ctrl-Z stops the process inside the block, and when it continues.

    Args:
        give_back: Puts the terminal back. Called from a signal handler, so it must not use Python's buffered streams.
        take_again: Undoes that; the same holds for it.
    """
    if threading.current_thread() is not threading.main_thread() or not can_stop():
        yield
        return

    def stop(*_: object) -> None:
        give_back()
        stop_here()
        take_again()

    before = signal.signal(signal.SIGTSTP, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTSTP, before)
