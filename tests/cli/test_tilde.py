"""A `~` that no shell expanded is expanded here, or refused in words; never is there a directory called `~`."""

from __future__ import annotations

import getpass
from pathlib import Path

import pytest

from tests.support.command import CommandLine

LOGIN = ("login", "--port", "0", "--no-browser")
STRANGER = "~no-such-user/x"


@pytest.mark.parametrize(("typed", "meant"), [("~", ""), ("~/", ""), ("~/a/b", "a/b"), ("~//a", "a")])
@pytest.mark.parametrize("by", ["option", "variable"])
def test_a_quoted_home_is_the_home(cli: CommandLine, tmp_path: Path, typed: str, meant: str, by: str) -> None:
    """In `--dir` and in SYSTEMPROMPT_DIR."""
    work = tmp_path / "work"
    work.mkdir()
    if by == "option":
        words = ("--dir", typed)
    else:
        words = ()
        cli.environ["SYSTEMPROMPT_DIR"] = typed
    cli.play(*words, *LOGIN, cwd=work).ended(0)
    assert (cli.home / meant / "credentials.json").exists()
    assert list(work.iterdir()) == []


def test_the_home_of_a_user_is_looked_up(cli: CommandLine, tmp_path: Path) -> None:
    """As a shell does: in the user database, not in HOME."""
    home = Path(f"~{getpass.getuser()}").expanduser()
    found = cli("--dir", f"~{getpass.getuser()}/a-directory-that-is-not-there", "doctor", "--offline", cwd=tmp_path)
    assert f"{home}/a-directory-that-is-not-there" in found.ended(0).out


@pytest.mark.parametrize(
    ("words", "more"),
    [
        (("--dir", STRANGER, *LOGIN), {}),
        (LOGIN, {"SYSTEMPROMPT_DIR": STRANGER}),
        (("--log-file", STRANGER, "whoami"), {}),
        (("diagram", "-o", STRANGER), {}),
        (("flows", "backup", STRANGER), {}),
        (("flows", "check", "--against", STRANGER), {}),
    ],
    ids=lambda value: " ".join(value),
)
def test_the_home_of_no_user_is_refused(
    cli: CommandLine, tmp_path: Path, words: tuple[str, ...], more: dict[str, str]
) -> None:
    """By the option's name, with what to type for a directory that is really called so."""
    ran = cli(*words, "--json", cwd=tmp_path, **more).ended(2)
    named = next((word for word in words if word.startswith("-") and word != "--port"), "SYSTEMPROMPT_DIR")
    (line,) = ran.lines
    assert (line["error"], line["exit_code"]) == ("UsageError", 2)
    for text in (line["message"], ran.err):
        assert "there is no user 'no-such-user'" in text
        assert f"./{STRANGER}" in text
        assert named in text or words[0] == "flows" or more
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def test_other_paths_are_expanded_too(cli: CommandLine, tmp_path: Path) -> None:
    """The log's and a drawing's."""
    work = tmp_path / "work"
    work.mkdir()
    cli("diagram", "-o", "~/drawing", "--log-file", "~/log", cwd=work).ended(0)
    assert (cli.home / "drawing").exists()
    assert (cli.home / "log").exists()
    assert list(work.iterdir()) == []


@pytest.mark.parametrize("home", ["~", "relative", "./x"])
def test_a_home_that_is_no_absolute_path_is_not_used(cli: CommandLine, tmp_path: Path, home: str) -> None:
    """It would be another place in every directory."""
    cli("whoami", cwd=tmp_path, HOME=home).ended(4)
    assert home not in cli("doctor", "--offline", cwd=tmp_path, HOME=home).out.split()
    assert [path.name for path in tmp_path.iterdir()] == ["home"]
