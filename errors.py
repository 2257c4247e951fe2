"""The cloud's kinds of errors: what can go wrong with logins, tenants, the API and the browser, and what fixes it.

`CloudError` (`base/errors.py`) is the root; the engine's kinds are in `engine/errors.py`. The head of each kind names
what sets it apart: the exit code, the hint, what it requires. Foreign exceptions are translated where they enter, in
`io/`, with their cause kept.

Exit codes: 0 done, 1 failed, 2 usage, 4 login needed, 5 refused or denied, 8 still pending (resumable),
130 interrupted (resumable), 143 the same by SIGTERM, 129 by a closed terminal.
"""

from __future__ import annotations

from typing import Final, Literal

from .base.errors import EXIT_LOGIN_NEEDED, EXIT_PENDING, EXIT_REFUSED, EXIT_USAGE, CloudError
from .base.remedies import Remedy

BootstrapReason = Literal["not_initialized", "already_initialized", "not_available"]
_LOOK: Final = "Look at the file; the next save sets it aside and writes a new one."


REFUSED: Final = "The API refused this request. Change what its message names, then try again."


HINT_OF_CODE: Final = {
    "not_found": "Check the API's URL: there is no such call at that address.",
    "tenant_not_found": "Check the id, or read your tenants from the API again.",
    "domain_not_found": "There is nothing to remove.",
    "secret_not_found": "Check the name of the secret.",
}
"""What fixes the API's refusals that name what is missing, by the API's own code; any other is `REFUSED`."""

REMEDY_OF_CODE: Final = {
    "not_found": Remedy("check_api_address"),
    "tenant_not_found": Remedy("list_tenants"),
    "domain_not_found": Remedy("set_domain"),
    "secret_not_found": Remedy("list_secrets"),
}
"""The remedy that goes with each hint of `HINT_OF_CODE`."""


def code_of(error: CloudError) -> str:
    """The API's own code of its refusal; empty for any other error."""
    return (error.code or "") if isinstance(error, ApiError) else ""


# --- who is asking -------------------------------------------------------------------------------------


class NotAuthenticated(CloudError, code=EXIT_LOGIN_NEEDED, login=True, hint="Log in.", remedy="log_in"):
    """Not logged in, or the API refused the token (HTTP 401; RFC 6750 section 3.1)."""


class TokenExpired(NotAuthenticated, hint="Log in again.", remedy="log_in_again"):
    """The stored token's `exp` has passed (RFC 7519 section 4.1.4)."""


class ClockWrong(
    CloudError, code=EXIT_PENDING, hint="Set this computer's clock, then resume the flow.", remedy="set_clock"
):
    """The API accepts a token that has expired by this computer's clock: the clock is wrong, the login is good."""


class JwtDecode(CloudError, code=EXIT_LOGIN_NEEDED, login=True, hint="Log in again.", remedy="log_in_again"):
    """A token is not a readable JWT."""


class CredentialsCorrupted(
    CloudError,
    code=EXIT_LOGIN_NEEDED,
    login=True,
    hint="Look at the file; the next login sets it aside and writes a new one.",
    remedy="replace_credentials",
):
    """credentials.json cannot be read or does not hold what it must."""


