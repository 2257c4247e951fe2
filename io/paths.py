"""Where everything is kept: one directory for what the Rust CLI shares with us, one for the state of running flows.

The first of these that applies decides: `--dir`, the variable SYSTEMPROMPT_DIR, the nearest `.systemprompt/` at or
above the current directory, the user's own directories (platformdirs). The Rust CLI has no such last step: it writes
into the directory it was started in. `CloudPaths.origin` says which it was, so that commands can tell the user, and
so that they can distrust what a cloned project brought along.

Nothing here touches a file except to look for `.systemprompt/`, and nothing reads the process's environment or
current directory behind the caller's back.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

import msgspec
import platformdirs

APP_NAME: Final = "systemprompt-cloud"
PROJECT_DIRECTORY: Final = ".systemprompt"
DIRECTORY_VARIABLE: Final = "SYSTEMPROMPT_DIR"


class CloudPaths(msgspec.Struct, frozen=True, kw_only=True):
    """The files of one user or project.

    Attributes:
        directory: Credentials, tenants and sessions; the format of these files is shared with the Rust CLI.
        state_directory: The journal, the vault and the owner locks; ours alone.
        origin: `explicit` (named by the user), `project` (found above the current directory) or `user` (the default).
    """

    directory: Path
    state_directory: Path
    origin: Literal["explicit", "project", "user"]

    @property
    def credentials(self) -> Path:
        """Who is logged in."""
        return self.directory / "credentials.json"

    @property
    def tenants(self) -> Path:
        """The tenants known here."""
        return self.directory / "tenants.json"

    @property
    def sessions_index(self) -> Path:
        """The sessions per tenant."""
        return self.directory / "sessions" / "index.json"

    @property
    def journal(self) -> Path:
        """The SQLite file every flow's events are in."""
        return self.state_directory / "journal.sqlite3"

    @property
    def vault_directory(self) -> Path:
        """One file of secrets per running flow."""
        return self.state_directory / "vault"

    @property
    def owners_directory(self) -> Path:
        """One lock file per process that drives flows."""
        return self.state_directory / "owners"


def resolve_cloud_paths(directory: Path | None, environ: Mapping[str, str], cwd: Path) -> CloudPaths:
    """Decide where everything is kept.

    Args:
        directory: What `--dir` named, or None. A leading `~/` is expanded; a relative one is taken from `cwd`.
        environ: The environment: SYSTEMPROMPT_DIR, HOME, XDG_DATA_HOME, XDG_STATE_HOME. An empty value counts as unset.
        cwd: The current directory, absolute.

    Returns:
        The paths. None of them needs to exist yet.
    """
    named = directory if directory is not None else environ.get(DIRECTORY_VARIABLE) or None
    if named is not None:
        chosen = resolve_path(cwd, named, environ)
        return CloudPaths(directory=chosen, state_directory=chosen, origin="explicit")
    for folder in (cwd, *cwd.parents):
        found = folder / PROJECT_DIRECTORY
        # os.path.isdir: a folder above that may not be entered has, for us, no project.
        if os.path.isdir(found):  # noqa: PTH112
            return CloudPaths(directory=found, state_directory=_project_state(folder, environ), origin="project")
    return CloudPaths(
        directory=_user_directory("data", environ), state_directory=_user_directory("state", environ), origin="user"
    )


def _project_state(project: Path, environ: Mapping[str, str]) -> Path:
    # Not in the project: a journal that came with a clone could hold a half-done login to somebody else's API, and
    # going on with it would send them a fresh token.
    digest = hashlib.sha256(os.fsencode(os.path.realpath(project))).hexdigest()[:12]
    return _user_directory("state", environ) / "projects" / f"{project.name or 'root'}-{digest}"


def _user_directory(kind: Literal["data", "state"], environ: Mapping[str, str]) -> Path:
    """The user's directory by the XDG Base Directory Specification, from the environment given.

    platformdirs gives the same answers but only for the process's own environment, so it is asked last: for the home
    directory of a user without HOME, and for the places macOS and Windows use.
    """
    named = environ.get(f"XDG_{kind.upper()}_HOME", "")
    if os.path.isabs(named):  # noqa: PTH117 - "all paths set in these variables must be absolute", else ignored
        return Path(named) / APP_NAME
    home = environ.get("HOME")
    if home and sys.platform not in {"darwin", "win32"}:
        return Path(home, ".local", "share" if kind == "data" else "state", APP_NAME)
    if kind == "data":
        return platformdirs.user_data_path(APP_NAME, appauthor=False)
    return platformdirs.user_state_path(APP_NAME, appauthor=False)


def expand_home(path: str | Path, environ: Mapping[str, str] | None = None) -> Path:
    """Expand a leading `~/` and nothing else: not `~`, not `~user/`, no variables. The Rust CLI does the same.

    Args:
        path: What somebody typed.
        environ: Where HOME is looked up; the process's environment by default. Without HOME the user database answers.
    """
    text = os.fspath(path)
    if not text.startswith("~/"):
        return Path(text)
    home = (os.environ if environ is None else environ).get("HOME")
    return (Path(home) if home else Path.home()) / text[2:].lstrip("/")


def resolve_path(base: Path, path: str | Path, environ: Mapping[str, str] | None = None) -> Path:
    """Make a path that somebody typed absolute: `~/` is expanded, a relative path starts at `base`.

    Args:
        base: An absolute directory.
        path: What somebody typed.
        environ: Where HOME is looked up; the process's environment by default.
    """
    return base / expand_home(path, environ)
