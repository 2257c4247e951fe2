"""What can go wrong with a machine, a flow or its journal, and what fixes it.

Two families, as in any protocol library: errors of this use of the engine (`EventNotAccepted`, `MachineInvalid`,
`FlowNotFound`) and errors of the world (`JournalError`, `VaultMissing`). `CloudError` (`base/errors.py`) is the root.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..base.errors import EXIT_PENDING, CloudError, Io
from ..base.remedies import Remedy
from ..base.texts import text_of

# --- machines and flows --------------------------------------------------------------------------------


class MachineInvalid(CloudError, hint="Fix the line of the table that the message names."):
    """A machine's table breaks a rule; raised while the machine is built."""


class EventNotAccepted(CloudError):
    """The flow does not take the event, has ended, or has a full inbox; or it is no event. Nothing was changed.

    Args:
        state: The flow's state.
        event: The event's name.
        machine: The flow's machine.
        waiting: How many events wait in its inbox, where that is the reason.
        stranger: The type of what was sent, where it is no event.
        ended: Whether the reason is that the flow has ended.
        own: Whether it is an event that only the engine itself sends.

    Attributes:
        state: The flow's state.
        event: The event's name.
    """

    def __init__(
        self,
        state: str,
        event: str,
        *,
        machine: str = "",
        waiting: int = 0,
        stranger: type | None = None,
        ended: bool = False,
        own: bool = False,
    ) -> None:
        where = f"{machine} in state {state}" if machine else f"state {state}"
        why, what = "", event
        hint = "Send an event that the state has a row for: `Machine.accepts(state)` lists them."
        remedy: Remedy | None = Remedy("show_machine", {"machine": machine})
        if stranger is not None:
            what = f"a value of the type {stranger.__module__}.{stranger.__qualname__}, which is no event"
            if issubclass(stranger, type):
                what = f"the class {event} itself, which is no event"
            hint = "Send an instance of one of the machine's event classes."
        elif own:
            why = ": only the engine sends it, when the state's deadline has passed"
            hint, remedy = "Send an event of your own, with a row that leads to the same state.", None
        elif ended:
            why = ": the flow has ended"
            hint, remedy = "Nothing can be sent to it any more. Start a new flow if it is needed.", None
        elif waiting:
            why = f": {waiting} events wait in its inbox already"
            hint, remedy = "Send it again when the flow has taken some of them; a paused flow takes none.", None
        super().__init__(f"{where} does not accept {what}{why}", hint=hint, remedy=remedy)
        self.state, self.event = state, event


