"""The man pages: one for each command, made from it, and read by `man`."""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
from pathlib import Path

import pytest
from systemprompt_cloud.cli.commands import COMMANDS

from tests.support.missing import missing

DOCS = Path(__file__).parents[2] / "docs"
MAN = DOCS / "man"


@pytest.fixture(scope="module")
def made() -> dict[str, str]:
    """The pages as `docs/build_man.py` makes them now."""
    return runpy.run_path(str(DOCS / "build_man.py"))["pages"]()


def test_the_committed_pages_are_current(made: dict[str, str]) -> None:
    """An option changed without its page fails here; `python docs/build_man.py` fixes it."""
    assert {page.name: page.read_text(encoding="ascii") for page in MAN.iterdir()} == made


def test_each_command_has_its_page(made: dict[str, str]) -> None:
    """Groups, too; and the short name leads to the main page."""
    names = {f"systemprompt-cloud-{words.replace(' ', '-')}.1" for words in COMMANDS}
    assert made.keys() == names | {"systemprompt-cloud.1", "spc.1"}


def read(page: str) -> str:
    """A page as `man` shows it, without a warning."""
    if shutil.which("man") is None:
        missing("man: apt-get install man-db")
    done = subprocess.run(
        ["man", "--warnings", "-P", "cat", "-l", MAN / page],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"MANWIDTH": "80", "LC_ALL": "C", "MANROFFOPT": "-c"},
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_a_page_is_readable() -> None:
    """The sections of a command, in the terms it uses itself."""
    shown = read("systemprompt-cloud-flows-prune.1")
    assert "systemprompt-cloud flows prune [OPTIONS]" in shown
    assert "--older-than" in shown
    for title in ("NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "JSON FIELDS", "EXAMPLE", "SEE ALSO"):
        assert f"\n{title}\n" in shown


def test_the_main_page_leads_to_the_others() -> None:
    """Every command is listed, and no name is divided at the edge."""
    shown = read("systemprompt-cloud.1")
    for words in COMMANDS:
        assert " " in words or f"systemprompt-cloud-{words}(1)" in shown
    assert "Exit codes: 0 done" in " ".join(shown.split())


def test_no_page_has_a_line_that_roff_does_not_know() -> None:
    """All at once, with every warning on."""
    if shutil.which("groff") is None:
        missing("groff: apt-get install groff-base")
    pages = sorted(MAN.glob("systemprompt-*.1"))
    done = subprocess.run(
        ["groff", "-ww", "-z", "-man", "-Tascii", *pages], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
