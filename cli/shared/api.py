"""The API a command means, checked before a token goes there, and calls to it outside a flow.

What they need is imported when one is made.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from ...errors import Network
from .settings import Settings, usable_api

if TYPE_CHECKING:
    from ...io.cloud.api import CloudApiClient
    from ...io.local.keyring_store import KeyringStore

T = TypeVar("T")


def checked_api(url: str) -> str:
    """An API's address as it is called, if a token may be sent there. Raises `UnsafeUrl`."""
    from ...io.cloud.api import CloudApiClient

    return CloudApiClient(url).api_url


def require_login(settings: Settings, keyring: KeyringStore | None = None) -> str:
    """The address of the API that is meant, as it is called, when the login is for it and still valid.

    Args:
        settings: The global options.
        keyring: Where the token may be kept, and is remembered.

    Raises:
        NotAuthenticated: It is not; log in first.
        UnsafeUrl: A token must not go there.
    """
    from ...flows.services import Services

    checked = checked_api(usable_api(settings).url)
    Services(settings.paths, environ=os.environ, keyring=keyring).credentials(checked)
    return checked


def ask_api(settings: Settings, question: Callable[[CloudApiClient], Awaitable[T]], *, seconds: float = 60.0) -> T:
    """Ask the API something as the logged-in user.

    Args:
        settings: The global options.
        question: Makes the call.
        seconds: How long the whole may take.

    Raises:
        NotAuthenticated: Nobody is logged in there.
        CloudError: As the call raises.
        Network: It took longer.
    """
    import trio

    from ...flows.services import Services
    from ...io.local.keyring_store import KeyringStore
    from .signals import run

    keyring = KeyringStore()
    api_url = require_login(settings, keyring)

    async def main() -> T:
        async with Services(settings.paths, environ=os.environ, keyring=keyring) as services:
            try:
                with trio.fail_after(seconds):
                    return await question(await services.api(api_url))
            except trio.TooSlowError as exc:
                raise Network(f"{api_url} gave no answer within {seconds:g} s") from exc

    return run(main)


def ask_once(settings: Settings, call: Callable[[CloudApiClient, str], Awaitable[T]]) -> T:
    """`ask_api` for what acts each time it arrives.

    The call gets an idempotency key of its own: when the answer is lost and the server honours the key, asking again
    finds the same answer instead of acting twice.
    """
    import secrets

    key = secrets.token_hex(16)
    return ask_api(settings, lambda api: call(api, key))
