"""What a table is made of: states, rows, events, contexts."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, NamedTuple, TypeAlias, TypeVar

import msgspec

from .functions import name_of

STAY: Final = None
"""Destination of a row that records progress without leaving the state."""

ANY: Final = "*"
"""Source of a row that holds in every state that is not final."""


class Event(msgspec.Struct, frozen=True, tag_field="event", tag=True, gc=False):
    """A fact. Subclass it, list every field it carries, name it in the past tense; its class name is its tag."""


class DeadlinePassed(Event, frozen=True):
    """The state's deadline has passed; sent by the engine."""


class CancelRequested(Event, frozen=True):
    """A user or program asked to stop the flow for good."""

    reason: str = ""


class Context(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a flow knows besides its state. Subclass it; it holds no secret, only references to the vault."""

    problem: str = ""
    """Why the flow ended other than well, in a sentence for people."""
    problem_code: str = ""
    """The same as a code for programs; empty where there is only the sentence."""


E = TypeVar("E", bound=Event)
C = TypeVar("C", bound=Context)
if TYPE_CHECKING:  # the engine needs nothing at run time that has defaults of type variables
    from typing import Never

    from typing_extensions import TypeVar as DefaultTypeVar

    Taken = DefaultTypeVar("Taken", bound=Context, default=Context)
    Made = DefaultTypeVar("Made", bound=Context, default=Never)
    AnyC = DefaultTypeVar("AnyC", bound=Context, default=Any)
    C_co = DefaultTypeVar("C_co", bound=Context, covariant=True, default=Context)
    C_contra = DefaultTypeVar("C_contra", bound=Context, contravariant=True, default=Any)
    Made_co = DefaultTypeVar("Made_co", bound=Context, covariant=True, default=C_contra)
else:
    Taken, Made = TypeVar("Taken", bound=Context), TypeVar("Made", bound=Context)
    AnyC = TypeVar("AnyC", bound=Context)
    C_co = TypeVar("C_co", bound=Context, covariant=True)
    C_contra = TypeVar("C_contra", bound=Context, contravariant=True)
    Made_co = TypeVar("Made_co", bound=Context, covariant=True)


class Verdict(StrEnum):
    """What a final state means to the caller that started the flow."""

    SUCCESS = "success"
    FAILURE = "failure"
    CANCELLED = "cancelled"


class ResumePolicy(StrEnum):
    """What to do on resume about an outward effect that was announced and has no recorded result."""

    RETRY = "retry"
    """Doing it again is safe."""
    RECONCILE = "reconcile"
    """Ask the server for its result before anything else."""
    ASK = "ask"
    """Pause the flow until a person decides: repeat it or cancel."""


Late: TypeAlias = Literal["restart", "continue"]


class State(msgspec.Struct, frozen=True):
    """A situation a flow can be in.

    Args:
        name: What the situation is called, in lower_snake_case.
        meaning: The situation in one line, for people.
        timeout: Seconds until `DeadlinePassed`, or the name of the context field that holds them; None for none.
            States that name the same field share one deadline: going from one to the other keeps it, unless
            `DeadlinePassed` led there.
        late: What a resume does to the deadline: `restart` sets it anew (the flow waits for a person), `continue`
            keeps it (a server kept working meanwhile).
        verdict: Makes the state final.
        effect: What is done to the outside world here, in a few words; None when nothing is.
        resume: What to do about an effect whose result is not known; needed where there is an effect.
        child: The machine that runs as a child flow here, or a tuple of them. A state that runs children and does not
            name their machines cannot be the one that a migration leads to while they run.
        tags: Labels for programs that show flows, so that they need not look at the state's name. They do not change
            what the flow does, so they are not part of the machine's fingerprint.
    """

    name: str
    meaning: str
    timeout: float | str | None = None
    late: Late = "restart"
    verdict: Verdict | None = None
    effect: str | None = None
    resume: ResumePolicy | None = None
    child: str | tuple[str, ...] | None = None
    tags: tuple[str, ...] = ()

    @property
    def final(self) -> bool:
        """True when the flow ends here."""
        return self.verdict is not None

    @property
    def children(self) -> tuple[str, ...]:
        """The machines that run as child flows here."""
        return (self.child,) if isinstance(self.child, str) else self.child or ()


class Row(msgspec.Struct, Generic[C_contra, Made_co], frozen=True):
    """One line of the table of a machine with this context; write it with `on`.

    To a type checker it is what context its functions take, and what context they make: one without an update makes
    none, so it fits the table of any context that its guard takes.
    """

    event: type[Event]
    source: str
    to: str | None
    guard: Callable[[Any, Any], bool] | None = None
    update: Callable[[Any, Any], Any] | None = None

    if not TYPE_CHECKING:

        def __class_getitem__(cls, context: Any) -> Any:  # at run time type variables have no defaults
            return super().__class_getitem__(context if isinstance(context, tuple) else (context, context))

    @property
    def label(self) -> str:
        """The event, with its guard in brackets, as diagrams label the row's arrow."""
        guard = f" [{name_of(self.guard)}]" if self.guard is not None else ""
        return self.event.__name__ + guard


def on(
    event: type[E],
    source: str,
    to: str | None,
    *,
    when: Callable[[Taken, E], bool] | None = None,
    update: Callable[[Taken, E], Made] | None = None,
) -> Row[Taken, Made]:
    """A row: `event` in `source` leads `to` a state (or `STAY`), if `when` holds, changing the context by `update`.

    Both functions are pure. Give the guard a name that reads as a condition: it is drawn.
    """
    return Row(event, source, to, when, update)


class Step(NamedTuple, Generic[C]):
    """The result of an event.

    Attributes:
        state: The state after the event.
        context: The context after the event.
        entered: True when a state was entered or re-entered; False when the row's destination is `STAY`.
    """

    state: str
    context: C
    entered: bool
