"""The log of this package, listened to as a program that embeds it would."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Generator

import loguru
from systemprompt_cloud.base.log import PACKAGE
from typing_extensions import override


class _Listener(logging.Handler):
    def __init__(self, level: int, shape: str) -> None:
        super().__init__(level)
        self.setFormatter(logging.Formatter(shape))
        self.lines: list[str] = []

    @override
    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@contextlib.contextmanager
def listening(level: int, shape: str = "%(message)s") -> Generator[list[str]]:
    """Every line of the package's log from this level on, with its traceback, while inside the `with`."""
    logger, listener = logging.getLogger(PACKAGE), _Listener(level, shape)
    before = logger.level
    logger.addHandler(listener)
    logger.setLevel(min(level, before or logging.WARNING))
    try:
        yield listener.lines
    finally:
        logger.setLevel(before)
        logger.removeHandler(listener)


@contextlib.contextmanager
def logging_restored() -> Generator[None]:
    """Leave the process's logging as it was found, whatever `configure_logging` does inside the `with`."""
    root, ours = logging.getLogger(), logging.getLogger(PACKAGE)
    handlers, level = list(root.handlers), ours.level
    try:
        yield
    finally:
        root.handlers[:] = handlers
        ours.setLevel(level)
        loguru.logger.remove()
        loguru.logger.add(sys.stderr)
