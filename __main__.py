"""The command line's door: `systemprompt-cloud`, `spc`, `python -m systemprompt_cloud`.

What people ask most often, and shells at every Tab, is answered before anything is imported (`cli/quick.py`): the
version, help, a word that is no command, the names of commands.
"""

from __future__ import annotations

import errno
import gc
import os
import sys
from collections.abc import Sequence

from ._version import __version__
from .cli import quick
from .cli.tab import variable

_CANNOT_WRITE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
"""What a disk says that takes no more; every other file of ours has its errors translated where it is written."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: The arguments; the process's own when not given.

    Returns:
        The exit code.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            _reopen(number, name)
    arguments = sys.argv[1:] if argv is None else list(argv)
    try:
        typed = os.path.splitext(os.path.basename(sys.argv[0]))[0]  # noqa: PTH119, PTH122 pathlib is heavy
        name = "spc" if typed == "spc" else "systemprompt-cloud"
        instruction = os.environ.get(variable(name))
        if instruction:
            if offered := quick.tab(instruction, os.environ):
                return _answer(*offered)
        elif arguments == ["--version"]:
            return _answer(f"systemprompt-cloud {__version__}\n")
        elif text := quick.help_for(arguments):
            return _answer(text)
        elif text := quick.mistake(arguments, name):
            sys.stderr.write(text)
            return 2
        gc.disable()  # importing makes no garbage, and the search for it takes a sixth of a short command
        from .cli import app

        gc.freeze()
        gc.enable()
        return _answer(*app.answer(instruction, name)) if instruction else app.run(arguments, name=name)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output has gone; there is nobody left to tell.
        _forget_stdout()
        return 1
    except OSError as exc:
        if exc.filename is not None or not (exc.errno in _CANNOT_WRITE or _stdout_is_closed(exc)):
            raise
        _forget_stdout()
        sys.stderr.write(f"Error: cannot write to stdout: {exc.strerror or exc}\n")
        return 1


def _answer(text: str, code: int = 0) -> int:
    sys.stdout.write(text)
    sys.stdout.flush()
    return code


def _reopen(number: int, name: str) -> None:
    """Put /dev/null in place of a standard stream that was closed before we came.

    Left closed, its number would go to the next file to be opened, the journal say, and with it whatever is said there.
    Stdin is at its end and stderr takes everything; stdout cannot be written, so that no data is lost unnoticed.
    """
    nothing = os.open(os.devnull, os.O_WRONLY if name == "stderr" else os.O_RDONLY)
    os.dup2(nothing, number)
    if nothing != number:
        os.close(nothing)
    setattr(sys, name, os.fdopen(number, "r" if name == "stdin" else "w", encoding="utf-8", closefd=False))


def _stdout_is_closed(exc: OSError) -> bool:
    """Whether a bad descriptor is that of stdout: it says so of writing nothing, too."""
    if exc.errno == errno.EBADF:
        try:
            os.write(sys.stdout.fileno(), b"")
        except OSError:
            return True
    return False


def _forget_stdout() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
