"""Make another account the active one: its files and those at the root change places.

Several files cannot be replaced in one step. So what they are going to hold is written first, as one file,
`accounts/switch.json`; then each file is replaced, and that one removed. A process that is killed before it is written
has changed nothing; killed later, the next command finds it and completes the switch. Where another program, the Rust
CLI for example, has written a file at the root since, the switch is undone instead, and that file stays.

Whoever decides where an account's files are, and writes them, holds the lock of `switch.json`.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Final

import msgspec

from ...base.decoding import UNREADABLE
from ...base.errors import CloudError
from ...base.files import locked, read_private, remove_private, set_aside, write_private
from ...base.log import get_logger
from .account_paths import account_paths, active_name, folder_of, root_paths
from .accounts import FILE, account_of, load_accounts, note_login
from .cloud_dir import ensure_cloud_dir, make_hidden
from .credentials import CloudCredentials
from .keyring_entries import forget_all, forget_others, put
from .keyring_store import KeyringStore
from .paths import ACCOUNTS, CloudPaths, switch_path
from .unknown import plain_record

logger = get_logger(__name__)

FILES: Final = ("tenants.json", FILE, "credentials.json")
"""The files of an account, in the order in which they are replaced: the login last."""


class Replacement(msgspec.Struct, frozen=True):
    """A file, relative to the directory, what it holds before the switch and after it; None for no file."""

    file: str
    before: bytes | None
    after: bytes | None


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
        UnsafeFile: A file is a symbolic link or belongs to another user.
        Io: A file cannot be read or written.
    """
    store = store or KeyringStore()
    complete_switch(paths, store=store)
    root = root_paths(paths)
    CloudCredentials.peek_at_path(account_paths(paths, name).credentials)
    with _deciding(paths):
        _complete_left(root, store)
        if account_paths(paths, name).credentials == root.credentials:
            return CloudCredentials.peek_at_path(root.credentials)
        old = active_name(root)
        if old is None and os.path.lexists(root.credentials):
            CloudCredentials.peek_at_path(root.credentials)  # it cannot be read; the error names the file
        folders = [folder_of(paths, each) for each in (name, old) if each]
        for folder in folders:
            ensure_cloud_dir(folder, FILE, ACCOUNTS)
        with _locks(root, folders):
            CloudCredentials.peek_at_path(folder_of(paths, name) / "credentials.json")
            replacements = [*_replacements(root, name, old, store)]
            write_private(switch_path(paths), msgspec.json.encode(replacements))
            _complete(root, replacements, store)
        return CloudCredentials.peek_at_path(root.credentials)


def save_login(paths: CloudPaths, account: str, credentials: CloudCredentials, *, keyring: bool | None) -> Path:
    """Store a login where its account's files are now.

    Args:
        paths: The directory; without an account, where the login is stored.
        account: The name of the account; empty for the one of these paths.
        credentials: The login.
        keyring: As for `CloudCredentials.save_to_path`.

    Returns:
        The file it is stored in.

    Raises:
        KeyringUnavailable: As for `CloudCredentials.save_to_path`.
        UnsafeFile: A file is a symbolic link or belongs to another user.
        Io: A file cannot be read or written.
    """
    with _deciding(paths) if account else nullcontext():
        own = account_paths(paths, account) if account else paths
        note_login(own, credentials, account)
        credentials.save_to_path(own.credentials, keyring=keyring)
        return own.credentials


@contextmanager
def _deciding(paths: CloudPaths) -> Generator[None]:
    """Alone with the question where the accounts' files are."""
    ensure_cloud_dir(paths.directory, FILE, ACCOUNTS)
    make_hidden(switch_path(paths).parent)
    with locked(switch_path(paths)):
        yield


def complete_switch(paths: CloudPaths, *, store: KeyringStore | None = None) -> None:
    """Complete a switch that was killed; without one nothing is done.

    Raises:
        UnsafeFile: A file is a symbolic link or belongs to another user.
        Io: A file cannot be read or written.
    """
    path = switch_path(paths)
    if not os.path.lexists(path):
        return
    with _deciding(paths):
        _complete_left(root_paths(paths), store or KeyringStore())


def _complete_left(root: CloudPaths, store: KeyringStore) -> None:
    path = switch_path(root)
    data = read_private(path)
    if data is None:  # another process has completed it
        return
    try:
        replacements = msgspec.json.decode(data, type=list[Replacement])
    except UNREADABLE as exc:
        logger.warning("%s cannot be understood: %s; it is %s now", path, exc, set_aside(path))
        return
    folders = {(root.directory / each.file).parent for each in replacements} - {root.directory}
    with _locks(root, [*folders]):
        _complete(root, replacements, store)


def _locks(root: CloudPaths, folders: list[Path]) -> ExitStack:
    """The locks of the root's files first, then those of the accounts by name: no two processes wait for each other."""
    with ExitStack() as stack:
        for folder in (root.directory, *sorted(set(folders))):
            for name in sorted(FILES):
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
    """Tenants of no account that is logged in: they must not be lost."""
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
    """Replace each file that has not been yet, or undo what was. All locks are held."""
    if _is_overtaken(root, replacements):
        replacements = [*_undone(root, replacements)]
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


def _is_overtaken(root: CloudPaths, replacements: list[Replacement]) -> bool:
    """Whether another program has written a file at the root before the login there was replaced."""
    found = {each.file: read_private(root.directory / each.file) for each in replacements if _is_at_root(each)}
    if any(each.file == "credentials.json" and found[each.file] == each.after for each in replacements):
        return False
    return any(found[each.file] not in (each.before, each.after) for each in replacements if _is_at_root(each))


def _undone(root: CloudPaths, replacements: list[Replacement]) -> Iterator[Replacement]:
    """What takes a switch back. Where the login at the root is another now, the copy in the folder is the only one."""
    kept = any(
        each.file == "credentials.json" and read_private(root.directory / each.file) == each.before
        for each in replacements
    )
    for each in replacements:
        if _is_at_root(each) or (kept and each.after is not None):
            yield Replacement(each.file, each.after, each.before)


def _is_at_root(each: Replacement) -> bool:
    return each.file in FILES


def _forget_entries(path: Path, store: KeyringStore) -> None:
    try:
        token = CloudCredentials.peek_at_path(path).api_token
    except CloudError:
        token = ""
    if token:
        forget_others(store, path, token)
    else:
        forget_all(store, path, "")
