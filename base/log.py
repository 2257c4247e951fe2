"""The loggers of this package: standard `logging`, with every record redacted before any handler gets it.

`logging` does not apply a logger's filters to records of its child loggers. So `get_logger` puts the filter on each
module's own logger, in front of every other filter: there is no handler, of whatever program, between the two. The
exception becomes text there and then, because a handler that gets it could show the variables of every frame, tokens
included. A filter costs nothing for a disabled level: its records are never made.

A library logs nothing unasked: until a program gives the root, or the logger named after this package, a handler,
nothing is written. `cli/shared/log.py` is what the command line does.
"""

from __future__ import annotations

import logging
import traceback
from typing import Final

from .texts import shown_text

PACKAGE: Final = __name__.partition(".")[0]

_OWN: Final = frozenset(vars(logging.LogRecord("", 0, "", 0, "", (), None)))
"""What every record has; anything else came with `extra`."""


class _Redacting(logging.Filter):
    """Leaves in a record nothing but redacted text: no arguments, no exception."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Redact the record in place; none is dropped."""
        try:
            message = record.getMessage()
        except Exception as exc:  # noqa: BLE001 the arguments do not fit, or cannot be shown: no reason to fail for the caller
            message = f"{record.msg} (not formatted: {type(exc).__name__})"
        record.msg, record.args = shown_text(message), ()
        if record.exc_info is not None:
            if record.exc_info[1] is not None:
                # Formatters append this text as it is.
                record.exc_text = shown_text("".join(traceback.format_exception(record.exc_info[1])).rstrip())
            record.exc_info = None
        if record.stack_info is not None:
            record.stack_info = shown_text(record.stack_info)
        for name, value in tuple(vars(record).items()):
            if name not in _OWN and isinstance(value, str):
                setattr(record, name, shown_text(value))
        return True


_REDACTING: Final = _Redacting()


def get_logger(name: str) -> logging.Logger:
    """The logger of a module, which redacts: `logger = get_logger(__name__)`. Messages may quote what they like.

    Args:
        name: The module's `__name__`.
    """
    logger = logging.getLogger(name)
    if _REDACTING not in logger.filters:
        logger.filters.insert(0, _REDACTING)
    return logger


# Without any handler `logging` writes warnings to stderr by itself.
get_logger(PACKAGE).addHandler(logging.NullHandler())
