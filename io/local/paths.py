"""Where everything is kept: one directory for what the Rust CLI shares with us, one for the state of running flows.

The first of these that applies decides: `--dir`, the variable SYSTEMPROMPT_DIR, the nearest `.systemprompt/` at or
above the current directory, the user's own directories (platformdirs). The Rust CLI has no such last step: it writes
into the directory it was started in. `CloudPaths.origin` says which it was, so that commands can tell the user, and
so that they can distrust what a cloned project brought along.

Nothing here touches a file except to look for `.systemprompt/`, and nothing but `get_cloud_paths` reads the process's
environment or current directory behind the caller's back. What the places in a project are called is in
`io/local/project.py`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal, Self

import msgspec

from ...base.errors import Io
from ...base.texts import path_text
from .cloud_dir import JOURNAL, ensure_cloud_dir
from .project import PROJECT_DIRECTORY, CloudPath, DiscoveredProject, ProjectContext, current_directory
from .user_directories import home_directory, home_of_user, state_directory, user_directories

DIRECTORY_VARIABLE: Final = "SYSTEMPROMPT_DIR"
ACCOUNTS: Final = "accounts"
"""The folder of the accounts that are not the active one."""


class CloudPaths(msgspec.Struct, frozen=True, kw_only=True):
    """The files of one user or project.

    Attributes:
        directory: Credentials, tenants and sessions; the format of these files is shared with the Rust CLI.
        state_directory: The journal, the vault and the owner locks; ours alone.
        origin: `explicit` (named by the user), `project` (found above the current directory) or `user` (the default).
        credentials_file: Where a profile keeps the credentials, when that is not in `directory` under the usual name.
        tenants_file: The same for the tenants.
    """

    directory: Path
    state_directory: Path
    origin: Literal["explicit", "project", "user"]
    credentials_file: Path | None = None
    tenants_file: Path | None = None

    @classmethod
    def from_config(
        cls,
        profile_dir: Path,
        credentials_path: str | Path = "",
        tenants_path: str | Path = "",
        environ: Mapping[str, str] | None = None,
    ) -> Self:
        """The files that a profile's configuration names.

        `directory` is the one the credentials are in; without a path for them the nearest `.systemprompt` at or above
        the profile's directory, by its name; without that a `.systemprompt` in it. They count as a project's: they came
        with it.

        Args:
            profile_dir: The profile's directory, absolute.
            credentials_path: Where the profile says the credentials are, from its directory; empty when it does not.
            tenants_path: The same for the tenants.
            environ: Where HOME and the state directory are looked up; the process's environment by default.
        """
        env = os.environ if environ is None else environ
        credentials = resolve_path(profile_dir, credentials_path, env) if str(credentials_path) else None
        tenants = resolve_path(profile_dir, tenants_path, env) if str(tenants_path) else None
        if credentials is not None:
            directory = credentials.parent
        else:
            named = (folder for folder in (profile_dir, *profile_dir.parents) if folder.name == PROJECT_DIRECTORY)
            directory = next(named, profile_dir / PROJECT_DIRECTORY)
        return cls(
            directory=directory,
            state_directory=_project_state(directory, env),
            origin="project",
            credentials_file=credentials,
            tenants_file=tenants,
        )

    @classmethod
    def from_project_context(cls, project: ProjectContext, environ: Mapping[str, str] | None = None) -> Self:
        """The files of a project.

        Args:
            project: The project.
            environ: Where the state directory is looked up; the process's environment by default.
        """
        directory = project.systemprompt_dir
        state = _project_state(directory, os.environ if environ is None else environ)
        return cls(directory=directory, state_directory=state, origin="project")

    def resolve(self, path: CloudPath) -> Path:
        """Where something is kept."""
        named = {CloudPath.CREDENTIALS: self.credentials_file, CloudPath.TENANTS: self.tenants_file}.get(path)
        return path.resolve(self.directory) if named is None else named

    def exists(self, path: CloudPath) -> bool:
        """Whether something is on disk."""
        return os.path.exists(self.resolve(path))  # noqa: PTH110 - a directory that may not be entered has nothing

    @property
    def credentials(self) -> Path:
        """Who is logged in."""
        return self.resolve(CloudPath.CREDENTIALS)

    @property
    def tenants(self) -> Path:
        """The tenants known here."""
        return self.resolve(CloudPath.TENANTS)

    @property
    def sessions_directory(self) -> Path:
        """Where the sessions are kept."""
        return self.resolve(CloudPath.SESSIONS_DIR)

    @property
    def sessions_index(self) -> Path:
        """The sessions per tenant."""
        return self.sessions_directory / "index.json"

    @property
    def session(self) -> Path:
        """The one session of older versions."""
        return self.resolve(CloudPath.CLI_SESSION)

    @property
    def journal(self) -> Path:
        """The SQLite file every flow's events are in."""
        return self.state_directory / JOURNAL

    @property
    def vault(self) -> Path:
        """One file of secrets per running flow."""
        return self.state_directory / "vault"

    @property
    def owners(self) -> Path:
        """One lock file per process that drives flows."""
        return self.state_directory / "owners"

    @property
    def vault_directory(self) -> Path:
        """Another name of `vault`."""
        return self.vault

    @property
    def owners_directory(self) -> Path:
        """Another name of `owners`."""
        return self.owners

    def make_directory(self, directory: Path) -> None:
        """Make the journal's directory; see `ensure_cloud_dir`."""
        ensure_cloud_dir(directory)


