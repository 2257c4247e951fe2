"""What demos leave behind does not pile up, and nothing else is ever removed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from systemprompt_cloud.cli.tools.demo_directories import KEPT, MARKER, new_demo_directory
from systemprompt_cloud.engine.journal.owners import Owner


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tmp_path / "data" / "demo"


def demos(base: Path, count: int) -> list[Path]:
    """So many demos, a second between each and the next, with a login in each."""
    made: list[Path] = []
    for number in range(count):
        made.append(new_demo_directory(base))
        (made[-1] / "credentials.json").write_text("{}")
        os.utime(made[-1] / MARKER, (number, number + 1))
    return made


def test_only_the_newest_are_kept(base: Path) -> None:
    """A new demo removes the oldest, so that there are never more than a few."""
    made = demos(base, KEPT + 3)
    assert {path for path in made if path.exists()} == set(made[-KEPT:])
    assert all((path / "credentials.json").exists() for path in made[-KEPT:])


def test_what_a_demo_has_not_made_stays(base: Path) -> None:
    """A directory without the marker, a file, and a marker that is a link are left alone, however old."""
    base.mkdir(parents=True, mode=0o700)
    (base / "mine").mkdir()
    (base / "mine" / "credentials.json").write_text("{}")
    (base / "note").write_text("")
    (base / "linked").mkdir()
    (base / "linked" / MARKER).symlink_to(base / "note")
    demos(base, KEPT + 1)
    assert (base / "mine" / "credentials.json").exists()
    assert (base / "note").exists()
    assert (base / "linked").exists()


def test_links_are_not_followed(base: Path, tmp_path: Path) -> None:
    """A link to a marked directory stays as it is, and a link inside of one is removed, not what it points to."""
    (oldest,) = demos(base, 1)
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(oldest, elsewhere)
    os.utime(elsewhere / MARKER, (0, 0))
    (base / "link").symlink_to(elsewhere)
    (oldest / "inside").symlink_to(elsewhere)
    demos(base, KEPT + 1)
    assert not oldest.exists()
    assert (base / "link").is_symlink()
    assert (elsewhere / "credentials.json").exists()


def test_a_demo_that_runs_is_not_removed(base: Path) -> None:
    """Whoever drives a flow in an old directory keeps it."""
    (oldest,) = demos(base, 1)
    owner = Owner(oldest / "owners")
    demos(base, KEPT + 1)
    assert oldest.exists()
    owner.release()
    new_demo_directory(base)
    assert not oldest.exists()
