"""The drawn machines in `diagrams/gallery/`, made from their tables; run this after changing a table.

    python docs/build_gallery.py [DIRECTORY]

A test compares the committed files with what is made here, so the pictures cannot fall behind the machines.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from systemprompt_cloud.diagrams.mermaid import mermaid
from systemprompt_cloud.machines.every import MACHINES

GALLERY: Final = Path(__file__).resolve().parents[1] / "diagrams" / "gallery"

_STORIES: Final = {
    "login": "From nothing to credentials on disk.",
    "checkout": "From a plan and a region to a paid tenant.",
    "provisioning": "From a tenant's id to a running tenant stored on this machine.",
    "deployment": "From an image to a tenant that runs it.",
    "onboarding": "Login, checkout and provisioning, one after the other, as child flows.",
}

_INTRODUCTION: Final = """\
# The machines, drawn

Made from the tables in `machines/` by `python docs/build_gallery.py`; do not edit.

An arrow carries the events that lead on, with their guards in brackets. A loop is progress that stays in the state.
The dashed box is every state that is not final. `systemprompt-cloud diagram MACHINE` prints the same drawing,
and `systemprompt-cloud diagram --flow ID` the one with a flow's path marked on it.
"""


def gallery() -> dict[str, str]:
    """Every file of the gallery: its name, and its text."""
    files = {f"{machine.name}.mmd": mermaid(machine) for machine in MACHINES}
    pages = [_INTRODUCTION]
    for machine in MACHINES:
        drawing = files[f"{machine.name}.mmd"]
        pages.append(f"## {machine.name}\n\n{_STORIES[machine.name]}\n\n```mermaid\n{drawing}```\n")
    return {**files, "README.md": "\n".join(pages)}


def main(arguments: Sequence[str]) -> int:
    """Write the gallery into the directory given, or the repository's own; returns the exit code."""
    directory = Path(arguments[0]) if arguments else GALLERY
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in gallery().items():
        (directory / name).write_text(text, encoding="utf-8", newline="\n")
        sys.stderr.write(f"wrote {directory / name}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
