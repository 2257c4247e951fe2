"""The user's own directories, where nothing else was named (XDG Base Directory Specification; platformdirs)."""

from __future__ import annotations

import os
import pwd
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

APP_NAME: Final = "systemprompt-cloud"


def user_directories(environ: Mapping[str, str]) -> tuple[Path, Path]:
    """The user's own directories: for what the Rust CLI shares, and for the state of flows.

    Args:
        environ: As for `resolve_cloud_paths`.
    """
    return _user_directory("data", environ), state_directory(environ)


def state_directory(environ: Mapping[str, str]) -> Path:
    """The user's own directory for the state of flows; `environ` as for `resolve_cloud_paths`."""
    return _user_directory("state", environ)


def config_directory(environ: Mapping[str, str]) -> Path:
    """The user's own directory for settings; `environ` as for `resolve_cloud_paths`."""
    return _user_directory("config", environ)


def home_directory(environ: Mapping[str, str]) -> Path:
    """The user's home: HOME, where that is an absolute path (`~` in quotes is none), else by the user database."""
    home = environ.get("HOME", "")
    return Path(home) if os.path.isabs(home) else home_of_user("") or Path.home()  # noqa: PTH117 - a str


def home_of_user(name: str) -> Path | None:
    """The home of a user by the user database; None when there is no such user. An empty name is who runs this."""
    try:
        found = pwd.getpwnam(name) if name else pwd.getpwuid(os.getuid())
    except (KeyError, ValueError):  # the second: a name that can be none
        return None
    return Path(found.pw_dir) if os.path.isabs(found.pw_dir) else None  # noqa: PTH117 - a str


def _user_directory(kind: Literal["config", "data", "state"], environ: Mapping[str, str]) -> Path:
    """The user's directory by the XDG Base Directory Specification, from the environment given.

    platformdirs gives the same answers but only for the process's own environment, so it is asked last: for the home
    directory of a user without HOME, and for the places macOS and Windows use.
    """
    named = environ.get(f"XDG_{kind.upper()}_HOME", "")
    if os.path.isabs(named):  # noqa: PTH117 - "all paths set in these variables must be absolute", else ignored
        return Path(named) / APP_NAME
    home = environ.get("HOME")
    if home and sys.platform not in {"darwin", "win32"}:
        place = {"config": ".config", "data": ".local/share", "state": ".local/state"}[kind]
        return Path(home_directory(environ), place, APP_NAME)
    import platformdirs

    if kind == "config":
        return platformdirs.user_config_path(APP_NAME, appauthor=False)
    if kind == "data":
        return platformdirs.user_data_path(APP_NAME, appauthor=False)
    return platformdirs.user_state_path(APP_NAME, appauthor=False)
