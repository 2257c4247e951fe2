"""The one error tree: every failure a caller can meet, with what happened and the command that mends it.

`CloudError` is the root. Each kind carries `user_message` (what happened, to which file or URL),
`recovery_hint` (the command that mends it), `requires_login`, `requires_setup` and the exit code the
command line ends with. Foreign exceptions are translated at the edge, in `io/`, with their cause kept.

Two families stand apart, as in any protocol library: errors of *this use* of the library (`EventNotAccepted`,
`MachineInvalid`, `FlowNotFound`) and errors of *the world* (`Network`, `ApiError`, `Io`, a refused callback).

Exit codes: 0 done, 1 failed, 2 usage, 4 login needed, 5 refused or denied, 8 still pending (resumable),
130 interrupted (resumable).
"""

from __future__ import annotations

from typing import ClassVar, Final, Literal

CLI: Final = "systemprompt-cloud"

EXIT_DONE: Final = 0
EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_LOGIN_NEEDED: Final = 4
EXIT_REFUSED: Final = 5
EXIT_PENDING: Final = 8
EXIT_INTERRUPTED: Final = 130


class CloudError(Exception):
    """The root of every error this package raises on purpose.

    Args:
        message: What happened, naming the file, URL, flow or option it happened to. Never holds a secret.
        hint: The command or step that mends it; each kind has a default.
        request_id: Under which name the API's operators find the request in their log, when it was one that failed.
            It ends the message.
    """

    exit_code: ClassVar[int] = EXIT_FAILED
    requires_login: ClassVar[bool] = False
    requires_setup: ClassVar[bool] = False
    default_hint: ClassVar[str] = ""
    _kind: str = ""
    retryable: bool = False
    """True when the same call may succeed a moment later without anybody doing anything."""

    def __init__(self, message: str, *, hint: str | None = None, request_id: str | None = None) -> None:
        shown = message if request_id is None else f"{message} (request {request_id})"
        super().__init__(shown)
        self.user_message = shown
        self.recovery_hint = self.default_hint if hint is None else hint
        self.request_id = request_id

    @property
    def kind(self) -> str:
        """The stable name of this kind of error, used in `--json` and in the journal."""
        return self._kind or type(self).__name__


# --- who is asking -------------------------------------------------------------------------------------


class NotAuthenticated(CloudError):
    """Nobody is logged in, or the API refused the token (HTTP 401; RFC 6750 section 3.1)."""

    exit_code = EXIT_LOGIN_NEEDED
    requires_login = True
    default_hint = f"Log in: {CLI} login"


class TokenExpired(NotAuthenticated):
    """The stored token's `exp` has passed (RFC 7519 section 4.1.4)."""

    default_hint = f"Log in again: {CLI} login"


class ClockWrong(CloudError):
    """The API accepts a token that has expired by this computer's clock: the clock is wrong, the login is good."""

    exit_code = EXIT_PENDING
    default_hint = f"Set this computer's clock, then go on: {CLI} flows resume"


class JwtDecode(CloudError):
    """A token is not a readable JWT."""

    exit_code = EXIT_LOGIN_NEEDED
    requires_login = True
    default_hint = f"Log in again: {CLI} login"


class CredentialsCorrupted(CloudError):
    """credentials.json cannot be read or does not hold what it must."""

    exit_code = EXIT_LOGIN_NEEDED
    requires_login = True
    default_hint = f"Look at the file; `{CLI} login` sets it aside and writes a new one."


class KeyringUnavailable(CloudError):
    """The login is kept in the operating system's keyring, and that is absent, locked or does not answer."""

    default_hint = f"Start or unlock the keyring and run the same command again, or: {CLI} login --no-keyring"


