"""Operations on an engine, made as a program makes them, and logged with what they returned or raised."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio
from systemprompt_cloud.engine.engine import Engine

from .log import Call, Noted
from .machines import BY_NAME, GIVEN, MACHINES, context_of
from .plan import Operation
from .process import CURRENT, Process

if TYPE_CHECKING:
    from .simulation import Simulation


async def make(simulation: Simulation, process: Process, operation: Operation) -> None:
    """Make one call; its host may cancel it."""
    CURRENT.set(process)
    log, engine = simulation.log, process.engine
    if engine is None or (operation.kind != "start" and not log.begun):
        return
    flow = "" if operation.kind == "start" else log.begun[operation.flow % len(log.begun)]
    call = Call(process.number, operation, flow, simulation.number(), log.now)
    log.calls.append(call)
    log.add(Noted(process.number, f"call {len(log.calls)}: {operation.kind} {operation.what} {call.number} {flow}"))
    number = len(log.calls)
    finished = False
    try:
        async with trio.open_nursery() as nursery:
            if operation.timeout is not None:
                nursery.start_soon(_cancel_after, nursery.cancel_scope, operation.timeout)
            try:
                await _ask(simulation, engine, call)
            except Exception as exc:  # noqa: BLE001 checked by the specification
                call.error = exc
            finished = True
            nursery.cancel_scope.cancel()
    finally:
        call.pending = False
        call.cancelled = not finished
        call.end = log.now
        call.died = process.dead
        log.add(Noted(process.number, f"call {number}: {call.text}"))


async def _ask(simulation: Simulation, engine: Engine, call: Call) -> None:
    operation = call.operation
    match operation.kind:
        case "start":
            start = simulation.plan.start(operation)
            secrets = {GIVEN: f"given-{call.number}"} if start.secret else None
            machine, context = MACHINES[start.machine], context_of(start, call.number)
            flow = await engine.start(machine, context, key=start.key, secrets=secrets, after_end=start.after_end)
            call.flow = flow.id
        case "resume":
            await engine.resume(call.flow, why="handover" if operation.what == "handover" else "person")
        case "repeat":
            await engine.resume(call.flow, repeat=True)
        case "cancel":
            call.answer = await engine.cancel(call.flow, "the plan wants it")
        case "send":
            call.answer = await engine.send(call.flow, BY_NAME[operation.what](call.number))
        case "wait":
            call.outcome = await engine.wait(call.flow)
        case _:
            raise ValueError(operation.kind)


async def _cancel_after(scope: trio.CancelScope, checkpoints: int) -> None:
    for _ in range(checkpoints):
        await trio.lowlevel.checkpoint()
    scope.cancel()
