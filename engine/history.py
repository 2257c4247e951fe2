"""What callers see of a flow: changes on the way, an outcome at the end, and why it is paused in between."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final, Generic, cast

import msgspec

from ..base.errors import CloudError
from ..base.moments import moment_text
from ..base.redaction import redact
from ..base.remedies import Remedy
from ..base.texts import shown_text, text_of
from .deadlines import deadline_text
from .errors import EffectUncertain, FlowParked, JournalCorrupted, UnexpectedFailure
from .journal.records import QUEUED, FlowRow, Record
from .machine.machine import Machine
from .machine.parts import C, C_co, Context
from .machine.stored import decoded

NO_BODY: Final = "{}"
MESSAGE_CHARACTERS: Final = 10_000
"""The longest message of a trouble, as the journal keeps it."""
_UNCERTAIN: Final = EffectUncertain.__name__
_SEE_TRACEBACK: Final = (
    "The flow is kept: `Engine.resume(flow)`. If logging is configured, the traceback is in the log of "
    "`systemprompt_cloud`; if not, call `logging.basicConfig()` and resume the flow to see it."
)
_BODY: Final = msgspec.json.Decoder(dict[str, object])
_TELLING: Final = frozenset({"event", "paused", "abandoned", "refused", "retried"})
"""The kinds of records whose body says something to people."""


def _attempt(body: Mapping[str, object]) -> str:
    number, most, seconds = (body.get(name) for name in ("attempt", "times", "seconds"))
    if not (isinstance(number, int) and isinstance(most, int) and isinstance(seconds, (int, float))):
        return ""
    return f" (retry {number} of {most} in {seconds:.3g} s)"


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One committed line of a flow's history, as people and programs may see it: it holds no secret.

    Attributes:
        flow: The flow's id.
        seq: 1 for the first line of this flow, and so on without gaps.
        at: RFC 3339, UTC.
        machine: The machine's name.
        kind: `started`, `event`, `intent`, `paused`, `resumed`, `migrated`, `abandoned`, `refused`,
            `retried` or `begun`.
        event: The event's name; for `retried` the activity's; for other kinds the record's name.
        from_state: The state before.
        to_state: The state after; the same for progress.
        message: What happened, for people; may be empty.
        code: The same for programs, where the event has one.
        brief: The message without what it is about (a call, say), where the event has it apart.
        deadline: When the time of the state it led to runs out (RFC 3339), or None. Of a flow that is queued it is the
            moment before which the flow does not begin.
    """

    flow: str
    seq: int
    at: str
    machine: str
    kind: str
    event: str
    from_state: str
    to_state: str
    message: str = ""
    code: str = ""
    brief: str = ""
    deadline: str | None = None

    @classmethod
    def of(cls, machine: str, record: Record) -> Change:
        """From the journal's record; the message of one that is damaged says so."""
        body: Mapping[str, object] = {}
        try:
            body = decoded(_BODY, record.body)
        except msgspec.DecodeError as exc:
            words = f"this record cannot be read: {exc}"
        else:
            words = next((str(body[name]) for name in ("message", "problem", "reason") if body.get(name)), "")
            if record.kind == "retried":
                words += _attempt(body)
        return cls(
            flow=record.flow,
            seq=record.seq,
            at=record.at,
            machine=machine,
            kind=record.kind,
            event=record.name,
            from_state=record.from_state,
            to_state=record.to_state,
            message=words if record.kind in _TELLING else "",
            code=_text(body, "code") if record.kind == "event" else "",
            brief=_text(body, "brief") if record.kind == "event" else "",
            deadline=record.deadline,
        )


def _text(body: Mapping[str, object], name: str) -> str:
    value = body.get(name)
    return value if isinstance(value, str) else ""


class Outcome(msgspec.Struct, Generic[C_co], frozen=True, kw_only=True):
    """How a flow of a machine with this context ended.

    Attributes:
        flow: The flow's id.
        machine: The machine's name.
        state: The final state.
        verdict: `success`, `failure` or `cancelled`.
        problem: Why it did not end well, in a sentence; empty when it did.
        code: The same as a code for programs, where there is one: `port_taken`, or the API's own. A flow that ran a
            child puts the child's machine before it: `checkout.port_taken`.
        result: What the flow returns; holds no secret.
        context: What it knew at its end, typed as its machine's. It is a plain `Context` with the problem alone where
            the machine is not known here or cannot take over what another version of it stored, and in an outcome that
            a test makes without one.
    """

    flow: str
    machine: str
    state: str
    verdict: str
    problem: str
    result: Mapping[str, object]
    code: str = ""
    context: C_co = msgspec.field(default_factory=cast("Callable[[], Any]", Context))

    @property
    def succeeded(self) -> bool:
        """True when the flow reached what it was started for."""
        return self.verdict == "success"


