"""The result of a run: what outlives its processes, and must be the same however often they were killed.

Compared are: how the flow ended and its result, its effects on the cloud, the contents of the files, and the flows in
the journal. What may differ between two correct runs (the port, the time, the number of requests) is left out. Some
things are problems in any run: an inconsistent journal, a leftover secret or temporary file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Final

import msgspec
from systemprompt_cloud.base.errors import CloudError
from systemprompt_cloud.engine.fold import check_flow
from systemprompt_cloud.engine.history import Outcome
from systemprompt_cloud.engine.journal.journal import Journal
from systemprompt_cloud.engine.journal.owners import sweep_owners
from systemprompt_cloud.flows.onboarding import all_programs
from systemprompt_cloud.flows.services import Services
from systemprompt_cloud.io.http.tokens import token_claims
from systemprompt_cloud.io.local.credentials import CloudCredentials
from systemprompt_cloud.io.local.tenants import TenantStore

from tests.support.rehearsal import Rehearsal

_NO_END: Final = "no end"
_PAUSED: Final = "paused"

KEPT: Final = re.compile(
    r"\.gitignore|(credentials|tenants)\.json(\.lock)?|journal\.sqlite3(-wal|-shm)?|vault|owners",
)
"""What may be in the directory when a flow has ended; `vault` and `owners` must be empty then."""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that outlives the processes of a run.

    Attributes:
        end: How the flow ended, and its result.
        effects: The effects on the cloud, by kind.
        files: The contents of the files.
        flows: The flows in the journal and how they ended.
        problems: What is wrong in any run, a sentence each.
        asked: Whether a person had to decide about an effect whose outcome is unknown.
        at_most_once: Whether the cloud ignores idempotency keys: then a report that may have arrived is not sent again.
    """

    end: str
    effects: dict[str, int]
    files: dict[str, str]
    flows: tuple[str, ...]
    problems: tuple[str, ...]
    asked: bool = False
    at_most_once: bool = False

    @property
    def ended(self) -> bool:
        """Whether the flow reached an end, or was paused in order."""
        return not self.end.startswith(_NO_END)

    @property
    def paused(self) -> bool:
        """Whether the flow waits for a person."""
        return self.end.startswith(_PAUSED)

    def repeated(self, true: Facts) -> int:
        """How many effects happened more often than in an undisturbed run, without a person having confirmed it."""
        return sum(max(0, count - true.effects[name] - self._allowed(name)) for name, count in self.effects.items())

    def differences(self, true: Facts) -> list[str]:
        """The differences from an undisturbed run, a sentence each.

        After a person repeated an effect only the final state is compared: another checkout has other names. A run
        that pauses may have done less, and nothing else or more.
        """
        found = list(self.problems)
        if self.paused:
            limits = {name: count + self._allowed(name) for name, count in true.effects.items()}
            done = {name: count for name, count in self.effects.items() if count > limits[name]}
            return [*found, f"effects: {done} of a paused run"] if done else found
        mine, wanted = msgspec.structs.asdict(self), msgspec.structs.asdict(true)
        if self.asked:
            for each in (mine, wanted):
                each["end"] = str(each["end"]).partition("{")[0]
                del each["files"]
            mine["effects"] = {
                name: count - self._allowed(name) if count > true.effects[name] else count
                for name, count in self.effects.items()
            }
        if self.at_most_once:
            for each in (mine, wanted):
                each["effects"] = {**each["effects"], "activities": max(1, each["effects"]["activities"])}
        differing = (name for name in ("end", "effects", "files", "flows") if mine.get(name) != wanted.get(name))
        found.extend(f"{name}: {mine[name]} instead of {wanted[name]}" for name in differing)
        return found

    def _allowed(self, effect: str) -> int:
        return 1 if self.asked and effect in {"checkouts", "deployments"} else 0


