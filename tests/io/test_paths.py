"""Which directory is used is decided by --dir, the environment, the project and the user, in that order."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs
import pytest
from systemprompt_cloud.io.local.paths import expand_home, resolve_cloud_paths, resolve_path


def test_every_file_has_its_place(tmp_path: Path) -> None:
    """With a directory named, everything is in it."""
    paths = resolve_cloud_paths(tmp_path, {}, Path("/"))
    assert paths.origin == "explicit"
    assert paths.credentials == tmp_path / "credentials.json"
    assert paths.tenants == tmp_path / "tenants.json"
    assert paths.sessions_index == tmp_path / "sessions" / "index.json"
    assert paths.journal == tmp_path / "journal.sqlite3"
    assert paths.vault == tmp_path / "vault"
    assert paths.owners == tmp_path / "owners"


def test_dir_beats_the_environment_beats_the_project_beats_the_user(tmp_path: Path) -> None:
    """Take them away one after the other and the next one holds."""
    project = tmp_path / "project"
    (project / ".systemprompt").mkdir(parents=True)
    (project / "a" / "b").mkdir(parents=True)
    environ = {"SYSTEMPROMPT_DIR": "/from/environ", "HOME": "/home/ann"}
    here = project / "a" / "b"
    assert resolve_cloud_paths(Path("/from/option"), environ, here).directory == Path("/from/option")
    assert resolve_cloud_paths(None, environ, here).directory == Path("/from/environ")
    environ["SYSTEMPROMPT_DIR"] = ""
    found = resolve_cloud_paths(None, environ, here)
    assert (found.directory, found.origin) == (project / ".systemprompt", "project")
    user = resolve_cloud_paths(None, environ, tmp_path)
    assert user.origin == "user"
    assert user.directory == Path("/home/ann/.local/share/systemprompt-cloud")
    assert user.journal == Path("/home/ann/.local/state/systemprompt-cloud/journal.sqlite3")


def test_what_came_with_a_clone_is_never_gone_on_with(tmp_path: Path) -> None:
    """A project's journal and vault are in the user's own state, apart for each: none can be brought along."""
    environ = {"HOME": str(tmp_path / "home")}
    states: set[Path] = set()
    for place in ("one/same", "two/same"):
        (tmp_path / place / ".systemprompt").mkdir(parents=True)
        found = resolve_cloud_paths(None, environ, tmp_path / place)
        assert found.credentials.is_relative_to(tmp_path / place)
        for private in (found.journal, found.vault, found.owners):
            assert private.is_relative_to(tmp_path / "home")
        states.add(found.state_directory)
    assert len(states) == 2
    again = resolve_cloud_paths(None, environ, tmp_path / "one" / "same")
    assert again.state_directory in states


def test_the_nearest_project_wins_and_a_file_of_that_name_is_no_project(tmp_path: Path) -> None:
    """Nested projects use the inner one; only a directory counts."""
    inner = tmp_path / "outer" / "inner"
    inner.mkdir(parents=True)
    (tmp_path / "outer" / ".systemprompt").mkdir()
    assert resolve_cloud_paths(None, {}, inner).directory == tmp_path / "outer" / ".systemprompt"
    (inner / ".systemprompt").touch()
    assert resolve_cloud_paths(None, {}, inner).directory == tmp_path / "outer" / ".systemprompt"
    (inner / ".systemprompt").unlink()
    (inner / ".systemprompt").mkdir()
    assert resolve_cloud_paths(None, {}, inner).directory == inner / ".systemprompt"


def test_a_relative_directory_starts_at_the_current_one_and_home_is_expanded() -> None:
    """`--dir sub` and `--dir ~/sub` are absolute before anything is written."""
    environ = {"HOME": "/home/ann"}
    assert resolve_cloud_paths(Path("sub"), environ, Path("/work")).directory == Path("/work/sub")
    assert resolve_cloud_paths(Path("~/sub"), environ, Path("/work")).directory == Path("/home/ann/sub")
    assert resolve_cloud_paths(None, {"SYSTEMPROMPT_DIR": "~/s", **environ}, Path("/")).directory == Path("/home/ann/s")


def test_the_xdg_variables_are_honoured_and_a_relative_one_is_ignored(tmp_path: Path) -> None:
    """XDG Base Directory Specification: paths in these variables must be absolute, else they are ignored."""
    environ = {"HOME": "/home/ann", "XDG_DATA_HOME": "/data", "XDG_STATE_HOME": "state"}
    paths = resolve_cloud_paths(None, environ, tmp_path)
    assert paths.directory == Path("/data/systemprompt-cloud")
    assert paths.state_directory == Path("/home/ann/.local/state/systemprompt-cloud")


@pytest.mark.parametrize("with_home", [True, False])
def test_the_users_directories_are_those_platformdirs_gives(tmp_path: Path, with_home: bool) -> None:
    """For the process's own environment, and for a user without HOME, the answers agree."""
    environ = dict(os.environ) if with_home else {}
    paths = resolve_cloud_paths(None, {**environ, "SYSTEMPROMPT_DIR": ""}, tmp_path)
    assert paths.directory == platformdirs.user_data_path("systemprompt-cloud", appauthor=False)
    assert paths.state_directory == platformdirs.user_state_path("systemprompt-cloud", appauthor=False)


@pytest.mark.parametrize(
    ("typed", "expanded"),
    [
        ("~/x/y", "/h/x/y"),
        ("~//x", "/h/x"),
        ("~", "~"),
        ("~bob/x", "~bob/x"),
        ("a/~/b", "a/~/b"),
        ("$HOME/x", "$HOME/x"),
    ],
)
def test_only_a_leading_home_is_expanded(typed: str, expanded: str) -> None:
    """`~/` and nothing else, like the Rust CLI."""
    assert expand_home(typed, {"HOME": "/h"}) == Path(expanded)


def test_an_absolute_path_stays_and_a_relative_one_joins_the_base() -> None:
    """resolve_path(base, p): expanded, absolute stays, relative joins."""
    assert resolve_path(Path("/base"), "/abs") == Path("/abs")
    assert resolve_path(Path("/base"), "rel/x") == Path("/base/rel/x")
    assert resolve_path(Path("/base"), "~/x", {"HOME": "/h"}) == Path("/h/x")
