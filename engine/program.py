"""The programs that an engine is given: a machine each, with what is done in each of its states."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .errors import MachineInvalid
from .given import check_is, kind_of
from .visit import Program


def listed_programs(programs: Iterable[Program[Any]]) -> list[Program[Any]]:
    """The programs an engine is given. Raises `TypeError` when it is something else."""
    if not isinstance(programs, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"an engine takes a list of programs, not {kind_of(programs)}")
    listed = list(programs)
    for each in listed:
        check_is(each, Program, "an engine's list of programs")
    return listed


def by_name(programs: Iterable[Program[Any]]) -> dict[str, Program[Any]]:
    """Programs by the names of their machines, today's and former ones.

    Raises:
        MachineInvalid: Two programs have machines of one name, or one's former name is another's.
        TypeError: They are no programs.
    """
    listed = listed_programs(programs)
    named: dict[str, Program[Any]] = {}
    for program in listed:
        name = program.machine.name
        if named.setdefault(name, program) is not program:
            raise MachineInvalid(
                f"machine {name}: two programs have a machine of this name",
                hint="Give one of the machines another name, and with formerly=(...) the flows of the old one.",
            )
    for program in listed:
        for name in program.machine.names[1:]:
            if (other := named.setdefault(name, program)) is not program:
                raise MachineInvalid(
                    f"machine {program.machine.name}: its former name {name!r} is one of machine {other.machine.name}",
                    hint="Flows that are stored under a name can continue in one machine only.",
                )
    return named
