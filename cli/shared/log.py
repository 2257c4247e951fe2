"""Where the command line's log goes: stderr, and a private file when one is named.

What this package and others say through the standard `logging` is handed to loguru's sinks, which redact once more:
records of other libraries have passed no redactor yet. Most commands log nothing, so loguru, which imports asyncio, is
imported with the first record.
"""

from __future__ import annotations

import logging
import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from typing_extensions import override

from ...base.errors import Io
from ...base.log import PACKAGE
from ...base.redaction import redact

if TYPE_CHECKING:
    from loguru import Logger, Message, Record

_LEVELS: Final = frozenset({"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"})


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


class _ToSinks(logging.Handler):
    """Hands records to loguru: all of this package's, and those of other libraries from INFO on.

    Args:
        shown: The lowest level that stderr shows.
        file: Gets everything; None where there is none.
    """

    def __init__(self, shown: str, file: _LogFile | None) -> None:
        super().__init__()
        self._shown = shown
        self._file = file
        self._logger: Logger | None = None

    @override
    def emit(self, record: logging.LogRecord) -> None:
        ours = record.name.partition(".")[0] == PACKAGE
        if not ours and record.levelno < logging.INFO:
            return

        def name_it(made: Record) -> None:
            made["name"] = record.name

        level = record.levelname if record.levelname in _LEVELS else record.levelno
        # The exception is text by now, so no sink can show the variables of its frames.
        text = self.format(record)
        self._sinks().patch(name_it).log(level, text if ours else f"{record.name}: {text}")

    def _sinks(self) -> Logger:
        if self._logger is None:
            from loguru import logger

            logger.remove()
            logger.add(_write_stderr, level=self._shown, format="{level}: {message}", diagnose=False, backtrace=False)
            if self._file is not None:
                shape = "{time:YYYY-MM-DDTHH:mm:ss.SSSZZ} {process} {level} {name}: {message}"
                logger.add(self._file, level="DEBUG", format=shape, diagnose=False, backtrace=False)
            self._logger = logger
        return self._logger

    @override
    def close(self) -> None:
        if self._logger is not None:
            self._logger.remove()  # and with the sinks the file
        elif self._file is not None:
            self._file.stop()
        self._file = self._logger = None
        super().close()


def _write_stderr(message: Message) -> None:
    sys.stderr.write(redact(message))


def configure_logging(verbosity: int, log_file: Path | None) -> None:
    """Send the log to stderr, and to a private file when one is named, replacing what was configured before.

    Args:
        verbosity: 0 shows warnings and errors on stderr, 1 also progress, 2 or more everything.
        log_file: Gets everything, whatever the verbosity; created with mode 0600 and appended to.

    Raises:
        Io: The log file cannot be opened or made private; name another. The configuration is then unchanged.
    """
    file = None if log_file is None else _LogFile(log_file)
    level = ("WARNING", "INFO", "DEBUG")[min(max(verbosity, 0), 2)]
    logging.getLogger(PACKAGE).setLevel(level if file is None else "DEBUG")
    root = logging.getLogger()
    for before in [handler for handler in root.handlers if isinstance(handler, _ToSinks)]:
        root.removeHandler(before)
        before.close()
    root.addHandler(_ToSinks(level, file))
