"""Several accounts in one directory: what each is called, and where its files are.

The files at the root of the directory, which the Rust CLI shares, are always those of the active account. Every other
account has the same files, `credentials.json`, `tenants.json` and `accounts.json`, in `accounts/NAME/`. Sessions and
the journal are shared: each of their entries names its tenant or its flow.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

import msgspec

from ...base.errors import CloudError
from .accounts import account_of, load_accounts
from .credentials import CloudCredentials
from .paths import ACCOUNTS, CloudPaths
from .project import CloudPath

LONGEST_NAME: Final = 64

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._@+-]*")


def name_problem(name: str) -> str:
    """What is wrong with the name of an account, as the rest of a sentence; empty when it can be one."""
    if not name:
        return "is empty"
    if len(name) > LONGEST_NAME:
        return f"is longer than {LONGEST_NAME} characters"
    if not _NAME.fullmatch(name):
        return "may contain only a-z, 0-9 and . _ @ + -, and must begin with a letter or a digit"
    return ""


def name_of(credentials: CloudCredentials) -> str:
    """What an account is called that was given no name: its e-mail, without what a name cannot hold."""
    name = re.sub(r"[^a-z0-9._@+-]", "-", credentials.user_email.casefold())[:LONGEST_NAME]
    return name if _NAME.fullmatch(name) else f"a{name}"[:LONGEST_NAME]


def root_paths(paths: CloudPaths) -> CloudPaths:
    """The paths of the active account in the same directory."""
    return msgspec.structs.replace(paths, credentials_file=None, tenants_file=None)


def active_name(paths: CloudPaths) -> str | None:
    """What the active account is called; None without a login, or when the file cannot be read."""
    root = root_paths(paths)
    try:
        stored = CloudCredentials.peek_at_path(root.credentials)
    except CloudError:
        return None
    known = load_accounts(root)
    account = account_of(stored)
    if known.name and known.named == account:
        return known.name
    name, again = name_of(stored), 1
    while _is_of_another(folder_of(paths, name), account):  # the same e-mail at two APIs, say
        again += 1
        name = f"{name_of(stored)[: LONGEST_NAME - 4]}-{again}"
    return name


def _is_of_another(folder: Path, account: str) -> bool:
    file = CloudPath.CREDENTIALS.resolve(folder)
    try:
        return account_of(CloudCredentials.peek_at_path(file)) != account
    except CloudError:
        return os.path.lexists(file)


def other_names(paths: CloudPaths) -> list[str]:
    """The names of the accounts that are logged in besides the active one."""
    folder, active = paths.directory / ACCOUNTS, active_name(paths)
    try:
        names = sorted(os.listdir(folder))  # noqa: PTH208 - names are all it takes
    except OSError:
        return []
    there = CloudPath.CREDENTIALS.filename
    return [
        name for name in names if name != active and not name_problem(name) and os.path.lexists(folder / name / there)
    ]


def account_paths(paths: CloudPaths, name: str) -> CloudPaths:
    """Where the files of an account are.

    Args:
        paths: The directory.
        name: The account. One that is not logged in yet gets the root, where no account is active.
    """
    root = root_paths(paths)
    folder = folder_of(paths, name)
    active = active_name(paths)
    free = active is None and not os.path.lexists(root.credentials)
    if name == active or (free and not os.path.lexists(CloudPath.CREDENTIALS.resolve(folder))):
        return root
    return msgspec.structs.replace(
        root,
        credentials_file=CloudPath.CREDENTIALS.resolve(folder),
        tenants_file=CloudPath.TENANTS.resolve(folder),
    )


def account_name(paths: CloudPaths) -> str | None:
    """What the account of these paths is called; None as for `active_name`."""
    return active_name(paths) if paths.credentials_file is None else paths.credentials.parent.name


def folder_of(paths: CloudPaths, name: str) -> Path:
    """Where the files of an account are while it is not the active one."""
    return paths.directory / ACCOUNTS / name
