"""The drawn machines in `diagrams/gallery/`, made from their tables; run this after changing a table or the drawing.

    python docs/build_gallery.py [DIRECTORY]

Without a directory it also writes `diagrams/places.json`: where everything of these drawings is, so that they are drawn
without Graphviz.

A test compares the committed files with what is made here, so the pictures cannot fall behind the machines.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
from systemprompt_cloud.diagrams.geometry import Geometry, digest, lay_out
from systemprompt_cloud.diagrams.mermaid import mermaid
from systemprompt_cloud.diagrams.sketch import sketch
from systemprompt_cloud.diagrams.svg import svg
from systemprompt_cloud.machines.every import MACHINES

DIAGRAMS: Final = Path(__file__).resolve().parents[1] / "diagrams"
GALLERY: Final = DIAGRAMS / "gallery"
PLACES: Final = DIAGRAMS / "places.json"

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

The blue line is the course of a flow that succeeds. An arrow carries the events that lead on, with their guards in
brackets. What stays in a state, and what ends in a failure or a cancellation, is a line inside the state; ends that are
reached only so are at the bottom. `systemprompt-cloud diagram MACHINE --format svg` draws the same, `--full` with every
way as an arrow, `--flow ID` with the path of a flow; without `--format` it prints Mermaid text, as in the `.mmd` files.
"""


def gallery() -> dict[str, str]:
    """Every file of the gallery: its name, and its text."""
    files = {f"{machine.name}.mmd": mermaid(machine) for machine in MACHINES}
    pages = [_INTRODUCTION]
    for machine in MACHINES:
        name = machine.name
        files |= {f"{name}-{theme}.svg": svg(machine, theme=theme) for theme in ("light", "dark")}
        pages.append(f"## {name}\n\n{_STORIES[name]}\n\n{picture(name)}\n")
    return {**files, "README.md": "\n".join(pages)}


def picture(machine: str) -> str:
    """The HTML of a drawing in a page on GitHub, which has a dark theme."""
    return (
        f'<picture>\n  <source media="(prefers-color-scheme: dark)" srcset="{machine}-dark.svg">\n'
        f'  <img alt="the states of {machine} and what leads from one to the next" src="{machine}-light.svg">\n'
        "</picture>"
    )


def places() -> str:
    """The file of the places, made by Graphviz. Raises `LayoutMissing`."""
    sketches = [sketch(machine, full=full) for machine in MACHINES for full in (False, True)]
    return "{\n" + ",\n".join(f'"{digest(each)}":{encoded(lay_out(each))}' for each in sketches) + "\n}\n"


def encoded(laid: Geometry) -> str:
    """Places as JSON."""
    return msgspec.json.encode(laid).decode()


def main(arguments: Sequence[str]) -> int:
    """Write the gallery into the directory given, or the repository's own; returns the exit code."""
    if not arguments:
        PLACES.write_text(places(), encoding="utf-8", newline="\n")
    directory = Path(arguments[0]) if arguments else GALLERY
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in gallery().items():
        (directory / name).write_text(text, encoding="utf-8", newline="\n")
        sys.stderr.write(f"wrote {directory / name}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
