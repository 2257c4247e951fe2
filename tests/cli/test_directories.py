"""`--dir` and other paths that were not meant so: a mistake is told, and what is there already stays as it is."""

from __future__ import annotations

import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from tests.support.command import CommandLine
from tests.support.missing import missing

LOGIN = ("login", "--port", "0", "--no-browser")
LONG = "x" * 300
LONGER = "x" * 100_000


@pytest.fixture
def repository(cli: CommandLine) -> Path:
    """A project of somebody's own, under git, nothing of it committed yet."""
    if shutil.which("git") is None:
        missing("git is not installed (apt-get install git)")
    path = cli.home / "project"
    path.mkdir()
    (path / "main.py").write_text("print()\n")
    (path / ".gitignore").write_text("*.pyc\n")
    subprocess.run(["git", "init", "--quiet", str(path)], check=True, env=cli.environ)
    path.chmod(0o755)
    return path


def untracked(cli: CommandLine, path: Path) -> list[str]:
    asked = ["git", "-C", str(path), "status", "--porcelain"]
    return subprocess.run(asked, check=True, env=cli.environ, capture_output=True, text=True).stdout.splitlines()


def test_no_command_takes_a_project_over(cli: CommandLine, repository: Path) -> None:
    """Neither do the credentials get into its root, nor do its sources vanish from git; below it is a place."""
    before = untracked(cli, repository)
    for words in (LOGIN, ("demo",), ("up", "--plan", "plan_sandbox_starter"), ("logout",)):
        ran = cli("--dir", ".", *words, "--json", cwd=repository).ended(2)
        assert f"{repository} holds other things and nothing of ours" in ran.err
        assert "Open this" not in ran.err
        last = ran.lines[-1]
        assert (last["error"], last["exit_code"]) == ("DirectoryInUse", 2)
        assert last["hint"] == f"Name an empty directory: --dir {repository}/.systemprompt"
    for words in (("whoami",), ("flows", "list"), ("tenants", "list"), ("sessions", "list")):
        cli("--dir", ".", *words, cwd=repository)
    (found, *_) = cli("--dir", ".", "doctor", "--offline", "--json", cwd=repository).ended(1).lines
    assert (found["check"], found["status"]) == ("directory", "failed")
    assert "--dir" in found["hint"]
    assert untracked(cli, repository) == before
    assert stat.S_IMODE(repository.stat().st_mode) == 0o755
    cli.play("--dir", ".systemprompt", *LOGIN, cwd=repository).ended(0)
    assert (repository / ".systemprompt" / "credentials.json").exists()
    assert untracked(cli, repository) == before


def test_an_empty_directory_and_the_own_one_are_taken(cli: CommandLine) -> None:
    """Also after a `logout` in it, which leaves nothing but locks; and a second login there goes on."""
    here = cli.home / "here"
    here.mkdir()
    cli("--dir", "here", "logout").ended(0)
    for _ in range(2):
        cli.play("--dir", "here", *LOGIN).ended(0)
    assert stat.S_IMODE(here.stat().st_mode) == 0o700


def test_the_users_directory_is_theirs_whatever_came_before(cli: CommandLine) -> None:
    """A demo and a project's flows are kept below the user's directories, and are there before the first login."""
    (cli.home / "project" / ".systemprompt").mkdir(parents=True)
    cli.play(*LOGIN, cwd=cli.home / "project").ended(0)
    (cli.directory / "demo").mkdir(parents=True)
    cli.login()
    assert (cli.directory / ".gitignore").read_text() == "*\n"


@pytest.mark.parametrize("words", [("--dir", "", *LOGIN), ("whoami", "--dir=")])
def test_an_empty_dir_is_a_mistake(cli: CommandLine, words: tuple[str, ...]) -> None:
    """It is an unset variable of a shell's; it means neither the current directory nor SYSTEMPROMPT_DIR."""
    place = cli.home / "empty"
    place.mkdir()
    ran = cli("--json", *words, cwd=place, SYSTEMPROMPT_DIR=str(cli.home / "mine")).ended(2)
    assert "'--dir'" in ran.err
    (line,) = ran.lines
    assert (line["error"], line["exit_code"]) == ("UsageError", 2)
    assert "it is empty" in line["message"]
    assert list(place.iterdir()) == []


@pytest.mark.parametrize(
    "words",
    [
        ("--dir", LONG, "whoami"),
        ("--dir", LONG, "flows", "list"),
        ("--dir", LONGER, "doctor", "--offline"),
        ("--dir", LONG, *LOGIN),
        ("flows", "check", "--against", LONGER),
    ],
    ids=lambda words: " ".join(word for word in words if len(word) < 20),
)
def test_a_path_no_file_system_takes(cli: CommandLine, words: tuple[str, ...]) -> None:
    """It is named, with the reason, as a mistake in the usage."""
    ran = cli(*words, "--json").ended(2)
    assert "xxx" in ran.err
    assert "File name too long" in ran.err
    (line,) = ran.lines
    assert (line["error"], line["exit_code"]) == ("UsageError", 2)
    assert "File name too long" in line["message"]


def test_a_variable_that_names_such_a_path(cli: CommandLine) -> None:
    """As with the option."""
    assert "File name too long" in cli("whoami", SYSTEMPROMPT_DIR=LONG).ended(2).err
