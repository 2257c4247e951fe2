"""Makes `demo.svg`, the README's picture, from a real run of the demo in a real terminal window.

python -m docs.picture, in a UTF-8 locale
"""

import io
import re
import tempfile
from pathlib import Path

import trio
from rich.console import Console
from rich.text import Text

from tests.support.command import COMMAND
from tests.support.terminal import open_window

PICTURE = Path(__file__).with_name("demo.svg")
COLUMNS, LINES = 104, 46


async def main() -> None:
    """Run the demo, and keep what the window shows while polling has taken over from the stream."""
    with tempfile.TemporaryDirectory() as place, open_window(columns=COLUMNS, lines=LINES) as window:
        window.run(["clear"])
        window.run(["exec", *COMMAND, "--dir", f"{place}/demo", "demo"])
        await window.wait_for("Stream lost, polling")
        shown = window.tmux("capture-pane", "-p", "-e")
    lines = Text.from_ansi(shown.rstrip()).split("\n")
    first = next(index for index, line in enumerate(lines) if "A local cloud runs" in line.plain)
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(Text("$ make demo", style="bold"))
    for line in lines[first:]:
        console.print(line)
    console.print()  # the last line would lose its descenders
    drawn = console.export_svg(title="systemprompt-cloud demo")
    # No fonts from elsewhere: reading the page loads only this repository.
    PICTURE.write_text(re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL))


if __name__ == "__main__":
    trio.run(main)
