"""What the files shared with the Rust CLI have in common: how one is read, and how one is changed.

Each of them (`credentials.py`, `tenants.py`, `sessions.py`, `session_store.py`) is read in the same way: bounded, as
one JSON object, and whatever is wrong with it names the file and the field. It is changed in the same three steps:
take the file's lock, read what is there *now*, write the whole anew. Whoever reads first and locks later writes back
what another process has changed meanwhile; so the steps are one context manager. What cannot be read is no reason to
stop, and no reason to lose it either: it is set aside under a name that the warning shows.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

import msgspec

from ...base.decoding import UNREADABLE
from ...base.errors import CloudError, Io, UnsafeFile
from ...base.files import locked, read_private, set_aside, write_private
from ...base.log import get_logger
from ...base.misfit import malformed
from ...errors import CredentialsCorrupted, SessionsCorrupted, TenantsStoreCorrupted, TenantsStoreInvalid
from .cloud_dir import ensure_cloud_dir

logger = get_logger(__name__)

_T = TypeVar("_T")


def read_shared(
    path: Path,
    what: str,
    build: Callable[[dict[str, Any]], _T],
    broken: type[CloudError],
    *,
    no_json: type[CloudError] | None = None,
) -> _T | None:
    """Read a shared file.

    Args:
        path: The file.
        what: What it should hold, for an error's message.
        build: Makes it of the file's object; what it says against a field becomes the error's message.
        broken: The error that a field is missing or breaks its rule.
        no_json: The error that it is not JSON, where that is another one.

    Returns:
        What `build` made, or None when, and only when, there is no such file.

    Raises:
        UnsafeFile: It is a symbolic link or belongs to somebody else.
        Io: It is there and cannot be read.
    """
    data = read_private(path)
    if data is None:
        return None
    try:
        return build(_object(data))
    except UNREADABLE as exc:
        problem = exc if data.strip() else "it is empty"
        if no_json is None or isinstance(exc, msgspec.ValidationError):
            raise broken(f"{path} does not hold {what}: {problem}") from exc
        raise no_json(f"{path} is not JSON: {problem}") from exc


def _object(data: bytes) -> dict[str, Any]:
    """The JSON object in a file; what is wrong with it is raised in words."""
    try:
        found: object = msgspec.json.decode(data)
    except UNREADABLE as exc:
        raise msgspec.DecodeError(malformed(data)) from exc
    if not isinstance(found, dict):
        raise msgspec.ValidationError("it is not an object")
    return cast("dict[str, Any]", found)


@contextmanager
def part(name: str) -> Generator[None]:
    """Say of which part of a file it is that a field is missing or breaks its rule."""
    try:
        yield
    except msgspec.ValidationError as exc:
        raise msgspec.ValidationError(f"{name}: {exc}") from exc


@contextmanager
def held(path: Path, load: Callable[[Path], _T | None]) -> Generator[_T | None]:
    """Hold a shared file's lock, with what the file holds; its directory is made when it is missing.

    Args:
        path: The file.
        load: Reads it; None when it does not exist.

    Yields:
        What `load` returned; None as well when the file could not be read and was set aside.

    Raises:
        DirectoryInUse: The directory is in use for something else.
        UnsafeFile: The file or its directory is a symbolic link or belongs to somebody else.
        Io: The directory or the lock cannot be had.
        CloudError: What else `load` refuses, and must stay where it is.
    """
    ensure_cloud_dir(path.parent, path.name)
    with locked(path):
        try:
            found = load(path)
        except UnsafeFile:
            raise
        except (CredentialsCorrupted, TenantsStoreCorrupted, TenantsStoreInvalid, SessionsCorrupted, Io) as exc:
            aside = set_aside(path)
            logger.warning("%s; it is %s now", exc.user_message, aside)
            found = None
        yield found


def write_plain(path: Path, plain: dict[str, Any]) -> None:
    """Replace a shared file by this object, indented, as `files.write_private` does.

    Raises:
        UnsafeFile: The path is a symbolic link, or the file belongs to somebody else.
        Io: It could not be written; what was there before is unchanged.
    """
    write_private(path, msgspec.json.format(msgspec.json.encode(plain)) + b"\n")
