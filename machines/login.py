"""Logging in: from nothing to credentials on disk.

Theory
------
A login is a conversation with a person in a browser, and the person may take minutes, close the terminal, or come from
somewhere else entirely. So the flow first *asks* the API where the person should go (`requesting_authorization`), then
waits (`awaiting_callback`) for the browser to come back to a loopback port with a token. The wait is bound to a nonce
that travels in the redirect URI; both the nonce and the port are kept, so a login whose terminal was closed accepts the
tab that is still open (RFC 8252 section 7.3; RFC 9700 section 4.7 for why a nonce).

A callback is a claim, not a fact: the token counts only after the API accepted it (`verifying_token`), and only then
are the old credentials replaced (`saving_credentials`). If the API cannot take a redirect URI with a query, the
callback is *unbound*; then anybody could have sent it, and a person must confirm the account (`confirming_account`)
first. Telling the API about the login (`reporting_login`) is optional: it never makes a good login fail.

    requesting_authorization -> awaiting_callback -> verifying_token -> saving_credentials -> reporting_login
                                                         | unbound                              |
                                                         v                                      v
                                                   confirming_account                      authenticated
    and the other ends: denied, timed_out, failed, cancelled
"""

from __future__ import annotations

from typing import Final

import msgspec

from ..engine.machine.machine import Machine
from ..engine.machine.parts import (
    ANY,
    STAY,
    CancelRequested,
    Context,
    DeadlinePassed,
    Event,
    ResumePolicy,
    State,
    Verdict,
    on,
)
from .parts.defaults import BROWSER_SECONDS, LOGIN_PORT
from .parts.vocabulary import BrowserNotOpened, BrowserOpened, cancelled, explained, invited

DENIED: Final = "denied"
TIMED_OUT: Final = "timed_out"
"""The ends that tell a caller more than that the login failed."""

REDIRECT_ERRORS: Final = {"access_denied": "the login was refused"}
"""What a code in the redirect means, for a redirect without a description (RFC 6749 section 4.1.2.1)."""


class LoginContext(Context, frozen=True, kw_only=True):
    """What a login knows. `nonce`, `url` and `token` are references to the vault, never the values.

    `keyring` is where the token is to be kept: in the operating system's keyring, in the file, or, when None, where the
    login that it replaces was kept. `account` is the name of the account to store it as; empty for the active one.
    """

    api_url: str
    provider: str = "github"
    port: int = LOGIN_PORT
    timeout: float = BROWSER_SECONDS
    bound: bool = True
    keyring: bool | None = None
    account: str = ""
    nonce: str = ""
    url: str = ""
    token: str = ""
    invited: bool = False
    authenticated_at: str = ""
    user_id: str = ""
    user_email: str = ""
    credentials_path: str = ""


class AuthorizationOffered(Event, frozen=True):
    """The API gave the URL the person should visit; the callback will come to `port`."""

    port: int
    nonce: str
    url: str


class AuthorizationRefused(Event, frozen=True):
    """The API will not start a login like this one."""

    problem: str
    code: str = ""


class PortTaken(Event, frozen=True):
    """The port for the callback is in use; no browser was opened."""

    problem: str
    code: str = ""


class TokenProvided(Event, frozen=True):
    """A token was handed in; no browser is needed."""

    token: str


class CallbackReceived(Event, frozen=True):
    """The browser came back with a token."""

    token: str


class AuthorizationDenied(Event, frozen=True):
    """The browser came back with an error: the person, or the provider, denied the login.

    `error` is the code of the redirect (RFC 6749 section 4.1.2.1).
    """

    error: str
    problem: str


class TokenAccepted(Event, frozen=True):
    """The API knows the token's user."""

    user_id: str
    user_email: str


class TokenRefused(Event, frozen=True):
    """The API does not accept the token."""

    problem: str
    code: str = ""


class AccountConfirmed(Event, frozen=True):
    """The person says the account found is theirs."""


class AccountDisowned(Event, frozen=True):
    """The person says the account found is not theirs."""


class CredentialsSaved(Event, frozen=True):
    """The credentials are on disk."""

    path: str
    at: str


class LoginReported(Event, frozen=True):
    """The API was told about the login."""


class LoginNotReported(Event, frozen=True):
    """The API could not be told about the login, which changes nothing for the person."""

    reason: str


def _offered(context: LoginContext, event: AuthorizationOffered) -> LoginContext:
    return msgspec.structs.replace(context, port=event.port, nonce=event.nonce, url=event.url)


