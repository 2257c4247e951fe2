"""The local cloud against its own description: schemathesis looks for an answer that is not described.

It runs as a program of its own, against a real socket, with every check it has. Two people own the tenants it is given,
so that it also looks for one who gets what is the other's. Some tenants are ready, some wait for an image, some have
failed: of what is being built nothing could be said to end, and an event stream is read to its end or not at all.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Final

import trio
from systemprompt_cloud.sandbox import Sandbox, serve_sandbox
from systemprompt_cloud.sandbox.provisioning import timeline
from systemprompt_cloud.sandbox.state import PLANS
from systemprompt_cloud.sandbox.upkeep import set_domain

from tests.support.command import clean_environ
from tests.support.length import by_length

SECRETS: Final = ["A", "B", "C", "D", "E"]
TENANTS: Final = 30
"""Tenants of each person: enough that those it deletes are not missed."""


def settle(sandbox: Sandbox) -> tuple[list[str], list[str]]:
    """Give two people their tenants; returns the ids of the tenants and of their checkouts."""
    cloud = sandbox.cloud
    for person in cloud.accounts[:2]:
        for number in range(TENANTS):
            checkout = cloud.open_checkout(person, PLANS[0], "fra", None)
            cloud.answer_payment(checkout, "pay")
            assert checkout.tenant is not None
            set_domain(cloud, checkout.tenant, f"{checkout.tenant.slug}.example.org")
            checkout.tenant.secrets = dict.fromkeys(SECRETS, "value")
            if number % 5 == 0:
                checkout.tenant.steps = timeline(0, fail_after=4)
            if number % 5 == 1:
                checkout.tenant.steps = timeline(0, needs_deploy=True)
    return list(cloud.tenants), list(cloud.checkouts)


def configure(sandbox: Sandbox, directory: Path) -> Path:
    """Write schemathesis's configuration: who it is, which ids it may draw, how far it goes."""
    tenants, checkouts = settle(sandbox)
    people = [
        {"name": person.name, "fixedHeaders": [{"name": "Authorization", "value": f"Bearer {token}"}]}
        for person in sandbox.cloud.accounts[:2]
        for token in [sandbox.cloud.tokens.issue(person.id, person.email)]
    ]
    (directory / "people.json").write_text(json.dumps({"auth": people}))
    config = directory / "schemathesis.toml"
    config.write_text(f"""
seed = 1
hooks = "fuzz_hooks"
# A tenant that waits for its image has told nine events, and then nothing but that its stream lives.
max-stream-events = 9
cache = {{ enabled = false }}
generation = {{ max-examples = {by_length(5, 60)}, database = "none" }}
auth.wfc = {{ path = {json.dumps(str(directory / "people.json"))}, peers = {json.dumps([p["name"] for p in people])} }}

[dictionaries]
tenants = {{ values = {json.dumps(tenants)} }}
checkouts = {{ values = {json.dumps(checkouts)} }}
secrets = {{ values = {json.dumps(SECRETS)} }}

[parameters]
"path.id" = {{ dictionary = "tenants", probability = 0.8 }}
"path.key" = {{ dictionary = "secrets", probability = 0.8 }}

[[operations]]
include-operation-id = "checkout_events"
# Nothing is told of a purchase that is not paid yet but that its stream lives.
max-stream-events = 2
parameters = {{ "path.id" = {{ dictionary = "checkouts", probability = 0.8 }} }}
""")
    return config


async def schemathesis(sandbox: Sandbox, directory: Path, *options: str) -> tuple[int, str]:
    """Run it; its exit code, and what it said."""
    config = configure(sandbox, directory)
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(config), "run"]
    command += [f"{sandbox.url}/openapi.json", "--checks", "all", "--no-color", *options]
    # Of this process's environment nothing is wanted: a proxy, a profile or a coverage hook would change the run.
    environment = clean_environ() | {"HOME": str(directory), "PYTHONPATH": str(Path(__file__).parent)}
    with trio.fail_after(240):
        done = await trio.run_process(
            command, check=False, capture_stdout=True, capture_stderr=True, cwd=directory, env=environment
        )
    return done.returncode, (done.stdout + done.stderr).decode()


async def test_nothing_is_answered_that_is_not_described(tmp_path: Path) -> None:
    """Every operation is tried with good, bad and chained requests, and no check of schemathesis finds anything."""
    async with serve_sandbox(step_seconds=0) as sandbox:
        code, said = await schemathesis(sandbox, tmp_path, "--continue-on-failure")
        assert code == 0, said
        assert "No issues found" in said
        done = sandbox.cloud.ledger
    assert sum(done.requests.values()) > 500
    # It came behind the door: what it was given was really deployed, rotated and deleted.
    assert {"deploy", "rotate_credentials", "set_secrets", "delete_tenant"} <= set(done.changes)


async def test_an_answer_that_is_not_described_would_be_found(tmp_path: Path) -> None:
    """The search is one: a cloud that answers otherwise than it says is found out."""
    async with serve_sandbox(faults=["content-type:times=0,path=/plans"]) as sandbox:
        code, said = await schemathesis(sandbox, tmp_path, "--include-operation-id", "plans", "--phases", "coverage")
    assert code == 1, said
    assert "Undocumented Content-Type" in said
