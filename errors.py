"""The cloud's kinds of errors: what can go wrong with logins, tenants, the API and the browser, and what fixes it.

`CloudError` (`base/errors.py`) is the root; the engine's kinds are in `engine/errors.py`. The head of each kind names
what sets it apart: the exit code, the hint, what it requires. Foreign exceptions are translated where they enter, in
`io/`, with their cause kept.

Exit codes: 0 done, 1 failed, 2 usage, 4 login needed, 5 refused or denied, 8 still pending (resumable),
130 interrupted (resumable).
"""

from __future__ import annotations

import re
from typing import Final, Literal

from .base.errors import CLI, EXIT_LOGIN_NEEDED, EXIT_PENDING, EXIT_REFUSED, EXIT_USAGE, CloudError

BootstrapReason = Literal["not_initialized", "already_initialized", "not_available"]
_LOOK: Final = "Look at the file; the next save sets it aside and writes a new one."

REFUSED: Final = "The API itself refused this: what it says has to change before it is asked again."


HINT_OF_CODE: Final = {
    "not_found": "Check --api-url: there is no such call at that address.",
    "tenant_not_found": f"See what is stored here: {CLI} tenants list. Read it from the API again: {CLI} tenants sync",
    "domain_not_found": f"There is nothing to take away; give the tenant one: {CLI} domain set DOMAIN",
    "secret_not_found": f"See what there is: {CLI} secrets list",
}
"""What mends the API's refusals that name what is missing, by the API's own code; any other is `REFUSED`."""


_REFUSAL = re.compile(r"[A-Z]+ \S+: (\S+): ")


def refusal_in_words(where: str, code: str, said: str) -> str:
    """A refusal of the API in a sentence, which is what the history of a flow keeps of it.

    Args:
        where: The call: its method and URL.
        code: The API's own code.
        said: What the API says for people.
    """
    return f"{where}: {code}: {said}"


def code_of_refusal(problem: str) -> str:
    """The code `refusal_in_words` put into a sentence; empty when the sentence is about anything else."""
    found = _REFUSAL.match(problem)
    return found[1] if found else ""


# --- who is asking -------------------------------------------------------------------------------------


class NotAuthenticated(CloudError, code=EXIT_LOGIN_NEEDED, login=True, hint=f"Log in: {CLI} login"):
    """Nobody is logged in, or the API refused the token (HTTP 401; RFC 6750 section 3.1)."""


class TokenExpired(NotAuthenticated, hint=f"Log in again: {CLI} login"):
    """The stored token's `exp` has passed (RFC 7519 section 4.1.4)."""


class ClockWrong(CloudError, code=EXIT_PENDING, hint=f"Set this computer's clock, then go on: {CLI} flows resume"):
    """The API accepts a token that has expired by this computer's clock: the clock is wrong, the login is good."""


class JwtDecode(CloudError, code=EXIT_LOGIN_NEEDED, login=True, hint=f"Log in again: {CLI} login"):
    """A token is not a readable JWT."""


class CredentialsCorrupted(
    CloudError,
    code=EXIT_LOGIN_NEEDED,
    login=True,
    hint=f"Look at the file; `{CLI} login` sets it aside and writes a new one.",
):
    """credentials.json cannot be read or does not hold what it must."""


class KeyringUnavailable(
    CloudError, hint=f"Start or unlock the keyring and run the same command again, or: {CLI} login --no-keyring"
):
    """The login is kept in the operating system's keyring, and that is absent, locked or does not answer."""


