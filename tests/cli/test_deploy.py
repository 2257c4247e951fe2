"""`deploy` and `registry-token` as they are typed; the token is printed on demand only."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import httpx
from systemprompt_cloud.io.local.tenants import StoredTenant, TenantType
from systemprompt_cloud.io.local.tenants_waiting import store_tenant

from tests.support.command import CommandLine, Ran

from .conftest import buy

IMAGE = "registry.example/team/app:1.2"
OTHER = "registry.example/team/app:1.3"
Clouds = Callable[..., str]


def deployments(url: str, tenant: str) -> list[str]:
    """The images the cloud was asked to run there."""
    ledger = httpx.get(f"{url}/sandbox/ledger", trust_env=False).json()["deployments"]
    return [each["image"] for each in ledger if each["tenant_id"] == tenant]


def test_text_json_and_the_token(owner: tuple[CommandLine, str], cloud: str) -> None:
    """The only stored tenant is meant. A person reads where it stands and what runs where at the end, a program gets a
    line for each change; `registry-token` shows no token until it is asked for."""
    cli, tenant = owner
    ran = cli("deploy", IMAGE).ended(0)
    assert ran.out == ""
    assert "waiting until the image runs" in ran.err
    assert "✓ the tenant runs the image" in ran.err
    assert f"The tenant {tenant} runs {IMAGE} at https://" in ran.err
    assert deployments(cloud, tenant) == [IMAGE]

    ran = cli("deploy", OTHER, "--tenant", tenant, "--json").ended(0)
    assert {line["machine"] for line in ran.lines} == {"deployment"}
    last = ran.lines[-1]
    assert (last["state"], last["verdict"]) == ("deployed", "success")
    assert (last["result"]["tenant_id"], last["result"]["image"]) == (tenant, OTHER)

    token = cli("registry-token", "--print-token").ended(0).out.strip()
    assert token.count(".") == 2
    shown = [ran, cli("registry-token").ended(0), cli("registry-token", "--json").ended(0)]
    assert (shown[2].lines[0]["tenant"], sorted(shown[2].lines[0])) == (
        tenant,
        ["registry", "repository", "tag", "tenant", "username"],
    )
    assert f"registry-token --tenant {tenant} --print-token | docker login --username" in shown[1].err
    for each in [*shown, cli("flows", "history", "--json").ended(0)]:
        assert "eyJ" not in each.out + each.err
    both = cli("registry-token", "--print-token", "--json").ended(2)
    assert "never part of --json" in both.err


def test_interrupted_and_resumed(cli: CommandLine, clouds: Clouds) -> None:
    """Ctrl-C names the command that goes on; the same command goes on; another image is told of the first."""
    url = cli.environ["SYSTEMPROMPT_API_URL"] = clouds("--step", "0.1")
    tenant = buy(cli)
    running = cli.begin("deploy", IMAGE, "--json")
    running.wait_until(lambda: any(line.get("to") == "rolling_out" for line in running.lines), "roll out")
    running.interrupt()
    ran = running.wait().ended(130)
    last = ran.lines[-1]
    assert (last["verdict"], last["machine"]) == ("pending", "deployment")
    assert last["resume"] == f"systemprompt-cloud flows resume {last['flow']}"

    refused = cli("deploy", OTHER, "--json").ended(1).lines[-1]
    assert refused["error"] == "DeploymentUnfinished"
    assert f"flows cancel {last['flow']}" in refused["hint"]

    again = cli("deploy", IMAGE, "--timeout", "5").ended(0)
    assert "resuming deployment" in again.err
    assert "these do not apply: --timeout" in again.err
    assert deployments(url, tenant) == [IMAGE]


def test_failed(cli: CommandLine, clouds: Clouds) -> None:
    """The server gives up: 1, with its words. Too slow: 8, and the same command waits on and ends well."""
    cli.environ["SYSTEMPROMPT_API_URL"] = clouds("--step", "0.5", "--fault", "deploy-failure")
    buy(cli)
    ran = cli("deploy", IMAGE).ended(1)
    assert "Error: deployment failed: The image did not start" in ran.err
    late = cli("deploy", IMAGE, "--timeout", "1").ended(8)
    assert f"{IMAGE} does not run after 1 s" in late.err
    assert "flows resume" in late.err
    assert "runs registry.example" in cli("deploy", IMAGE, "--timeout", "1").ended(0).err


def usage(ran: Ran) -> str:
    """What was wrong with the usage."""
    return ran.ended(2).err


def test_what_cannot_be_meant(cli: CommandLine) -> None:
    """No image's name: 2, and why. Nobody logged in: 4. No tenant, or several: which there are, and how to choose."""
    for image, why in (("-x/y", "dash"), ("a" * 2000, "longer than 1024")):
        assert why in usage(cli("deploy", "--", image))
    assert usage(cli("deploy", "--json", "App"))
    assert "login" in cli("deploy", IMAGE, "--tenant", "tnt_x").ended(4).err
    cli.login()
    for tenant in ("", "x" * 70_000):
        assert "is not an id" in usage(cli("deploy", IMAGE, "--tenant", tenant))
    assert {line["machine"] for line in cli("flows", "list", "--json").ended(0).lines} == {"login"}
    nothing = cli("deploy", IMAGE, "--json").ended(1).lines[-1]
    assert nothing["error"] == "TenantNotConfigured"
    assert "tenant_not_found" in cli("deploy", IMAGE, "--tenant", "tnt_nobody").ended(1).err
    for number in range(2):
        tenant = StoredTenant(id=f"tnt_{number}", name="Team", tenant_type=TenantType.CLOUD)
        store_tenant(cli.directory / "tenants.json", tenant, datetime.now(UTC))
    several = cli("deploy", IMAGE).ended(1).err
    assert "tnt_0 (Team), tnt_1 (Team)" in several
    assert "tenants select" in several
