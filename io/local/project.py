"""What is where in a project: `.systemprompt/` and what is beside it, by name, and how a project is found.

Theory. The Rust CLI and we share a directory tree, so each of its places is named once, here, as a member of an
enumeration whose value is its path below a base: `CloudPath` below a `.systemprompt/` directory, `ProjectPath` below
the project's root, `ProfilePath` below one profile's directory. A value that ends in a slash is a directory.

There are two ways to find a project, as in the Rust crate. `DiscoveredProject` is the first directory at or above the
start that holds `.systemprompt/`, or nothing. `ProjectContext` wants signs of a whole project as well (`Cargo.toml`,
`services/` or `storage/` beside it), and is the start directory when nothing above it has them: the directory in which
a new project would be made. This package's own stores are found the first way (`io/local/paths.py`).

Nothing here reads or writes a file; directories are only looked for.
"""

from __future__ import annotations

import os
from enum import Enum
from pathlib import Path
from typing import Final, Self

import msgspec

from ...base.errors import Io
from ...errors import ProfileRequired

PROJECT_DIRECTORY: Final = ".systemprompt"


def current_directory() -> Path:
    """The current directory. Raises `Io` when it was removed, or may not be asked for."""
    try:
        return Path.cwd()
    except OSError as exc:
        raise Io(f"the current directory cannot be found: {exc.strerror}", hint="Change to another one.") from exc


class Place(Enum):
    """A file or directory with a fixed path below some base; its value is that path, with a slash after a directory."""

    @property
    def segments(self) -> tuple[str, ...]:
        """The path below the base, part by part."""
        return tuple(str(self.value).rstrip("/").split("/"))

    @property
    def filename(self) -> str:
        """The last part of the path."""
        return self.segments[-1]

    @property
    def is_dir(self) -> bool:
        """Whether a directory is meant. Says nothing about what is on disk."""
        return str(self.value).endswith("/")

    def resolve(self, base: Path) -> Path:
        """Where this is below a base.

        Args:
            base: What the enumeration says: a `.systemprompt/` directory, a project's root, or a profile's directory.
        """
        return base.joinpath(*self.segments)


class CloudPath(Place):
    """What is kept in a `.systemprompt/` directory about the cloud."""

    CREDENTIALS = "credentials.json"
    TENANTS = "tenants.json"
    CLI_SESSION = "session.json"
    SESSIONS_DIR = "sessions/"


class ProjectPath(Place):
    """What is kept in a project, below its root."""

    ROOT = ".systemprompt/"
    PROFILES_DIR = ".systemprompt/profiles/"
    DOCKER_DIR = ".systemprompt/docker/"
    STORAGE_DIR = "storage/"
    SESSIONS_DIR = ".systemprompt/sessions/"
    DOCKERFILE = ".systemprompt/Dockerfile"
    LOCAL_CREDENTIALS = ".systemprompt/credentials.json"
    LOCAL_TENANTS = ".systemprompt/tenants.json"
    LOCAL_SESSION = ".systemprompt/session.json"


class ProfilePath(Place):
    """What is kept in the directory of one profile."""

    CONFIG = "profile.yaml"
    SECRETS = "secrets.json"
    DOCKER_DIR = "docker/"
    DOCKERFILE = "docker/Dockerfile"
    ENTRYPOINT = "docker/entrypoint.sh"
    DOCKERIGNORE = "docker/Dockerfile.dockerignore"
    COMPOSE = "docker/compose.yaml"

    @property
    def is_docker_file(self) -> bool:
        """Whether it is one of the files an image is built from."""
        return not self.is_dir and self.segments[0] == "docker"


