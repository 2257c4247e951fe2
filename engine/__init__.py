"""A durable state-machine engine for any program: it knows no cloud, no HTTP and no command line.

    from systemprompt_cloud.engine import EnginePaths, Machine, Program, State, on, open_engine

Every public name of the engine is importable from here, and is loaded when it is first used: a table needs no trio.
Who writes a runner of their own finds its parts in `drive.py`, `store.py`, `signals.py` and `secrets.py`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..base.clock import Clock as Clock
    from ..base.clock import SystemClock as SystemClock
    from ..base.errors import CloudError as CloudError
    from ..base.errors import Io as Io
    from .activities import await_signal as await_signal
    from .engine import Engine as Engine
    from .engine import open_engine as open_engine
    from .errors import ActivitiesRanDry as ActivitiesRanDry
    from .errors import EffectUncertain as EffectUncertain
    from .errors import EngineClosed as EngineClosed
    from .errors import EventNotAccepted as EventNotAccepted
    from .errors import FlowBusy as FlowBusy
    from .errors import FlowExists as FlowExists
    from .errors import FlowFailed as FlowFailed
    from .errors import FlowInterrupted as FlowInterrupted
    from .errors import FlowNotFound as FlowNotFound
    from .errors import FlowParked as FlowParked
    from .errors import IncompatibleFlow as IncompatibleFlow
    from .errors import JournalBusy as JournalBusy
    from .errors import JournalCorrupted as JournalCorrupted
    from .errors import JournalError as JournalError
    from .errors import JournalMoved as JournalMoved
    from .errors import JournalTooNew as JournalTooNew
    from .errors import KeyInUse as KeyInUse
    from .errors import MachineInvalid as MachineInvalid
    from .errors import NotStorable as NotStorable
    from .errors import SignalTaken as SignalTaken
    from .errors import UnexpectedFailure as UnexpectedFailure
    from .errors import UsedTwice as UsedTwice
    from .errors import VaultMissing as VaultMissing
    from .export import Export as Export
    from .flow import Flow as Flow
    from .history import Change as Change
    from .history import Outcome as Outcome
    from .journal.housekeeping import Pruned as Pruned
    from .journal.records import UNFINISHED as UNFINISHED
    from .journal.records import FlowRow as FlowRow
    from .journal.records import Record as Record
    from .keeping import Resumed as Resumed
    from .limits import Limit as Limit
    from .machine.machine import Machine as Machine
    from .machine.migrations import Migration as Migration
    from .machine.parts import ANY as ANY
    from .machine.parts import STAY as STAY
    from .machine.parts import CancelRequested as CancelRequested
    from .machine.parts import Context as Context
    from .machine.parts import DeadlinePassed as DeadlinePassed
    from .machine.parts import Event as Event
    from .machine.parts import ResumePolicy as ResumePolicy
    from .machine.parts import Row as Row
    from .machine.parts import State as State
    from .machine.parts import Step as Step
    from .machine.parts import Verdict as Verdict
    from .machine.parts import on as on
    from .observers import Observer as Observer
    from .paths import EnginePaths as EnginePaths
    from .retries import Retry as Retry
    from .retries import activity as activity
    from .store import Ownership as Ownership
    from .store import Store as Store
    from .store import Vault as Vault
    from .visit import Activity as Activity
    from .visit import Intent as Intent
    from .visit import Program as Program
    from .visit import Visit as Visit

_ROOMS = {
    ".activities": "await_signal",
    ".store": "Ownership Store Vault",
    "..base.clock": "Clock SystemClock",
    "..base.errors": "CloudError Io",
    ".engine": "Engine open_engine",
    ".errors": "ActivitiesRanDry EffectUncertain EngineClosed EventNotAccepted FlowBusy FlowExists FlowFailed "
    "FlowInterrupted FlowNotFound FlowParked IncompatibleFlow JournalBusy JournalCorrupted JournalError "
    "JournalMoved JournalTooNew KeyInUse MachineInvalid NotStorable SignalTaken UnexpectedFailure "
    "UsedTwice VaultMissing",
    ".export": "Export",
    ".flow": "Flow",
    ".history": "Change Outcome",
    ".limits": "Limit",
    ".journal.housekeeping": "Pruned",
    ".journal.records": "UNFINISHED FlowRow Record",
    ".machine.machine": "Machine",
    ".machine.migrations": "Migration",
    ".machine.parts": "ANY STAY CancelRequested Context DeadlinePassed Event ResumePolicy Row State Step Verdict on",
    ".observers": "Observer",
    ".paths": "EnginePaths",
    ".retries": "Retry activity",
    ".keeping": "Resumed",
    ".visit": "Activity Intent Program Visit",
}
_WHERE = {name: room for room, names in _ROOMS.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_WHERE[name], __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted(_WHERE)
