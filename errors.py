"""The one error tree: every failure a caller can meet, with what happened and the command that mends it.

`CloudError` (`_error.py`) is the root. The head of each kind says what sets it apart: the exit code, the hint, what it
requires. Foreign exceptions are translated at the edge, in `io/`, with their cause kept.

Two families stand apart, as in any protocol library: errors of *this use* of the library (`EventNotAccepted`,
`MachineInvalid`, `FlowNotFound`) and errors of *the world* (`Network`, `ApiError`, `Io`, a refused callback).

Exit codes: 0 done, 1 failed, 2 usage, 4 login needed, 5 refused or denied, 8 still pending (resumable),
130 interrupted (resumable).
"""

from __future__ import annotations

from typing import Final, Literal

from ._error import CLI, HINT_OF_CODE, REFUSED, CloudError, code_of_refusal, refusal_in_words

EXIT_DONE: Final = 0
EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_LOGIN_NEEDED: Final = 4
EXIT_REFUSED: Final = 5
EXIT_PENDING: Final = 8
EXIT_INTERRUPTED: Final = 130

BootstrapReason = Literal["not_initialized", "already_initialized", "not_available"]
_LOOK: Final = "Look at the file; the next save sets it aside and writes a new one."

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


class Io(CloudError, hint="Check the path, its owner and the free space, then run the same command again."):
    """A file or directory could not be read or written."""


class UnsafeFile(Io, hint="Remove it, or point --dir at a directory of your own."):
    """A private file is a symbolic link, or belongs to somebody else; it is neither read nor written."""


class DirectoryInUse(UnsafeFile, code=EXIT_USAGE, hint="Name a directory of its own, say --dir DIR/.systemprompt"):
    """The directory that was named holds other things and nothing of ours; it is left as it is."""


class VaultMissing(CloudError, hint="Cancel the flow and start again."):
    """The secrets of a running flow are gone; the flow cannot go on from here."""


class CallbackRejected(
    CloudError, code=EXIT_REFUSED, hint="Go on in the browser, from the page the login or payment opened."
):
    """A browser callback carried something that cannot be used; the wait goes on."""


class PortBusy(CloudError, hint="Choose another with --port, or 0 for any free one."):
    """The loopback port for the browser callback is taken."""


class UnsafeUrl(CloudError, hint="Check --api-url: this is not an address the API would give."):
    """A URL that must not be opened in a browser or called: not https, and not http on loopback."""


# --- flows ---------------------------------------------------------------------------------------------


class MachineInvalid(CloudError, hint="Mend the line of the table that the message names."):
    """A machine's table breaks a rule; raised while the machine is built."""


class EventNotAccepted(CloudError):
    """The event has no row for this state; nothing was changed.

    Attributes:
        state: The state the flow stands in.
        event: The event's name.
    """

    def __init__(self, state: str, event: str, *, machine: str = "") -> None:
        where = f"{machine} in state {state}" if machine else f"state {state}"
        hint = f"See what it accepts: {CLI} diagram {machine}".strip()
        super().__init__(f"{where} does not accept {event}", hint=hint)
        self.state, self.event = state, event


class FlowNotFound(CloudError, hint=f"See what there is: {CLI} flows list"):
    """No flow has this id, or the shortened id fits several."""


class FlowBusy(CloudError):
    """Another process drives this flow.

    Attributes:
        flow: The flow's id.
        pid: The process that drives it.
        host: The machine that process runs on.
    """

    def __init__(self, flow: str, *, pid: int, host: str) -> None:
        super().__init__(
            f"flow {flow} is driven by process {pid} on {host}",
            hint=f"Let it finish, look at it with `{CLI} flows show {flow}`, or stop it: {CLI} flows cancel {flow}",
        )
        self.flow, self.pid, self.host = flow, pid, host


class FlowExists(CloudError):
    """An unfinished flow of the same machine has the same key; resume that one.

    Attributes:
        flow: The id of the flow there is.
    """

    def __init__(self, flow: str) -> None:
        super().__init__(
            f"the same flow is unfinished already: {flow}", hint=f"Go on with it: {CLI} flows resume {flow}"
        )
        self.flow = flow


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


class FlowFailed(CloudError, hint="Nothing is left to resume: start again."):
    """A flow ended, and not with what it was started for.

    Attributes:
        flow: The flow's id.
        state: The state it ended in.
    """

    def __init__(self, message: str, *, flow: str, state: str) -> None:
        super().__init__(message)
        self.flow, self.state = flow, state


class SignalTaken(CloudError, hint="Nothing to do: the flow has the event."):
    """An event from the inbox was taken already, by a process that drove the flow before; nothing was changed."""


class EngineClosed(CloudError, code=EXIT_PENDING, hint=f"Go on with it: {CLI} flows resume"):
    """The engine was closed while somebody waited for a flow; the flow can be resumed."""


class StillPending(CloudError, code=EXIT_PENDING, hint=f"Wait on: {CLI} flows resume"):
    """The time is up and the server is still at it; what is paid for is not given up."""


class EffectUncertain(
    CloudError,
    code=EXIT_PENDING,
    hint=f"Look at the other side; then `{CLI} flows resume --repeat` does it again, or cancel the flow.",
):
    """An outward effect was announced, the process died, and only a person can say whether it happened."""


class FlowParked(CloudError, code=EXIT_PENDING):
    """A flow stopped in a state it can go on from; somebody has to mend something first.

    Attributes:
        flow: The flow's id.
        state: The state it stands in.
        kind: The kind of error that parked it.
        code: The exit code the command line ends with: 4 when a login is needed, else 8.
    """

    def __init__(self, flow: str, state: str, *, kind: str, message: str, hint: str, exit_code: int) -> None:
        super().__init__(message, hint=hint)
        self.flow, self.state = flow, state
        self._kind, self.code = kind, exit_code


class ActivitiesRanDry(
    CloudError, hint="This is a bug in the flow's activities; the flow is kept and can be resumed once it is mended."
):
    """Every activity of a state ended and none led out of it: a bug in the flow, not in what the user did."""


class UnexpectedFailure(
    CloudError, hint=f"The flow is kept: `{CLI} flows resume`. Run with -v --log-file FILE to see the traceback."
):
    """An exception nobody planned for; the flow is kept and its traceback is in the log."""


class IncompatibleFlow(CloudError, hint="Finish it with the program and the version that started it, or cancel it."):
    """The flow was written by another version of its machine and no migration is registered."""


class JournalError(Io):
    """The journal could not be written or read; nothing that was acknowledged is lost."""


class JournalBusy(JournalError):
    """Another process holds the journal for writing and does not let go."""


class JournalMoved(JournalError):
    """The journal was moved, removed or replaced while it was open; what was acknowledged before is where it is now."""


class JournalCorrupted(
    JournalError, hint="The damaged file is kept beside the new one; `sqlite3 FILE .recover` may read it."
):
    """The journal is not a readable SQLite database, or a row of it cannot be understood."""


class JournalTooNew(JournalError, hint="Upgrade systemprompt-cloud."):
    """The journal was written by a newer version of this package."""
