"""Where an engine keeps what it writes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, Self

import msgspec

from ..base.directories import ensure_own_directory
from .given import kind_of


class Places(Protocol):
    """What `open_engine` takes: `EnginePaths`, or anything with its attributes.

    It may also have `make_directory(path)`, which makes the journal's directory.
    """

    @property
    def journal(self) -> Path: ...
    @property
    def vault(self) -> Path: ...
    @property
    def owners(self) -> Path: ...


class EnginePaths(msgspec.Struct, frozen=True):
    """The files of one engine.

    Attributes:
        journal: The SQLite file that holds every flow.
        vault: The directory of secrets: one file for each running flow.
        owners: The directory of lock files: one for each process that drives flows.
    """

    journal: Path
    vault: Path
    owners: Path

    @classmethod
    def inside(cls, directory: Path) -> Self:
        """Everything in one directory; it is made when the engine is opened."""
        return cls(directory / "journal.sqlite3", directory / "vault", directory / "owners")


def check_places(paths: Places) -> None:
    """Check what `open_engine` is given. Raises `TypeError` for anything without the three paths."""
    for name in ("journal", "vault", "owners"):
        try:
            value: object = getattr(paths, name)
        except (AttributeError, TypeError) as exc:  # as of `CloudPaths` that was made with a str
            raise TypeError(
                f"open_engine takes EnginePaths or CloudPaths, made of pathlib.Path, not {kind_of(paths)}: its "
                f"{name} cannot be read: {exc}"
            ) from exc
        if not isinstance(value, Path):
            raise TypeError(f"open_engine: {kind_of(paths)}.{name} is a {kind_of(value)}, not a pathlib.Path")


def directory_maker(paths: Places) -> Callable[[Path], None]:
    """What makes the journal's directory: the paths themselves, where they know how, else the general rule."""
    ours = {path.name for path in (paths.journal, paths.vault, paths.owners)}
    make: Callable[[Path], None] | None = getattr(paths, "make_directory", None)
    return make or (lambda directory: ensure_own_directory(directory, ours))
