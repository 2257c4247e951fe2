"""The drawn machines in the repository are the machines of the repository."""

from __future__ import annotations

from pathlib import Path

import pytest
from systemprompt_cloud.machines.every import MACHINES

from docs.build_gallery import GALLERY, PLACES, gallery, main, places


def test_the_committed_gallery_is_current() -> None:
    """A table changed without its picture fails here; running `python docs/build_gallery.py` fixes it."""
    committed = {path.name: path.read_text(encoding="utf-8") for path in GALLERY.iterdir()}
    assert committed == gallery()


def test_the_committed_places_are_what_graphviz_decides() -> None:
    """The built-in machines are drawn without Graphviz from where it puts them."""
    assert PLACES.read_text(encoding="utf-8") == places()


def test_the_gallery_shows_every_machine() -> None:
    """Each machine has its files, and its picture in the README, for a light and a dark page."""
    files, names = gallery(), [machine.name for machine in MACHINES]
    kinds = (".mmd", "-light.svg", "-dark.svg")
    assert set(files) == {*(f"{name}{kind}" for name in names for kind in kinds), "README.md"}
    for name in names:
        assert f'src="{name}-light.svg"' in files["README.md"]
        assert f'srcset="{name}-dark.svg"' in files["README.md"]


def test_the_gallery_is_written_where_it_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Given a directory, it is made and filled, and every file is told."""
    assert main([str(tmp_path / "new")]) == 0
    assert {path.name for path in (tmp_path / "new").iterdir()} == set(gallery())
    assert capsys.readouterr().err.count("wrote ") == 16