class Trouble(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a flow is paused, as the journal keeps it.

    Attributes:
        kind: The kind of error that paused it.
        message: What happened, redacted.
        hint: What fixes it, redacted.
        code: The exit code of a command that waits for the flow.
        withdrawn: The keys of announced intents whose effect did not happen.
        remedy: The same as `hint` as a step.
        flow: The child flow that it is paused with, and that the error is from; empty when it is from the flow itself.
        activity: The name of the activity that raised it, redacted; empty when none did.
    """

    kind: str
    message: str
    hint: str
    code: int
    withdrawn: frozenset[str] = frozenset()
    remedy: Remedy | None = None
    flow: str = ""
    activity: str = ""

    @classmethod
    def read(cls, text: str) -> Trouble:
        """From the journal; one that is damaged says only that."""
        try:
            return decoded(_TROUBLE, text)
        except msgspec.DecodeError as exc:
            damaged = JournalCorrupted(f"why the flow is paused cannot be read: {redact(str(exc))}")
            hint, remedy = "Resume the flow or cancel it.", Remedy("resume_or_cancel")
            return cls(damaged.kind, damaged.user_message, hint, FlowParked.exit_code, remedy=remedy)

    @classmethod
    def of(cls, exc: BaseException, withdrawn: frozenset[str] = frozenset(), activity: str = "") -> Trouble:
        """From what stopped the flow; anything unplanned becomes `UnexpectedFailure`."""
        if not isinstance(exc, CloudError):
            exc = UnexpectedFailure(
                f"{type(exc).__name__}: {text_of(exc)}", hint=_SEE_TRACEBACK, remedy=Remedy("see_traceback")
            )
        texts = (exc.user_message, exc.recovery_hint, activity)  # the name of a partial has its arguments
        message, hint, activity = (_short(shown_text(text)) for text in texts)
        if isinstance(exc, FlowParked):  # of a child: it ends the command as it would have ended the child's
            if exc.kind == _UNCERTAIN and exc.origin == exc.flow:
                hint = f"{hint} That flow is the child {exc.origin}."
            return cls(exc.kind, message, hint, exc.code, withdrawn, exc.remedy, exc.origin, activity)
        code = exc.exit_code if exc.requires_login else FlowParked.exit_code
        return cls(exc.kind, message, hint, code, withdrawn, exc.remedy, activity=activity)

    def error(self, row: FlowRow) -> FlowParked:
        """The error that waiting for the flow raises."""
        origin, remedy = self.flow or row.id, self.remedy
        if self.kind == _UNCERTAIN and remedy is not None:  # it is repeated by the id of the flow whose effect it is
            remedy = Remedy(remedy.step, {"flow": origin, **remedy.facts})
        return FlowParked(
            row.id,
            row.state,
            kind=self.kind,
            message=self.message,
            hint=self.hint,
            exit_code=self.code,
            remedy=remedy,
            origin=origin,
            activity=self.activity,
        )


def _short(text: str) -> str:
    """A message as it is kept: an exception may quote a whole response."""
    return text if len(text) <= MESSAGE_CHARACTERS else f"{text[: MESSAGE_CHARACTERS - 3]}..."


_TROUBLE: Final = msgspec.json.Decoder(Trouble)


def first_lines(
    flow: str,
    machine: Machine[Any],
    context: Context,
    *,
    now: datetime,
    key: str | None,
    parent: str | None,
    owner: str | None,
    queued: bool = False,
    at: datetime | None = None,
) -> tuple[FlowRow, Record]:
    """What a new flow looks like in the journal: its row and its first record.

    Args:
        flow: Its id.
        machine: Its table.
        context: What it knows.
        now: The moment.
        key: The key it is started with.
        parent: The flow that runs it.
        owner: The process that drives it.
        queued: It does not begin yet.
        at: The moment before which it does not; it stands in the place of the deadline until then.

    Raises:
        NotStorable: The context cannot be written and read back, or a timeout in it is no length of time.
    """
    body, context = machine.encode_context(context)
    machine.check_timeouts(context)
    moment, deadline = moment_text(now), deadline_text(machine, machine.initial, context, now)
    if queued:
        deadline = None if at is None else moment_text(at)
    row = FlowRow(
        id=flow,
        machine=machine.name,
        version=machine.version,
        fingerprint=machine.fingerprint,
        key=key,
        parent=parent,
        state=machine.initial,
        incarnation=1,
        seq=1,
        status="queued" if queued else "running",
        verdict=None,
        deadline=deadline,
        context=body,
        trouble=None,
        created=moment,
        updated=moment,
        owner=owner,
    )
    record = Record(
        flow=flow,
        seq=1,
        at=moment,
        kind="started",
        name=QUEUED if queued else "started",
        body=body,
        from_state=machine.initial,
        to_state=machine.initial,
        incarnation=1,
        deadline=deadline,
    )
    return row, record


def plain_outcome(row: FlowRow) -> Outcome[Any]:
    """The outcome of a flow that has ended, by what is stored alone."""
    try:
        known = msgspec.json.decode(row.context, type=dict[str, object])
    except (msgspec.DecodeError, UnicodeError):
        known = {}
    problem, code = (str(known.pop(name, "")) for name in ("problem", "problem_code"))
    good = row.verdict == "success"
    return Outcome(
        flow=row.id,
        machine=row.machine,
        state=row.state,
        verdict=row.verdict or "",
        problem="" if good else problem,
        code="" if good else code,
        result=known,
        context=Context(problem=problem, problem_code=code),
    )


def outcome_of(machine: Machine[C], row: FlowRow, context: C) -> Outcome[C]:
    """The outcome of a flow that has ended.

    Raises:
        UnexpectedFailure: `Machine.result` raised.
    """
    try:
        result = machine.result(context)
    except Exception as exc:
        raise UnexpectedFailure(
            f"flow {row.id} has ended in {row.state}, and the machine's result raised {type(exc).__name__}: "
            f"{redact(str(exc))}",
            hint="Fix `result`; the flow and what it knows are in the journal.",
        ) from exc
    return Outcome(
        flow=row.id,
        machine=row.machine,
        state=row.state,
        verdict=cast("str", row.verdict),
        problem="" if row.verdict == "success" else context.problem,
        code="" if row.verdict == "success" else context.problem_code,
        result=result,
        context=context,
    )