class CredentialsBootstrapError(CloudError, hint="Call CredentialsBootstrap.init once, when the program starts."):
    """The credentials of a process were asked for too early, looked for twice, or there are none.

    Attributes:
        reason: `not_initialized`, `already_initialized` or `not_available`.
    """

    def __init__(self, reason: BootstrapReason, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.reason = reason


class LoginDenied(CloudError, code=EXIT_REFUSED, hint=f"Try again: {CLI} login"):
    """The person, or the identity provider, said no."""


class AccountNotConfirmed(
    CloudError,
    code=EXIT_PENDING,
    hint=f"Run `{CLI} flows resume` in a terminal, where the account can be confirmed.",
):
    """An unbound login found an account and nobody is there to confirm that it is theirs."""


# --- what is configured --------------------------------------------------------------------------------


class TenantNotConfigured(
    CloudError, setup=True, hint=f"Choose one: {CLI} tenants select; for a new one: {CLI} up --plan ID"
):
    """The profile names no tenant."""


class AppNotConfigured(CloudError, setup=True, hint=f"Give it an image: {CLI} deploy IMAGE"):
    """The tenant has no application yet."""


class ProfileRequired(CloudError, code=EXIT_USAGE, setup=True, hint="Name one in SYSTEMPROMPT_PROFILE."):
    """A profile is needed and none was given."""


class MissingProfileField(CloudError, setup=True, hint="Add the field to the profile's profile.yaml."):
    """The profile lacks a field."""


class TenantsNotSynced(CloudError, setup=True, hint=f"Fetch what is yours: {CLI} tenants sync"):
    """There is no tenants.json yet."""


class TenantsStoreCorrupted(CloudError, setup=True, hint=_LOOK):
    """tenants.json is not JSON, or not readable."""


class TenantsStoreInvalid(CloudError, setup=True, hint="Mend the field the message names."):
    """tenants.json is JSON but breaks a rule of its format."""


class SessionsCorrupted(CloudError, hint=_LOOK):
    """sessions/index.json or session.json is not JSON, or breaks a rule of its format."""


class SessionVersionMismatch(CloudError):
    """A session file, or a session in it, has a version that is not read here; it is left as it is.

    Attributes:
        found: The version it has.
        expected: The versions that are read.
        path: The file.
    """

    def __init__(self, message: str, *, found: int, expected: tuple[int, ...], path: str, hint: str) -> None:
        super().__init__(message, hint=hint)
        self.found, self.expected, self.path = found, expected, path


class TenantNotFound(CloudError, hint=HINT_OF_CODE["tenant_not_found"]):
    """No tenant has this id, here or in the cloud."""


class UntrustedApi(CloudError, code=EXIT_USAGE, hint="If you trust it, name it yourself with --api-url."):
    """A file that came with a project names an API nobody has confirmed; no token is sent there."""


class InvalidFault(CloudError, code=EXIT_USAGE, hint=f"See what there is: {CLI} sandbox --help"):
    """A scripted fault of the local cloud that does not exist, or with a parameter that makes no sense."""


class InvalidImage(CloudError, code=EXIT_USAGE, hint="Name it as it was pushed, say registry.example/team/app:1.2"):
    """What was given as an image to deploy cannot name one (the grammar of container image references)."""


# --- the world -----------------------------------------------------------------------------------------


class ApiError(CloudError, hint="Check --api-url; if it is right, try again later."):
    """The API, or a proxy before it, answered with an error or with something that is not the API's.

    Attributes:
        status: The HTTP status, or None when the answer had a good status and a bad body.
        code: The API's own error code, when it sent one.
        retry_after: Seconds the server asked us to wait (RFC 9110 section 10.2.3), when it did.
    """

    in_words = staticmethod(refusal_in_words)
    code_in = staticmethod(code_of_refusal)

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        retry_after: float | None = None,
        hint: str | None = None,
        request_id: str | None = None,
    ) -> None:
        self.retryable = status is not None and (status in {408, 425, 429} or status >= 500)
        if hint is None and code is not None and status is not None and not self.retryable:
            hint = HINT_OF_CODE.get(code, REFUSED)
        super().__init__(message, hint=hint, request_id=request_id)
        self.status, self.code, self.retry_after = status, code, retry_after


class Network(CloudError, retryable=True, hint="Check the connection and --api-url, then run the same command again."):
    """The API could not be reached, or the connection broke.

    Attributes:
        sent: False when the request surely never reached the server (the connection was refused or the name
            not found); True when its outcome is unknown.
    """

    def __init__(
        self, message: str, *, sent: bool = True, hint: str | None = None, request_id: str | None = None
    ) -> None:
        super().__init__(message, hint=hint, request_id=request_id)
        self.sent = sent


class StreamLost(CloudError, retryable=True, hint="Nothing to do: polling takes over and the stream is tried again."):
    """An event stream ended, broke or fell silent; what it carried so far stands."""


class TooLarge(CloudError, hint="This is not what the API sends; check --api-url and any proxy."):
    """A body, line or event is over its bound; refused before it fills the memory."""


class CallbackRejected(
    CloudError, code=EXIT_REFUSED, hint="Go on in the browser, from the page the login or payment opened."
):
    """A browser callback carried something that cannot be used; the wait goes on."""


class PortBusy(CloudError, hint="Choose another with --port, or 0 for any free one."):
    """The loopback port for the browser callback is taken."""


class UnsafeUrl(CloudError, hint="Check --api-url: this is not an address the API would give."):
    """A URL that must not be opened in a browser or called: not https, and not http on loopback."""


# --- flows of the cloud ----------------------------------------------------------------------------------


class DeploymentUnfinished(CloudError):
    """Another image is being deployed to the same tenant; two at a time would leave it open which one runs.

    Attributes:
        flow: The id of the unfinished deployment.
    """

    def __init__(self, flow: str, *, tenant: str, image: str) -> None:
        super().__init__(
            f"{image} is being deployed to {tenant} and that is not finished",
            hint=f"Go on with it: {CLI} flows resume {flow}; or end it first: {CLI} flows cancel {flow}",
        )
        self.flow = flow


class StillPending(CloudError, code=EXIT_PENDING, hint=f"Wait on: {CLI} flows resume"):
    """The time is up and the server is still at it; what is paid for is not given up."""
