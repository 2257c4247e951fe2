"""The drawn machines in the repository are the machines of the repository."""

from __future__ import annotations

from pathlib import Path

import pytest
from systemprompt_cloud.machines.every import MACHINES

from docs.build_gallery import GALLERY, gallery, main


def test_the_committed_gallery_is_current() -> None:
    """A table changed without its picture fails here; running `diagrams.build_gallery` mends it."""
    committed = {path.name: path.read_text(encoding="utf-8") for path in GALLERY.iterdir()}
    assert committed == gallery()


def test_the_gallery_shows_every_machine() -> None:
    """Each machine has a file, and stands in the README as a block that a forge draws."""
    files, names = gallery(), [machine.name for machine in MACHINES]
    assert set(files) == {*(f"{name}.mmd" for name in names), "README.md"}
    for name in names:
        assert f"```mermaid\n{files[f'{name}.mmd']}```\n" in files["README.md"]


def test_the_gallery_is_written_where_it_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Given a directory, it is made and filled, and every file is told."""
    assert main([str(tmp_path / "new")]) == 0
    assert {path.name for path in (tmp_path / "new").iterdir()} == set(gallery())
    assert capsys.readouterr().err.count("wrote ") == 6
