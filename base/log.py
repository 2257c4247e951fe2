"""The log of this package: loguru's, with every record redacted before any sink sees it.

`logger` is patched so that message, extra values and traceback are redacted, also for the sinks of a program that
embeds us. The traceback becomes text there and then: loguru's own diagnosis would print the variables of every frame,
tokens included.

A library logs nothing unasked: until `configure_logging`, or `loguru.logger.enable("systemprompt_cloud")` in a program
that embeds us and has sinks of its own, no record is made.
"""

from __future__ import annotations

import logging
import os
import stat
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Final

import loguru

from .errors import Io
from .redaction import redact

if TYPE_CHECKING:
    from loguru import Message, Record


_LEVELS: Final = frozenset({"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"})


def _redact_record(record: Record) -> None:
    """Redact a record in place, its exception rendered to text so that no sink can look into its frames."""
    text = record["message"]
    failure = record["exception"]
    if failure is not None and failure.value is not None:
        shown = traceback.format_exception(failure.type, failure.value, failure.traceback)
        text = f"{text}\n{''.join(shown).rstrip()}"
        record["exception"] = None
    record["message"] = redact(text)
    for name, value in record["extra"].items():
        if isinstance(value, str):
            record["extra"][name] = redact(value)


PACKAGE: Final = __name__.partition(".")[0]

loguru.logger.disable(PACKAGE)

logger: Final = loguru.logger.patch(_redact_record)
"""The logger of this package. Messages may quote what they like; see the module's docstring."""


class _LogFile:
    """A log file nobody else can read, appended to with one write per record so that two processes do not mix lines."""

    def __init__(self, path: Path) -> None:
        try:
            # Not O_NOFOLLOW: the person named this path, and /dev/stderr is a symbolic link.
            self._fd: Final = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            raise Io(f"cannot write the log file {path}: {exc.strerror}", hint="Choose another --log-file.") from exc
        try:
            found = os.fstat(self._fd)
            if stat.S_ISREG(found.st_mode) and stat.S_IMODE(found.st_mode) & 0o077:
                os.fchmod(self._fd, 0o600)
        except OSError as exc:
            os.close(self._fd)
            raise Io(
                f"the log file {path} is readable by others and cannot be made private: {exc.strerror}",
                hint="Choose another --log-file.",
            ) from exc

    def write(self, message: Message) -> None:
        """Append one formatted record."""
        left = memoryview(redact(message).encode("utf-8", "backslashreplace"))
        while left:
            left = left[os.write(self._fd, left) :]

    def stop(self) -> None:
        """Close the file; loguru calls this when the sink is removed."""
        os.close(self._fd)


class _StandardLogging(logging.Handler):
    """Carries what httpx and others say through the standard `logging` to the same sinks and redactor."""

    def emit(self, record: logging.LogRecord) -> None:
        level = record.levelname if record.levelname in _LEVELS else record.levelno
        logger.opt(exception=record.exc_info).log(level, "{}: {}", record.name, record.getMessage())


def _write_stderr(message: Message) -> None:
    sys.stderr.write(redact(message))


def configure_logging(verbosity: int, log_file: Path | None) -> None:
    """Send the log to stderr, and to a private file when one is named, replacing what was configured before.

    Args:
        verbosity: 0 shows warnings and errors on stderr, 1 also progress, 2 or more everything.
        log_file: Gets everything, whatever the verbosity; created with mode 0600 and appended to.

    Raises:
        Io: The log file cannot be opened or made private; name another. The configuration before the call stands.
    """
    file = None if log_file is None else _LogFile(log_file)
    level = ("WARNING", "INFO", "DEBUG")[min(max(verbosity, 0), 2)]
    loguru.logger.enable(PACKAGE)
    loguru.logger.remove()
    loguru.logger.add(_write_stderr, level=level, format="{level}: {message}", diagnose=False, backtrace=False)
    if file is not None:
        shape = "{time:YYYY-MM-DDTHH:mm:ss.SSSZZ} {process} {level} {name}: {message}"
        loguru.logger.add(file, level="DEBUG", format=shape, diagnose=False, backtrace=False)
    root = logging.getLogger()
    if not any(isinstance(handler, _StandardLogging) for handler in root.handlers):
        root.addHandler(_StandardLogging(logging.INFO))
