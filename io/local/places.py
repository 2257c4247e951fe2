"""Try the places where a flow will keep things, before a person is sent to a browser: the one place that refuses them.

A login that cannot be stored, or a payment whose tenant cannot, is found out here, at once, with the directory's name.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path

from ...base.directories import make_hidden
from ...base.errors import DirectoryUnusable, Io, UnsafeFile
from ...base.files import ensure_private_dir, refuse_foreign
from ...base.probing import try_directory, unusable
from ...base.remedies import Remedy
from .cloud_dir import refuse_foreign as refuse_directory_in_use
from .paths import CloudPaths


def try_places(paths: CloudPaths, *, stores: bool = True) -> None:
    """Make the directories, and try whether they can do what files of ours need.

    Args:
        paths: Where everything is kept.
        stores: Whether credentials or tenants are going to be stored; else only the journal's directory is tried.

    Raises:
        DirectoryUnusable: A directory cannot be made or written, keeps no files private, or has no locks.
        DirectoryInUse: A directory holds other things and nothing of ours. Nothing was changed.
        UnsafeFile: A directory, or a file that will be replaced, is a symbolic link or belongs to another user.
        Io: A directory cannot be looked into.
    """
    files = (paths.credentials, paths.tenants) if stores else ()
    for directory in dict.fromkeys([*(path.parent for path in files), paths.state_directory]):
        _try(directory, [path.name for path in files if path.parent == directory])
    for path in _kept(files):
        try:
            refuse_foreign(path, path.lstat())
        except FileNotFoundError:
            continue
        except OSError as exc:
            raise unusable(path.parent, "cannot be used", exc) from exc


def _kept(files: Collection[Path]) -> Iterator[Path]:
    """The files that will be replaced, and their locks."""
    for path in files:
        yield path
        yield path.with_name(f"{path.name}.lock")


def _try(directory: Path, names: Collection[str]) -> None:
    if directory.is_symlink():
        real = os.path.realpath(directory)
        raise UnsafeFile(
            f"{directory} is a symbolic link, to {real}; it is not followed",
            hint="Use the directory it leads to, by its real path.",
            remedy=Remedy("real_directory", {"directory": real}),
        )
    refuse_directory_in_use(directory, *names)
    try:
        ensure_private_dir(directory)
        try_directory(directory)
        make_hidden(directory)
    except UnsafeFile:
        raise
    except DirectoryUnusable:
        raise
    except Io as exc:
        if isinstance(exc.__cause__, OSError):
            raise unusable(directory, "cannot be used", exc.__cause__) from exc
        raise
