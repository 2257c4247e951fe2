"""Whose the stored tenants are: `accounts.json`, beside `tenants.json` and ours alone.

`tenants.json` is shared with the Rust CLI and does not say which account a tenant belongs to. While one account is
logged in, what is stored is that account's. When another one logs in, the tenants that are stored are written down here
as the first one's, before anything of the new login is stored. The tenants that the last synchronization did not list
are written down too: neither kind is ever chosen where no tenant is named.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from ...base.decoding import UNREADABLE
from ...base.errors import CloudError
from ...base.files import locked, read_private, set_aside, write_private
from ...base.log import get_logger
from .cloud_dir import ensure_cloud_dir
from .credentials import CloudCredentials
from .paths import CloudPaths
from .tenants import TenantStore

logger = get_logger(__name__)

FILE: Final = "accounts.json"


class Accounts(msgspec.Struct, kw_only=True):
    """The content of `accounts.json`.

    Attributes:
        owners: Of tenants that another account's login left here: its account, by the tenant's id.
        unlisted: The stored tenants that the API did not list when they were synchronized last.
        name: What the account was called that logged in here last with a name.
        named: That account; the name holds while it is the one that is logged in.
    """

    owners: dict[str, str] = {}
    unlisted: tuple[str, ...] = ()
    name: str = ""
    named: str = ""


def account_of(credentials: CloudCredentials) -> str:
    """What an account is called here: its e-mail and its API."""
    return f"{credentials.user_email.casefold()} at {credentials.api_url.rstrip('/')}"


def accounts_path(paths: CloudPaths) -> Path:
    """Where the file is: beside the tenants it tells about."""
    return paths.tenants.parent / FILE


def load_accounts(paths: CloudPaths) -> Accounts:
    """What is known; nothing when there is no file, or none that can be read."""
    try:
        return _load(accounts_path(paths))
    except (*UNREADABLE, CloudError) as exc:
        logger.warning("whose the stored tenants are cannot be read in %s: %s", accounts_path(paths), exc)
        return Accounts()


def note_login(paths: CloudPaths, credentials: CloudCredentials, name: str = "") -> None:
    """Write down whose the stored tenants are, where these credentials are about to replace another account's.

    Args:
        paths: Where the login is stored.
        credentials: The new login.
        name: What the account is called; empty where it was given no name.

    Raises:
        UnsafeFile: The file or its directory is a symbolic link or belongs to another user.
        Io: It cannot be written.
    """
    after = account_of(credentials)
    before, left = _left_by_another(paths, after)
    if not left and not name:
        return
    with _updating(paths) as accounts:
        for tenant in left:
            accounts.owners.setdefault(tenant, before)
        if name:
            accounts.name, accounts.named = name, after


def _left_by_another(paths: CloudPaths, account: str) -> tuple[str, list[str]]:
    """The stored login's account and the tenants stored with it, where it is another account."""
    try:
        before = account_of(CloudCredentials.peek_at_path(paths.credentials))
        stored = TenantStore.load_from_path(paths.tenants).tenants
    except CloudError:  # no login, or nothing is stored: there is nothing to tell apart
        return "", []
    return before, [] if before == account else [tenant.id for tenant in stored if tenant.is_cloud]


def note_sync(paths: CloudPaths, listed: Iterable[str], unlisted: Iterable[str]) -> None:
    """Write down what the API has listed for the account that is logged in, and what is stored besides.

    Raises:
        UnsafeFile: As `note_login`.
        Io: As `note_login`.
    """
    gone = tuple(sorted(unlisted))
    if not accounts_path(paths).exists() and not gone:
        return
    with _updating(paths) as accounts:
        for tenant in listed:
            accounts.owners.pop(tenant, None)
        accounts.unlisted = gone


def current_account(paths: CloudPaths) -> str | None:
    """The account of the stored login; None when there is none that can be read."""
    try:
        return account_of(CloudCredentials.peek_at_path(paths.credentials))
    except CloudError:
        return None


def strangers(paths: CloudPaths, account: str | None) -> dict[str, str]:
    """The tenants that are stored here and belong to other accounts, by their ids, with whose each is.

    Args:
        paths: Where they are stored.
        account: The account whose login is used; None when that is not known: then there are none.
    """
    if account is None:
        return {}
    owners, stored = load_accounts(paths).owners, current_account(paths)
    if stored is not None and stored != account:  # the login of the environment is used, beside one that is stored
        try:
            others = TenantStore.load_from_path(paths.tenants).tenants
        except CloudError:
            others = ()
        owners = {**{each.id: stored for each in others if each.is_cloud}, **owners}
    return {tenant: owner for tenant, owner in owners.items() if owner != account}


@contextmanager
def _updating(paths: CloudPaths) -> Generator[Accounts]:
    path = accounts_path(paths)
    ensure_cloud_dir(path.parent, path.name)
    with locked(path):
        try:
            accounts = _load(path)
        except UNREADABLE as exc:
            logger.warning("%s cannot be understood: %s; it is %s now", path, exc, set_aside(path))
            accounts = Accounts()
        yield accounts
        write_private(path, msgspec.json.format(msgspec.json.encode(accounts)) + b"\n")


def _load(path: Path) -> Accounts:
    data = read_private(path)
    return Accounts() if data is None else msgspec.json.decode(data, type=Accounts)
