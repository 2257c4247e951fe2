"""The help of the program as a file, so that asking for it imports nothing.

`python -m systemprompt_cloud.cli.help` writes the file anew after a command was added or an option changed; a test
compares the two.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import typer.main

from ..errors import CLI
from .app import app

FILE: Final = Path(__file__).with_name("help.txt")


def live_help() -> str:
    """What the commands say of themselves now."""
    command = typer.main.get_command(app)
    with command.make_context(CLI, ["--json"], resilient_parsing=True) as context:
        return command.get_help(context) + "\n"


if __name__ == "__main__":
    FILE.write_text(live_help(), encoding="utf-8")