class KeyringUnavailable(
    CloudError, hint="Start or unlock the keyring and try again, or log in without it.", remedy="unlock_keyring"
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


class LoginDenied(CloudError, code=EXIT_REFUSED, hint="Log in again.", remedy="retry_login"):
    """The person, or the identity provider, denied the login."""


class AccountNotConfirmed(
    CloudError,
    code=EXIT_PENDING,
    hint="Resume the flow where you can confirm the account.",
    remedy="confirm_account",
):
    """An unbound login found an account, and no person could confirm that it is theirs."""


# --- what is configured --------------------------------------------------------------------------------


class TenantNotConfigured(CloudError, setup=True, hint="Choose a tenant, or buy one.", remedy="choose_tenant"):
    """The profile names no tenant."""


class AppNotConfigured(CloudError, setup=True, hint="Deploy an image to the tenant.", remedy="deploy"):
    """The tenant has no application yet."""


class ProfileRequired(CloudError, code=EXIT_USAGE, setup=True, hint="Name one in SYSTEMPROMPT_PROFILE."):
    """A profile is needed and none was given."""


class MissingProfileField(CloudError, setup=True, hint="Add the field to the profile's profile.yaml."):
    """The profile lacks a field."""


class TenantsNotSynced(CloudError, setup=True, hint="Read your tenants from the API.", remedy="sync_tenants"):
    """There is no tenants.json yet."""


class TenantsStoreCorrupted(CloudError, setup=True, hint=_LOOK):
    """tenants.json is not JSON, or not readable."""


class TenantsStoreInvalid(CloudError, setup=True, hint="Fix the field the message names."):
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

    def __init__(
        self,
        message: str,
        *,
        found: int,
        expected: tuple[int, ...],
        path: str,
        hint: str,
        remedy: Remedy | None = None,
    ) -> None:
        super().__init__(message, hint=hint, remedy=remedy)
        self.found, self.expected, self.path = found, expected, path


class TenantNotFound(CloudError, hint=HINT_OF_CODE["tenant_not_found"], remedy="list_tenants"):
    """No tenant has this id, here or in the cloud."""


class UntrustedApi(CloudError, code=EXIT_USAGE, hint="If you trust the API, name its URL yourself.", remedy="name_api"):
    """A file that came with a project names an API that was not confirmed; no token is sent there."""


class InvalidFault(
    CloudError, code=EXIT_USAGE, hint="Check the name and the parameters of the fault.", remedy="list_faults"
):
    """A scripted fault of the local cloud that does not exist, or with a parameter that makes no sense."""


class InvalidImage(
    CloudError, code=EXIT_USAGE, hint="Name it as it was pushed, for example registry.example/team/app:1.2"
):
    """What was given as an image to deploy cannot name one (the grammar of container image references)."""


# --- the world -----------------------------------------------------------------------------------------


class ApiError(CloudError, hint="Check the API's URL; if it is right, try again later.", remedy="check_api"):
    """The API, or a proxy before it, answered with an error or with something that is not the API's.

    Attributes:
        status: The HTTP status, or None when the answer had a good status and a bad body.
        code: The API's own error code, when it sent one.
        retry_after: Seconds the server asked us to wait (RFC 9110 section 10.2.3), when it did.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        retry_after: float | None = None,
        hint: str | None = None,
        remedy: Remedy | None = None,
        request_id: str | None = None,
        about: str = "",
    ) -> None:
        self.retryable = status is not None and (status in {408, 425, 429} or status >= 500)
        if hint is None and code is not None and status is not None and not self.retryable:
            hint, remedy = HINT_OF_CODE.get(code, REFUSED), REMEDY_OF_CODE.get(code)
        super().__init__(message, hint=hint, remedy=remedy, request_id=request_id, about=about)
        self.status, self.code, self.retry_after = status, code, retry_after

    @staticmethod
    def in_words(where: str, code: str, message: str) -> str:
        """A refusal of the API in a sentence: the call (its method and URL), the API's code and its message."""
        return f"{where}: {code}: {message}"


class Network(
    CloudError,
    retryable=True,
    hint="Check the connection and the API's URL, then try again.",
    remedy="check_connection",
):
    """The API could not be reached, or the connection broke.

    Attributes:
        sent: False when the request surely never reached the server (the connection was refused or the name
            not found); True when its outcome is unknown.
    """

    def __init__(
        self,
        message: str,
        *,
        sent: bool = True,
        hint: str | None = None,
        remedy: Remedy | None = None,
        request_id: str | None = None,
        about: str = "",
    ) -> None:
        super().__init__(message, hint=hint, remedy=remedy, request_id=request_id, about=about)
        self.sent = sent


class StreamLost(CloudError, retryable=True, hint="Nothing to do: polling takes over and the stream is tried again."):
    """An event stream ended, broke or fell silent; what it carried so far is kept."""


class TooLarge(CloudError, hint="This is not what the API sends; check its URL and any proxy.", remedy="check_proxy"):
    """A body, line or event is over its bound; refused before it fills the memory."""


class CallbackRejected(
    CloudError, code=EXIT_REFUSED, hint="Continue in the browser, on the page that the login or payment opened."
):
    """A browser callback carried something that cannot be used; the command keeps waiting."""


class PortBusy(CloudError, hint="Choose another port, or 0 for any free one.", remedy="choose_port"):
    """The loopback port for the browser callback is taken."""


class UnsafeUrl(
    CloudError, hint="Check the API's URL: this is not an address the API would give.", remedy="check_api_gives"
):
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
            hint="Resume that deployment, or cancel it first.",
            remedy=Remedy("resume_or_cancel", {"flow": flow}),
        )
        self.flow = flow


class OrderInDoubt(
    CloudError,
    code=EXIT_PENDING,
    hint="Resume the flow to check again and to pay on the same page, or cancel it to give the order up.",
):
    """No payment of an order was reported, and the API knows of none; a person decides before another is placed."""


class StillPending(CloudError, code=EXIT_PENDING, hint="Resume the flow to wait longer.", remedy="wait_longer"):
    """The time is up and the server is still working; what is paid for is not given up."""
