"""The command line's door: `systemprompt-cloud`, `spc`, `python -m systemprompt_cloud`.

The two things people ask most often, the version and the help, are answered before anything is imported: the help from
a file that a test keeps equal to what the commands say of themselves.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ._version import __version__

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
        if not any(name.endswith("_COMPLETE") and name.startswith("_S") for name in os.environ):
            if arguments == ["--version"]:
                return _answer(f"systemprompt-cloud {__version__}\n")
            if text := _help(arguments):
                return _answer(text)
        from .cli.app import run

        alias = Path(sys.argv[0]).stem == "spc"
        return run(arguments, name="spc") if alias else run(arguments)
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


def _answer(text: str) -> int:
    sys.stdout.write(text)
    sys.stdout.flush()
    return 0


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


def _help(arguments: Sequence[str]) -> str:
    """The help that is asked for, when it is plainly that; empty for everything else."""
    if arguments and arguments[-1] not in {"--help", "-h"}:
        return ""
    wanted = " ".join(["### systemprompt-cloud", *arguments[:-1]])
    try:
        with (Path(__file__).parent / "cli" / "help.txt").open(encoding="utf-8") as lines:
            return "".join(_section(lines, wanted))
    except OSError:
        return ""  # the commands themselves know it too


def _section(lines: Iterable[str], head: str) -> Iterator[str]:
    """The lines under one head line, up to the next."""
    inside = False
    for line in lines:
        if line.startswith("### "):
            inside = line.rstrip("\n") == head
        elif inside:
            yield line


if __name__ == "__main__":
    sys.exit(main())
