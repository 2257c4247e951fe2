"""Make another account the active one: its files and those at the root change places.

Several files cannot be replaced in one step. So what they are going to hold is written first, as one file,
`accounts/switch.json`; then each file is replaced, and that one removed. A process that is killed before it is written
has changed nothing; killed later, the next command finds it and completes the switch. A file that somebody else has
written since, the Rust CLI for example, is left as it is.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import msgspec

from ...base.decoding import UNREADABLE
from ...base.errors import CloudError
from ...base.files import locked, read_private, remove_private, set_aside, write_private
from ...base.log import get_logger
from .account_paths import ACCOUNTS, account_paths, active_name, folder_of, root_paths
from .accounts import FILE, account_of, load_accounts
from .cloud_dir import ensure_cloud_dir
from .credentials import CloudCredentials
from .keyring_entries import forget_all, forget_others, put
from .keyring_store import KeyringStore
from .paths import CloudPaths
from .unknown import plain_record

logger = get_logger(__name__)

SWITCH: Final = "switch.json"

FILES: Final = ("tenants.json", FILE, "credentials.json")
"""The files of an account, in the order in which they are replaced: the login last."""


class Replacement(msgspec.Struct, frozen=True):
    """A file, relative to the directory, what it holds before the switch and after it; None for no file."""

    file: str
    before: bytes | None
    after: bytes | None


def switch_path(paths: CloudPaths) -> Path:
    """The file that is there while a switch is not complete."""
    return paths.directory / ACCOUNTS / SWITCH


def switch_account(paths: CloudPaths, name: str, *, store: KeyringStore | None = None) -> CloudCredentials:
    """Make an account the active one.

    Args:
        paths: The directory.
        name: The account; it is logged in.
        store: The system's keyring: tokens in it move along.

    Returns:
        The account's login; its token may be a marker.

    Raises:
        NotAuthenticated: It is not logged in.
        CredentialsCorrupted: Its login or the active one cannot be understood.
        KeyringUnavailable: One of the two tokens is in the keyring, which cannot be used.
        UnsafeFile: A file is a symbolic link or belongs to somebody else.
        Io: A file cannot be read or written.
    """
    store = store or KeyringStore()
    complete_switch(paths, store=store)
    root, target = root_paths(paths), account_paths(paths, name)
    CloudCredentials.peek_at_path(target.credentials)
    if target.credentials == root.credentials:
        return CloudCredentials.peek_at_path(root.credentials)
    old = active_name(root)
    if old is None and os.path.lexists(root.credentials):
        CloudCredentials.peek_at_path(root.credentials)  # it cannot be read; the error names the file
    folders = [folder_of(paths, each) for each in (name, old) if each]
    for folder in (paths.directory, *folders):
        ensure_cloud_dir(folder, FILE, ACCOUNTS)
    with _locks(root, folders):
        replacements = [*_replacements(root, name, old, store)]
        write_private(switch_path(paths), msgspec.json.encode(replacements))
        _complete(root, replacements, store)
    return CloudCredentials.peek_at_path(root.credentials)


def complete_switch(paths: CloudPaths, *, store: KeyringStore | None = None) -> None:
    """Complete a switch that was killed; without one nothing is done.

    Raises:
        UnsafeFile: A file is a symbolic link or belongs to somebody else.
        Io: A file cannot be read or written.
    """
    path = switch_path(paths)
    if not os.path.lexists(path):
        return
    root = root_paths(paths)
    with _locks(root, []):
        data = read_private(path)
        if data is None:  # another process has completed it
            return
        try:
            replacements = msgspec.json.decode(data, type=list[Replacement])
        except UNREADABLE as exc:
            logger.warning("%s cannot be understood: %s; it is %s now", path, exc, set_aside(path))
            return
        with ExitStack() as held:
            for folder in dict.fromkeys((paths.directory / each.file).parent for each in replacements):
                if folder != paths.directory:
                    held.enter_context(_locks_in(folder))
            _complete(root, replacements, store or KeyringStore())


def _locks(root: CloudPaths, folders: list[Path]) -> ExitStack:
    """The locks of the root's files first, then those of the accounts by name: no two processes wait for each other."""
    with ExitStack() as stack:
        stack.enter_context(locked(root.credentials))
        stack.enter_context(locked(root.tenants))
        for folder in sorted(set(folders)):
            stack.enter_context(_locks_in(folder))
        return stack.pop_all()