def _provided(context: LoginContext, event: TokenProvided | CallbackReceived) -> LoginContext:
    return msgspec.structs.replace(context, token=event.token)


def _identified(context: LoginContext, event: TokenAccepted) -> LoginContext:
    return msgspec.structs.replace(context, user_id=event.user_id, user_email=event.user_email)


def _saved(context: LoginContext, event: CredentialsSaved) -> LoginContext:
    return msgspec.structs.replace(context, credentials_path=event.path, authenticated_at=event.at)


def _disowned(context: LoginContext, _event: AccountDisowned) -> LoginContext:
    return msgspec.structs.replace(context, problem=f"the account {context.user_email} was not confirmed")


def _expired(context: LoginContext, _event: DeadlinePassed) -> LoginContext:
    # Histories are folded with these words: others would differ from what older flows have stored.
    return msgspec.structs.replace(context, problem=f"nobody came back from the browser within {context.timeout:g} s")


def callback_is_bound(context: LoginContext, _event: TokenAccepted) -> bool:
    """The callback carried our nonce (or no callback was needed), so it answers our own question."""
    return context.bound


def _result(context: LoginContext) -> dict[str, object]:
    return {
        "user_id": context.user_id,
        "user_email": context.user_email,
        "api_url": context.api_url,
        "credentials": context.credentials_path,
    }


LOGIN: Final = Machine(
    "login",
    version=1,
    # Release 0.1.0; without the code of BrowserNotOpened; without the name of the account.
    known_as=["7570314cd59ef311", "d448d0239cac7235", "f89bbcaa9989a485"],
    initial="requesting_authorization",
    course=(
        "requesting_authorization",
        "awaiting_callback",
        "verifying_token",
        "saving_credentials",
        "reporting_login",
        "authenticated",
    ),
    context=LoginContext,
    result=_result,
    states=[
        State("requesting_authorization", "preparing the login"),
        State("awaiting_callback", "waiting for the browser to come back", timeout="timeout"),
        State("verifying_token", "verifying the token"),
        State("confirming_account", "waiting for you to confirm the account", timeout="timeout"),
        State(
            "saving_credentials",
            "writing the credentials",
            effect="replaces credentials.json",
            resume=ResumePolicy.RETRY,
        ),
        State(
            "reporting_login",
            "reporting the login to the API",
            timeout=5.0,
            effect="reports the login to the API",
            resume=ResumePolicy.RECONCILE,
        ),
        State("authenticated", "logged in", verdict=Verdict.SUCCESS),
        State(DENIED, "the login was refused", verdict=Verdict.FAILURE),
        State(TIMED_OUT, "timed out waiting for the browser", verdict=Verdict.FAILURE),
        State("failed", "the login failed", verdict=Verdict.FAILURE),
        State("cancelled", "the login was cancelled", verdict=Verdict.CANCELLED),
    ],
    rows=[
        on(AuthorizationOffered, "requesting_authorization", "awaiting_callback", update=_offered),
        on(AuthorizationRefused, "requesting_authorization", "failed", update=explained),
        on(PortTaken, "requesting_authorization", "failed", update=explained),
        on(TokenProvided, "requesting_authorization", "verifying_token", update=_provided),
        on(BrowserOpened, "awaiting_callback", STAY, update=invited),
        on(BrowserNotOpened, "awaiting_callback", STAY),
        on(CallbackReceived, "awaiting_callback", "verifying_token", update=_provided),
        on(AuthorizationDenied, "awaiting_callback", DENIED, update=explained),
        on(DeadlinePassed, "awaiting_callback", TIMED_OUT, update=_expired),
        on(TokenAccepted, "verifying_token", "saving_credentials", when=callback_is_bound, update=_identified),
        on(TokenAccepted, "verifying_token", "confirming_account", update=_identified),
        on(TokenRefused, "verifying_token", "failed", update=explained),
        on(AccountConfirmed, "confirming_account", "saving_credentials"),
        on(AccountDisowned, "confirming_account", DENIED, update=_disowned),
        on(DeadlinePassed, "confirming_account", TIMED_OUT, update=_expired),
        on(CredentialsSaved, "saving_credentials", "reporting_login", update=_saved),
        on(LoginReported, "reporting_login", "authenticated"),
        on(LoginNotReported, "reporting_login", "authenticated"),
        on(DeadlinePassed, "reporting_login", "authenticated"),
        # The credentials are saved already: cancelling now leaves the person logged in.
        on(CancelRequested, "reporting_login", "authenticated"),
        on(CancelRequested, ANY, "cancelled", update=cancelled),
    ],
)
