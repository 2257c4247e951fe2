"""The login that commands use: the environment's, else the stored one."""

from __future__ import annotations

import os
from datetime import datetime
from typing import TYPE_CHECKING

from ..shared.settings import Settings

if TYPE_CHECKING:
    from ...io.local.credentials import CloudCredentials


def used_login(settings: Settings, now: datetime) -> tuple[CloudCredentials, bool]:
    """The login, expired or not, and whether the environment holds it.

    Raises:
        NotAuthenticated: There is none.
        CredentialsCorrupted: It cannot be understood.
        KeyringUnavailable: Its token is in the keyring, which cannot be used.
        Io: Its file cannot be read.
    """
    from ...io.local.credentials import CloudCredentials
    from ...io.local.environment import environment_credentials, in_container, no_login_in_container

    handed = environment_credentials(os.environ, now)
    if handed is None and in_container(os.environ):
        raise no_login_in_container()
    return handed or CloudCredentials.load_from_path(settings.paths.credentials), handed is not None