def resolve_cloud_paths(directory: Path | None, environ: Mapping[str, str], cwd: Path) -> CloudPaths:
    """Decide where everything is kept.

    Args:
        directory: What `--dir` named, or None. A leading `~` is expanded as a shell does; a relative one is taken from
            `cwd`.
        environ: The environment: SYSTEMPROMPT_DIR, HOME, XDG_DATA_HOME, XDG_STATE_HOME. An empty value counts as unset.
        cwd: The current directory, absolute.

    Returns:
        The paths. None of them needs to exist yet.

    Raises:
        Io: The directory that is named begins with the home of a user that does not exist.
    """
    named = directory if directory is not None else environ.get(DIRECTORY_VARIABLE) or None
    if named is not None:
        chosen = cwd / expand_user(named, environ)
        return CloudPaths(directory=chosen, state_directory=chosen, origin="explicit")
    project = DiscoveredProject.discover_from(cwd)
    if project is not None:
        return CloudPaths.from_project_context(ProjectContext(project.root), environ)
    data, state = user_directories(environ)
    return CloudPaths(directory=data, state_directory=state, origin="user")


def get_cloud_paths() -> CloudPaths:
    """Where everything is kept for this process: `resolve_cloud_paths` with its environment and current directory.

    Raises:
        Io: The current directory was removed.
    """
    return resolve_cloud_paths(None, os.environ, current_directory())


def _project_state(directory: Path, environ: Mapping[str, str]) -> Path:
    # Not in the project: a journal that came with a clone could hold a half-done login to somebody else's API, and
    # going on with it would send them a fresh token.
    # A profile may name its directory with `..` in it, so that only the real one shows that it is a project's.
    named = directory if directory.name == PROJECT_DIRECTORY else Path(os.path.realpath(directory))
    project = named.parent if named.name == PROJECT_DIRECTORY else named
    import hashlib

    digest = hashlib.sha256(os.fsencode(os.path.realpath(project))).hexdigest()[:12]
    return state_directory(environ) / "projects" / f"{project.name or 'root'}-{digest}"


def expand_user(path: str | Path, environ: Mapping[str, str] | None = None) -> Path:
    """Expand a leading `~`, `~/` or `~user` as a shell does, for what a person typed where no shell did: in quotes.

    A path of the Rust CLI's files is expanded by `expand_home`.

    Args:
        path: What somebody typed.
        environ: Where HOME is looked up; the process's environment by default. Without HOME the user database answers.

    Raises:
        Io: There is no such user.
    """
    text = os.fspath(path)
    if not text.startswith("~"):
        return Path(text)
    user, _, rest = text[1:].partition("/")
    home = home_of_user(user) if user else home_directory(os.environ if environ is None else environ)
    if home is None:
        raise Io(
            f"{path_text(text)} begins with the home of a user, and there is no user {path_text(user)!r}",
            hint=f"For a directory or file of that name: ./{path_text(text)}",
        )
    return home / rest.lstrip("/")


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


def switch_path(paths: CloudPaths) -> Path:
    """The file that is there while a switch of accounts is not complete."""
    return paths.directory / ACCOUNTS / "switch.json"