class CredentialsBootstrapError(CloudError):
    """The credentials of a process were asked for too early, looked for twice, or there are none.

    Attributes:
        reason: `not_initialized`, `already_initialized` or `not_available`.
    """

    default_hint = "Call CredentialsBootstrap.init once, when the program starts."

    def __init__(
        self,
        reason: Literal["not_initialized", "already_initialized", "not_available"],
        message: str,
        *,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.reason = reason


class LoginDenied(CloudError):
    """The person, or the identity provider, said no."""

    exit_code = EXIT_REFUSED
    default_hint = f"Try again: {CLI} login"


class AccountNotConfirmed(CloudError):
    """An unbound login found an account and nobody is there to confirm that it is theirs."""

    exit_code = EXIT_PENDING
    default_hint = f"Run `{CLI} flows resume` in a terminal, where the account can be confirmed."


# --- what is configured --------------------------------------------------------------------------------


class TenantNotConfigured(CloudError):
    """The profile names no tenant."""

    requires_setup = True
    default_hint = f"Choose one: {CLI} tenants select; for a new one: {CLI} up --plan ID"


class AppNotConfigured(CloudError):
    """The tenant has no application yet."""

    requires_setup = True
    default_hint = f"Give it an image: {CLI} deploy IMAGE"


class ProfileRequired(CloudError):
    """A profile is needed and none was given."""

    exit_code = EXIT_USAGE
    requires_setup = True
    default_hint = "Name one in SYSTEMPROMPT_PROFILE."


class MissingProfileField(CloudError):
    """The profile lacks a field."""

    requires_setup = True
    default_hint = "Add the field to the profile's profile.yaml."


class TenantsNotSynced(CloudError):
    """There is no tenants.json yet."""

    requires_setup = True
    default_hint = f"Fetch what is yours: {CLI} tenants sync"


class TenantsStoreCorrupted(CloudError):
    """tenants.json is not JSON, or not readable."""

    requires_setup = True
    default_hint = "Look at the file; the next save sets it aside and writes a new one."


class TenantsStoreInvalid(CloudError):
    """tenants.json is JSON but breaks a rule of its format."""

    requires_setup = True
    default_hint = "Mend the field the message names."


class SessionsCorrupted(CloudError):
    """sessions/index.json or session.json is not JSON, or breaks a rule of its format."""

    default_hint = "Look at the file; the next save sets it aside and writes a new one."


class SessionVersionMismatch(CloudError):
    """A session file, or a session in it, has a version that is not read here; it is left as it is.

    Attributes:
        found: The version it has.
        expected: The versions that are read.
        path: The file.
    """

    def __init__(self, message: str, *, found: int, expected: tuple[int, ...], path: str, hint: str) -> None:
        super().__init__(message, hint=hint)
        self.found = found
        self.expected = expected
        self.path = path


class TenantNotFound(CloudError):
    """No tenant has this id."""

    default_hint = f"See what there is: {CLI} tenants list"


class UntrustedApi(CloudError):
    """A file that came with a project names an API nobody has confirmed; no token is sent there."""

    exit_code = EXIT_USAGE
    default_hint = "If you trust it, name it yourself with --api-url."


class InvalidFault(CloudError):
    """A scripted fault of the local cloud that does not exist, or with a parameter that makes no sense."""

    exit_code = EXIT_USAGE
    default_hint = f"See what there is: {CLI} sandbox --help"


class InvalidImage(CloudError):
    """What was given as an image to deploy cannot name one (the grammar of container image references)."""

    exit_code = EXIT_USAGE
    default_hint = "Name it as it was pushed, say registry.example/team/app:1.2"


# --- the world -----------------------------------------------------------------------------------------


class ApiError(CloudError):
    """The API, or a proxy before it, answered with an error or with something that is not the API's.

    Attributes:
        status: The HTTP status, or None when the answer had a good status and a bad body.
        code: The API's own error code, when it sent one.
        retry_after: Seconds the server asked us to wait (RFC 9110 section 10.2.3), when it did.
    """

    default_hint = "Check --api-url; if it is right, try again later."
    refused_hint = "The API itself refused this: what it says has to change before it is asked again."

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
            hint = self.refused_hint
        super().__init__(message, hint=hint, request_id=request_id)
        self.status = status
        self.code = code
        self.retry_after = retry_after


class Network(CloudError):
    """The API could not be reached, or the connection broke.

    Attributes:
        sent: False when the request surely never reached the server (the connection was refused or the name
            not found); True when its outcome is unknown.
    """

    default_hint = "Check the connection and --api-url, then run the same command again."
    retryable = True

    def __init__(
        self, message: str, *, sent: bool = True, hint: str | None = None, request_id: str | None = None
    ) -> None:
        super().__init__(message, hint=hint, request_id=request_id)
        self.sent = sent


class StreamLost(CloudError):
    """An event stream ended, broke or fell silent; what it carried so far stands."""

    default_hint = "Nothing to do: polling takes over and the stream is tried again."
    retryable = True


class TooLarge(CloudError):
    """A body, line or event is over its bound; refused before it fills the memory."""

    default_hint = "This is not what the API sends; check --api-url and any proxy."


class Io(CloudError):
    """A file or directory could not be read or written."""

    default_hint = "Check the path, its owner and the free space, then run the same command again."


class UnsafeFile(Io):
    """A private file is a symbolic link, or belongs to somebody else; it is neither read nor written."""

    default_hint = "Remove it, or point --dir at a directory of your own."


class VaultMissing(CloudError):
    """The secrets of a running flow are gone; the flow cannot go on from here."""

    default_hint = "Cancel the flow and start again."


class CallbackRejected(CloudError):
    """A browser callback carried something that cannot be used; the wait goes on."""

    exit_code = EXIT_REFUSED
    default_hint = "Go on in the browser, from the page the login or payment opened."


class PortBusy(CloudError):
    """The loopback port for the browser callback is taken."""

    default_hint = "Choose another with --port, or 0 for any free one."


class UnsafeUrl(CloudError):
    """A URL that must not be opened in a browser or called: not https, and not http on loopback."""

    default_hint = "Check --api-url: this is not an address the API would give."


# --- flows ---------------------------------------------------------------------------------------------


class MachineInvalid(CloudError):
    """A machine's table breaks a rule; raised while the machine is built."""

    default_hint = "Mend the line of the table that the message names."


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
        self.state = state
        self.event = event


class FlowNotFound(CloudError):
    """No flow has this id, or the shortened id fits several."""

    default_hint = f"See what there is: {CLI} flows list"


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
        self.flow = flow
        self.pid = pid
        self.host = host


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


class FlowFailed(CloudError):
    """A flow ended, and not with what it was started for.

    Attributes:
        flow: The flow's id.
        state: The state it ended in.
    """

    default_hint = "Nothing is left to resume: start again."

    def __init__(self, message: str, *, flow: str, state: str) -> None:
        super().__init__(message)
        self.flow = flow
        self.state = state


class SignalTaken(CloudError):
    """An event from the inbox was taken already, by a process that drove the flow before; nothing was changed."""

    default_hint = "Nothing to do: the flow has the event."


class EngineClosed(CloudError):
    """The engine was closed while somebody waited for a flow; the flow can be resumed."""

    exit_code = EXIT_PENDING
    default_hint = f"Go on with it: {CLI} flows resume"


class StillPending(CloudError):
    """The time is up and the server is still at it; what is paid for is not given up."""

    exit_code = EXIT_PENDING
    default_hint = f"Wait on: {CLI} flows resume"


class EffectUncertain(CloudError):
    """An outward effect was announced, the process died, and only a person can say whether it happened."""

    exit_code = EXIT_PENDING
    default_hint = f"Look at the other side; then `{CLI} flows resume --repeat` does it again, or cancel the flow."


class FlowParked(CloudError):
    """A flow stopped in a state it can go on from; somebody has to mend something first.

    Attributes:
        flow: The flow's id.
        state: The state it stands in.
        kind: The kind of error that parked it.
        code: The exit code the command line ends with: 4 when a login is needed, else 8.
    """

    exit_code = EXIT_PENDING

    def __init__(self, flow: str, state: str, *, kind: str, message: str, hint: str, exit_code: int) -> None:
        super().__init__(message, hint=hint)
        self.flow = flow
        self.state = state
        self._kind = kind
        self.code = exit_code


class ActivitiesRanDry(CloudError):
    """Every activity of a state ended and none led out of it: a bug in the flow, not in what the user did."""

    default_hint = "This is a bug in the flow's activities; the flow is kept and can be resumed once it is mended."


class UnexpectedFailure(CloudError):
    """An exception nobody planned for; the flow is kept and its traceback is in the log."""

    default_hint = f"The flow is kept: `{CLI} flows resume`. Run with -v --log-file FILE to see the traceback."


class IncompatibleFlow(CloudError):
    """The flow was written by another version of its machine and no migration is registered."""

    default_hint = f"Finish it with the version that started it, or end it: {CLI} flows cancel ID"


class JournalError(Io):
    """The journal could not be written or read; nothing that was acknowledged is lost."""


class JournalBusy(JournalError):
    """Another process holds the journal for writing and does not let go."""


class JournalMoved(JournalError):
    """The journal was moved, removed or replaced while it was open; what was acknowledged before is where it is now."""


class JournalCorrupted(JournalError):
    """The journal is not a readable SQLite database, or a row of it cannot be understood."""

    default_hint = "The damaged file is kept beside the new one; `sqlite3 FILE .recover` may read it."


class JournalTooNew(JournalError):
    """The journal was written by a newer version of this package."""

    default_hint = "Upgrade systemprompt-cloud."