class NotStorable(CloudError, hint="Give the field a value that JSON can hold and its type allows."):
    """A context or an event cannot be written, or would not be read back as it is; nothing was changed.

    Attributes:
        field: Which field, from the class on: `Order.items[2].price`.
    """

    def __init__(self, message: str, *, field: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.field = field


class FlowNotFound(CloudError, hint="Check the id.", remedy="list_flows"):
    """No flow has this id, or the shortened id fits several."""


class FlowBusy(CloudError):
    """Another process drives this flow.

    Attributes:
        flow: The flow's id.
        pid: The process that drives it; None where the store does not know.
        host: The machine that process runs on; empty where the store does not know.
    """

    def __init__(self, flow: str, *, pid: int | None = None, host: str = "") -> None:
        driver = "another process" if pid is None else f"process {pid} on {host}"
        super().__init__(
            f"flow {flow} is driven by {driver}",
            hint="Let it finish; `Engine.send(flow, event)` and `Engine.cancel(flow)` reach it there.",
            remedy=Remedy("wait_or_cancel", {"flow": flow}),
        )
        self.flow, self.pid, self.host = flow, pid, host


class FlowExists(CloudError):
    """An unfinished flow of the same machine has the same key; resume that one.

    Attributes:
        flow: The id of the unfinished flow.
    """

    def __init__(self, flow: str) -> None:
        super().__init__(
            f"the same flow is unfinished already: {flow}",
            hint="Resume it: `Engine.resume(flow)`.",
            remedy=Remedy("resume", {"flow": flow}),
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


class UsedTwice(CloudError, hint="Give each a name of its own: `item=` for an effect, `key=` for a child flow."):
    """An effect was announced twice in one visit, or two child flows of a machine were started without a key."""


class KeyInUse(CloudError):
    """The flow with this key was started for something else.

    Attributes:
        flow: The flow's id.
        fields: The fields of the context that differ.
    """

    def __init__(self, flow: str, fields: Sequence[str], *, how: str = "has the same key") -> None:
        names = ", ".join(fields)
        super().__init__(
            f"flow {flow} {how} and was started with another {names}",
            hint="Let it end or cancel it, or start with another key.",
            remedy=Remedy("wait_or_cancel", {"flow": flow}),
        )
        self.flow, self.fields = flow, tuple(fields)


class SignalTaken(CloudError, hint="Nothing to do: the flow has the event."):
    """An event from the inbox was taken already, by a process that drove the flow before; nothing was changed."""


class EngineClosed(CloudError, code=EXIT_PENDING, hint="Resume the flow: `Engine.resume(flow)`.", remedy="resume"):
    """The engine is closed, or was closed while a caller waited for a flow; the flow can be resumed."""


class FlowInterrupted(CloudError, code=EXIT_PENDING):
    """No process drives the flow: the one that did ended or was killed. The flow can be resumed.

    Attributes:
        flow: The flow's id.
        state: Its state.
    """

    def __init__(self, flow: str, state: str) -> None:
        super().__init__(
            f"no process drives flow {flow}; it is in state {state}",
            hint="Resume it: `Engine.resume(flow)`.",
            remedy=Remedy("resume", {"flow": flow}),
        )
        self.flow, self.state = flow, state


class EffectUncertain(
    CloudError,
    code=EXIT_PENDING,
    hint="Check whether it happened. To do it again: `Engine.resume(flow, repeat=True)`; else cancel the flow.",
    remedy="repeat_or_cancel",
):
    """An outward effect was announced, the process died, and only a person can say whether it happened."""


class FlowParked(CloudError, code=EXIT_PENDING):
    """A flow is paused and can be resumed once its cause is fixed.

    Attributes:
        flow: The flow's id.
        state: Its state.
        kind: The kind of error that paused it.
        code: The exit code the command line ends with: 4 when a login is needed, else 8.
        origin: The id of the flow that the error is from: this one, or the child flow it is paused with.
        activity: The name of the activity that raised it; empty when none did.

    In the process that paused the flow, `__cause__` is what the activity raised, with its traceback.
    """

    def __init__(
        self,
        flow: str,
        state: str,
        *,
        kind: str,
        message: str,
        hint: str,
        exit_code: int,
        remedy: Remedy | None = None,
        origin: str = "",
        activity: str = "",
    ) -> None:
        super().__init__(message, hint=hint, remedy=remedy)
        self.flow, self.state, self.origin = flow, state, origin or flow
        self._kind, self.code = kind, exit_code
        self.activity = activity


class ActivitiesRanDry(
    CloudError, hint="This is a bug in the flow's activities; the flow is kept and can be resumed once that is fixed."
):
    """Every activity of a state ended and none led out of it: a bug in the flow, not in what the user did."""


class TableFailed(CloudError, hint="Fix the guard or the update of that row; the flow is unchanged."):
    """A guard or an update of a table raised; nothing was changed, and what it raised is the `__cause__`.

    Attributes:
        state: The flow's state.
        event: The event's name.
    """

    def __init__(self, machine: str, state: str, event: str, cause: BaseException) -> None:
        why = f"{type(cause).__name__}: {text_of(cause)}"
        super().__init__(f"{machine} in state {state} cannot take {event}: its table raised {why}")
        self.state, self.event = state, event


class UnexpectedFailure(CloudError, hint="The flow is kept: `Engine.resume(flow)`.", remedy="resume"):
    """An error that is none of ours: a bug in an activity or a table. The flow is kept.

    What an activity raised is logged with its traceback, as `systemprompt_cloud`; a program that has configured no
    logging does not see it.
    """


class IncompatibleFlow(CloudError, hint="Finish it with the program and the version that started it, or cancel it."):
    """The flow was written by another version of its machine and no migration is registered."""


# --- the journal and the vault -------------------------------------------------------------------------


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


class JournalTooNew(JournalError, hint="Upgrade this program."):
    """The journal was written by a newer version of this package."""


class VaultMissing(CloudError, hint="Cancel the flow and start again."):
    """The secrets of a running flow are gone; the flow cannot be resumed."""
