"""Calls to the API from commands that run no flow."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from ..errors import Network
from ..flows.services import Services
from ..io.api import CloudApiClient
from .settings import Settings, choose_api
from .signals import run

T = TypeVar("T")


def require_login(settings: Settings, api_url: str) -> str:
    """The API's address as it is called, when the login is for it and still valid.

    Raises:
        NotAuthenticated: They are not; log in first.
        UnsafeUrl: A token must not go there.
    """
    checked = CloudApiClient(api_url).api_url
    Services(settings.paths, environ=os.environ).credentials(checked)
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
    api_url = require_login(settings, choose_api(settings).url)

    async def main() -> T:
        async with Services(settings.paths, environ=os.environ) as services:
            try:
                with trio.fail_after(seconds):
                    return await question(await services.api(api_url))
            except trio.TooSlowError as exc:
                raise Network(f"{api_url} gave no answer within {seconds:g} s") from exc

    return run(main)