class _Project(msgspec.Struct, frozen=True):
    root: Path

    def resolve(self, path: ProjectPath) -> Path:
        """Where something of this project is."""
        return path.resolve(self.root)

    def exists(self, path: ProjectPath) -> bool:
        """Whether something of this project is on disk."""
        return os.path.exists(self.resolve(path))  # noqa: PTH110 - a directory that may not be entered has nothing for us

    @property
    def systemprompt_dir(self) -> Path:
        """The project's `.systemprompt/`."""
        return self.resolve(ProjectPath.ROOT)

    @property
    def profiles_dir(self) -> Path:
        """The directory with a directory for each profile."""
        return self.resolve(ProjectPath.PROFILES_DIR)

    @property
    def docker_dir(self) -> Path:
        """What images are built from."""
        return self.resolve(ProjectPath.DOCKER_DIR)

    @property
    def storage_dir(self) -> Path:
        """The project's files, beside `.systemprompt/`."""
        return self.resolve(ProjectPath.STORAGE_DIR)

    @property
    def sessions_dir(self) -> Path:
        """The sessions per tenant."""
        return self.resolve(ProjectPath.SESSIONS_DIR)

    @property
    def credentials_path(self) -> Path:
        """Who is logged in."""
        return self.resolve(ProjectPath.LOCAL_CREDENTIALS)

    @property
    def tenants_path(self) -> Path:
        """The tenants known here."""
        return self.resolve(ProjectPath.LOCAL_TENANTS)

    @property
    def session_path(self) -> Path:
        """The one session of older versions."""
        return self.resolve(ProjectPath.LOCAL_SESSION)

    def profile_dir(self, name: str) -> Path:
        """The directory of a profile, there or not.

        Raises:
            ProfileRequired: It is not a name but a path, or nothing: it would lead out of the profiles' directory.
        """
        if name in {"", ".", ".."} or set(name) & set("/\\\0"):
            raise ProfileRequired(f"{name!r} is not the name of a profile: it must be that of a directory in profiles/")
        return self.profiles_dir / name

    def profile_path(self, name: str, path: ProfilePath) -> Path:
        """Where something of a profile is. Raises as `profile_dir` does."""
        return path.resolve(self.profile_dir(name))

    def has_profile(self, name: str) -> bool:
        """Whether there is a directory for this profile. Raises as `profile_dir` does."""
        return os.path.isdir(self.profile_dir(name))  # noqa: PTH112 - see above


class DiscoveredProject(_Project, frozen=True):
    """The project that a directory is in: the nearest one with a `.systemprompt/`.

    Attributes:
        root: The directory that holds `.systemprompt/`.
    """

    @classmethod
    def discover(cls) -> Self | None:
        """The project the current directory is in. Raises `Io` when that directory was removed."""
        return cls.discover_from(current_directory())

    @classmethod
    def discover_from(cls, start: Path) -> Self | None:
        """The first directory, from the start upwards, that holds a directory `.systemprompt`; None without one."""
        # A folder above that may not be entered has, for us, no project: `_is_dir` says no, and does not raise.
        return next((cls(folder) for folder in _upwards(start) if _is_dir(folder, PROJECT_DIRECTORY)), None)

    @classmethod
    def from_root(cls, root: Path) -> Self:
        """The project at a directory that is known to be its root, initialised or not."""
        return cls(root)

    @property
    def is_initialized(self) -> bool:
        """Whether `.systemprompt/` is there."""
        return _is_dir(self.root, PROJECT_DIRECTORY)

    @property
    def has_credentials(self) -> bool:
        """Whether there is a file of credentials, of any content."""
        return self.exists(ProjectPath.LOCAL_CREDENTIALS)

    @property
    def has_tenants(self) -> bool:
        """Whether there is a file of tenants, of any content."""
        return self.exists(ProjectPath.LOCAL_TENANTS)

    @property
    def has_session(self) -> bool:
        """Whether there is a session file of older versions, of any content."""
        return self.exists(ProjectPath.LOCAL_SESSION)


class ProjectContext(_Project, frozen=True):
    """A project's places, below its root. `ProjectContext(root)` makes one for a root that is known.

    Attributes:
        root: The project's root.
    """

    @classmethod
    def discover(cls) -> Self:
        """The whole project the current directory is in. Raises `Io` when that directory was removed."""
        return cls.discover_from(current_directory())

    @classmethod
    def discover_from(cls, start: Path) -> Self:
        """The first directory, from the start upwards, that looks like a whole project; the start when none does.

        It has a `.systemprompt/` and, beside it, a `Cargo.toml`, a `services/` or a `storage/`.
        """
        return next((cls(folder) for folder in _upwards(start) if _is_whole(folder)), cls(start.absolute()))

    @property
    def dockerfile(self) -> Path:
        """The project's own Dockerfile."""
        return self.resolve(ProjectPath.DOCKERFILE)


def _upwards(start: Path) -> tuple[Path, ...]:
    absolute = start.absolute()
    return (absolute, *absolute.parents)


def _is_dir(folder: Path, name: str) -> bool:
    return os.path.isdir(folder / name)  # noqa: PTH112 - unlike Path.is_dir it never raises


def _is_whole(folder: Path) -> bool:
    if not _is_dir(folder, PROJECT_DIRECTORY):
        return False
    cargo = os.path.exists(folder / "Cargo.toml")  # noqa: PTH110 - as above
    return cargo or _is_dir(folder, "services") or _is_dir(folder, "storage")
