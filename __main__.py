"""The command line's door: `systemprompt-cloud`, `spc`, `python -m systemprompt_cloud`.

The two things people ask most often, the version and the help, are answered before anything is imported: the help from
a file that a test keeps equal to what the commands say of themselves.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ._version import __version__


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: The arguments; the process's own when not given.

    Returns:
        The exit code.
    """
    arguments = sys.argv[1:] if argv is None else list(argv)
    try:
        if not any(name.endswith("_COMPLETE") and name.startswith("_S") for name in os.environ):
            if arguments == ["--version"]:
                sys.stdout.write(f"systemprompt-cloud {__version__}\n")
                return 0
            if arguments in ([], ["--help"], ["-h"]) and (text := _help()):
                sys.stdout.write(text)
                return 0
        from .cli.app import run

        alias = Path(sys.argv[0]).stem == "spc"
        return run(arguments, name="spc") if alias else run(arguments)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output has gone; there is nobody left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _help() -> str:
    try:
        return (Path(__file__).parent / "cli" / "help.txt").read_text(encoding="utf-8")
    except OSError:
        return ""  # the commands themselves know it too


if __name__ == "__main__":
    sys.exit(main())