def _locks_in(folder: Path) -> ExitStack:
    with ExitStack() as stack:
        for name in ("credentials.json", "tenants.json"):
            stack.enter_context(locked(folder / name))
        return stack.pop_all()


def _replacements(root: CloudPaths, name: str, old: str | None, store: KeyringStore) -> Iterator[Replacement]:
    """What each file will hold: first the active account's files are copied, then replaced, then the others removed."""
    new = folder_of(root, name)
    at_root = {file: read_private(root.directory / file) for file in FILES}
    chosen = {file: read_private(new / file) for file in FILES}
    after = chosen | {
        "credentials.json": _moved(new, root.directory, chosen["credentials.json"], store),
        FILE: _named(account_paths(root, name), name),
    }
    if old is None:
        _keep_unowned(root)
        at_root["tenants.json"] = read_private(root.tenants)
    else:
        place = folder_of(root, old)
        kept = at_root | {"credentials.json": _moved(root.directory, place, at_root["credentials.json"], store)}
        for file in FILES:
            yield Replacement(f"{ACCOUNTS}/{old}/{file}", read_private(place / file), kept[file])
    for file in FILES:
        yield Replacement(file, at_root[file], after[file])
    for file in FILES:
        yield Replacement(f"{ACCOUNTS}/{name}/{file}", chosen[file], None)


def _keep_unowned(root: CloudPaths) -> None:
    """Tenants that nobody who is logged in has stored: they are no account's, and must not be lost."""
    if os.path.lexists(root.tenants):
        logger.warning(
            "%s belongs to no account that is logged in; it is %s now", root.tenants, set_aside(root.tenants)
        )


def _moved(folder: Path, to: Path, data: bytes | None, store: KeyringStore) -> bytes | None:
    """A login's file as it is in another folder: a token in the keyring gets an entry of its own there."""
    path, place = folder / "credentials.json", to / "credentials.json"
    if data is None or not CloudCredentials.peek_at_path(path).in_keyring:
        return data
    try:
        before = CloudCredentials.peek_at_path(place).api_token
    except CloudError:
        before = ""
    plain = put(store, place, plain_record(CloudCredentials.load_from_path(path, store=store)), before)
    return msgspec.json.format(msgspec.json.encode(plain)) + b"\n"


def _named(paths: CloudPaths, name: str) -> bytes:
    """An account's `accounts.json` with its name, which its folder had."""
    account = account_of(CloudCredentials.peek_at_path(paths.credentials))
    named = msgspec.structs.replace(load_accounts(paths), name=name, named=account)
    return msgspec.json.format(msgspec.json.encode(named)) + b"\n"


def _complete(root: CloudPaths, replacements: list[Replacement], store: KeyringStore) -> None:
    """Replace each file that has not been yet. All locks are held."""
    for each in replacements:
        path = root.directory / each.file
        found = read_private(path)
        if found == each.after:
            continue
        if found != each.before:
            logger.warning("%s was changed by another program while the account was switched; it is kept", path)
        elif each.after is None:
            remove_private(path)
        else:
            write_private(path, each.after)
    remove_private(switch_path(root))
    for each in replacements:
        path = root.directory / each.file
        if path.name == "credentials.json":
            _forget_entries(path, store)


def _forget_entries(path: Path, store: KeyringStore) -> None:
    try:
        token = CloudCredentials.peek_at_path(path).api_token
    except CloudError:
        token = ""
    if token:
        forget_others(store, path, token)
    else:
        forget_all(store, path, "")
