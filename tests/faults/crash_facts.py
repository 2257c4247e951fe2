"""What outlives the processes of a run, and what must be the same however often they died.

Compared are: how the flow ended and what it handed out, what the cloud was made to do, what the files mean, and which
flows the journal holds. What may differ between two good runs (the port, the moment, the number of questions asked) is
left out. Besides, some things must never be, whatever happened: a journal that does not agree with itself, a secret
or a temporary file that stays.
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

KEPT: Final = re.compile(
    r"\.gitignore|(credentials|tenants)\.json(\.lock)?|journal\.sqlite3(-wal|-shm)?|vault|owners",
)
"""What may be in the directory when a flow has ended; `vault` and `owners` must be empty then."""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that outlives the processes of a run.

    Attributes:
        end: How the flow ended and what it handed out.
        effects: What the cloud was made to do, by kind.
        files: What the files mean.
        flows: The flows in the journal and how they ended.
        problems: What must never be, whatever else happened.
        asked: Whether a person had to decide about an effect whose outcome is unknown.
        at_most_once: Whether the cloud honours no keys: then a report that may have arrived is not made again.
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
        """Whether the flow reached an end at all."""
        return not self.end.startswith(_NO_END)

    def repeated(self, true: Facts) -> int:
        """How many effects happened more often than in an undisturbed run, and nobody had said that they should."""
        return sum(max(0, count - true.effects[name] - self._allowed(name)) for name, count in self.effects.items())

    def differences(self, true: Facts) -> list[str]:
        """What is not as in an undisturbed run, in words.

        When a person had it done again (another checkout has other names), only the way it ended is compared.
        """
        found = list(self.problems)
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
    varies: Collection[str] = (),
) -> Facts:
    """Look at everything a run has left.

    Args:
        rehearsal: Its world.
        outcome: How the flow ended, if it did.
        why_not: What is known when it did not.
        asked: Whether a person was asked about an uncertain effect.
        varies: What the flow hands out that differs between good runs.
    """
    home = rehearsal.paths.directory

    def plain(text: str) -> str:
        return text.replace(rehearsal.url, "API").replace(str(home), "HOME")

    problems: list[str] = []
    end = f"{_NO_END}: {why_not}"
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
    problems += [f"left behind: {plain(str(path))}" for path in _left_behind(home)]
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
    """What the cloud has really done; an answer that was given again from its memory is no effect."""
    cloud = rehearsal.cloud
    ledger = cloud.ledger
    openings = ledger.changes["set_external_db_access"]
    if not cloud.honours_idempotency:
        # Every PUT is carried out, and opening what is open is no second effect (RFC 9110 section 9.2.2).
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
    """What the next command does, one that comes later: lock files of the dead are left alone while they are young."""
    for path in rehearsal.paths.owners.glob("*"):
        os.utime(path, (0, 0))
    sweep_owners(rehearsal.paths.owners)


def _left_behind(home: Path) -> Iterator[Path]:
    for path in sorted(home.rglob("*")):
        if not KEPT.fullmatch(str(path.relative_to(home))):
            yield path
