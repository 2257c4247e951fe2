"""The one error tree: what each kind tells people and programs, kind by kind."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from systemprompt_cloud import errors
from systemprompt_cloud.base import errors as base_errors
from systemprompt_cloud.base.errors import EXIT_LOGIN_NEEDED, CloudError
from systemprompt_cloud.engine import errors as engine_errors
from systemprompt_cloud.engine.errors import FlowParked
from systemprompt_cloud.errors import ApiError, Network, NotAuthenticated

# The kind; whether it requires a (l)ogin or (s)etup, and may be (r)etried as it is; the exit code.
TABLE = """
AccountNotConfirmed        ---  8
ActivitiesRanDry           ---  1
ApiError                   ---  1
AppNotConfigured           -s-  1
CallbackRejected           ---  5
ClockWrong                 ---  8
CredentialsBootstrapError  ---  1
CredentialsCorrupted       l--  4
DeploymentUnfinished       ---  1
DirectoryInUse             ---  2
DirectoryUnusable          ---  1
EffectUncertain            ---  8
EngineClosed               ---  8
EventNotAccepted           ---  1
FlowBusy                   ---  1
FlowExists                 ---  1
FlowFailed                 ---  1
FlowInterrupted            ---  8
FlowNotFound               ---  1
FlowParked                 ---  8
IncompatibleFlow           ---  1
InvalidFault               ---  2
InvalidImage               ---  2
Io                         ---  1
JournalBusy                ---  1
JournalCorrupted           ---  1
JournalError               ---  1
JournalMoved               ---  1
JournalTooNew              ---  1
JwtDecode                  l--  4
KeyInUse                   ---  1
KeyringUnavailable         ---  1
LoginDenied                ---  5
MachineInvalid             ---  1
MissingProfileField        -s-  1
Network                    --r  1
NotAuthenticated           l--  4
NotStorable                ---  1
PortBusy                   ---  1
ProfileRequired            -s-  2
SessionVersionMismatch     ---  1
SessionsCorrupted          ---  1
SignalTaken                ---  1
OrderInDoubt               ---  8
StillPending               ---  8
StreamLost                 --r  1
TableFailed                ---  1
TenantNotConfigured        -s-  1
TenantNotFound             ---  1
TenantsNotSynced           -s-  1
TenantsStoreCorrupted      -s-  1
TenantsStoreInvalid        -s-  1
TokenExpired               l--  4
TooLarge                   ---  1
UnexpectedFailure          ---  1
UnsafeFile                 ---  1
UnsafeUrl                  ---  1
UntrustedApi               ---  2
UsedTwice                  ---  1
VaultMissing               ---  1
"""
ROWS = {name: (marks, int(code)) for name, marks, code in (line.split() for line in TABLE.split("\n") if line)}
KINDS = [
    each
    for module in (errors, base_errors, engine_errors)
    for each in vars(module).values()
    if isinstance(each, type) and issubclass(each, CloudError) and each is not CloudError
    if each.__module__ == module.__name__
]


def example(kind: type[CloudError]) -> CloudError:
    """An error of this kind that names everything by its own name in capitals."""
    parameters = inspect.signature(kind).parameters.values()
    values: dict[str, Any] = {each.name: each.name.upper() for each in parameters if each.default is each.empty}
    return kind(**values)


def test_every_kind_has_its_line() -> None:
    """A new kind has to say in the table what it asks of people, and an old line goes with its kind."""
    assert sorted(ROWS) == sorted(kind.__name__ for kind in KINDS)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_kind_says_what_the_table_says(kind: type[CloudError]) -> None:
    """Message, hint, what it requires, whether a retry may mend it, exit code, and the name programs know it by."""
    error = example(kind)
    marks = (("l", error.requires_login), ("s", error.requires_setup), ("r", error.retryable))
    assert ROWS.get(kind.__name__) == ("".join(mark if holds else "-" for mark, holds in marks), error.exit_code)
    assert error.user_message
    assert str(error) == error.user_message
    assert error.recovery_hint
    assert error.request_id is None
    assert error.kind == ("KIND" if kind is FlowParked else kind.__name__)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_what_a_kind_requires_fits_its_exit_code(kind: type[CloudError]) -> None:
    """A script that only sees the exit code is told of a needed login; nothing that needs somebody retries itself."""
    assert kind.requires_login == (kind.exit_code == EXIT_LOGIN_NEEDED)
    assert not (example(kind).retryable and (kind.requires_login or kind.requires_setup))
    assert inspect.getdoc(kind) != inspect.getdoc(kind.__base__), "each kind says itself what happened"


@pytest.mark.parametrize("status", [408, 425, 429, 500, 503, 599])
def test_an_api_error_may_be_retried_by_its_status(status: int) -> None:
    """RFC 9110 and 6585: these statuses say that the request itself was not at fault."""
    assert ApiError("no", status=status).retryable
    assert not ApiError("no", status=400).retryable


@pytest.mark.parametrize("kind", [ApiError, Network, NotAuthenticated])
def test_a_failed_request_is_named_at_the_end_of_the_message(kind: type[ApiError | Network | NotAuthenticated]) -> None:
    """Whoever reads the message can tell the API's operators which request it was."""
    error = kind("GET /x answered 500", request_id="abc123", hint="wait")
    assert error.user_message == str(error) == "GET /x answered 500 (request abc123)"
    assert (error.request_id, error.recovery_hint) == ("abc123", "wait")