def gather(
    rehearsal: Rehearsal,
    outcome: Outcome | None,
    why_not: str,
    *,
    asked: bool,
    paused: str | None = None,
    varies: Collection[str] = (),
) -> Facts:
    """Gather the result of a run.

    Args:
        rehearsal: Its environment.
        outcome: How the flow ended, if it did.
        why_not: The error or reason when it did not.
        asked: Whether a person was asked about an uncertain effect.
        paused: Why it was paused, however often the same command was run; None when it was not.
        varies: The fields of the flow's result that differ between correct runs.
    """
    home = rehearsal.paths.directory

    def plain(text: str) -> str:
        return text.replace(rehearsal.url, "API").replace(str(home), "HOME")

    problems: list[str] = []
    end = f"{_NO_END}: {why_not}" if paused is None else f"{_PAUSED}: {paused}"
    if outcome is not None:
        handed_out = {name: value for name, value in outcome.result.items() if name not in varies}
        result = msgspec.json.encode(handed_out, order="sorted").decode()
        end = plain(f"{outcome.machine} {outcome.state} ({outcome.verdict}) {outcome.problem} {result}")
    flows: list[str] = []
    try:
        with Journal(rehearsal.paths.journal, create=False) as journal:
            programs = all_programs(Services(rehearsal.paths))
            problems += journal.integrity_problems()
            for row in sorted(journal.flows(limit=100), key=lambda row: row.created):
                flows.append(f"{row.machine} {row.state}")
                problems += check_flow(journal, programs, row)
                if row.owner is not None:
                    problems.append(f"the {row.machine} flow in {row.state} still has an owner")
            problems += [f"the signal {signal.name} is still in the inbox" for signal in journal.signals()]
    except CloudError as exc:
        problems.append(exc.user_message)
    _sweep(rehearsal)
    problems += [f"left behind: {plain(str(path))}" for path in _left_behind(home, keeps=paused is not None)]
    return Facts(
        end=end,
        effects=_effects(rehearsal),
        files={"credentials": _credentials(rehearsal, plain), "tenants": _tenants(rehearsal, plain)},
        flows=tuple(flows),
        problems=tuple(problems),
        asked=asked,
        at_most_once=not rehearsal.cloud.honours_idempotency,
    )


def _effects(rehearsal: Rehearsal) -> dict[str, int]:
    """The effects on the cloud; an answer replayed for an idempotency key is none."""
    cloud = rehearsal.cloud
    ledger = cloud.ledger
    openings = ledger.changes["set_external_db_access"]
    if not cloud.honours_idempotency:
        # Every PUT is carried out, and opening an open database is no second effect (RFC 9110 section 9.2.2).
        openings = sum(tenant.external_db_access for tenant in cloud.tenants.values())
    return {
        "checkouts": ledger.checkouts,
        "tenants": ledger.tenants,
        "activities": len(ledger.activities),
        "database openings": openings,
        "deployments": len(ledger.deployments),
    }


def _credentials(rehearsal: Rehearsal, plain: Callable[[str], str]) -> str:
    try:
        stored = CloudCredentials.load_from_path(rehearsal.paths.credentials)
        claims = token_claims(stored.api_token)
    except CloudError as exc:
        return plain(exc.user_message)
    return plain(f"{stored.user_email} at {stored.api_url}, token of {claims['sub']} {claims['email']}")


def _tenants(rehearsal: Rehearsal, plain: Callable[[str], str]) -> str:
    try:
        store = TenantStore.load_from_path(rehearsal.paths.tenants)
    except CloudError as exc:
        return plain(exc.user_message)
    return plain(msgspec.json.encode([msgspec.structs.asdict(tenant) for tenant in store.tenants]).decode())


def _sweep(rehearsal: Rehearsal) -> None:
    """Remove dead owners' lock files, as a later command does; they are made old first, since young ones are kept."""
    for path in rehearsal.paths.owners.glob("*"):
        os.utime(path, (0, 0))
    sweep_owners(rehearsal.paths.owners)


def _left_behind(home: Path, *, keeps: bool) -> Iterator[Path]:
    """Files that should be gone; a paused flow keeps its secrets."""
    for path in sorted(home.rglob("*")):
        if not KEPT.fullmatch(str(path.relative_to(home))) and not (keeps and path.parent.name == "vault"):
            yield path
