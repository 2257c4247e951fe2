"""`tenants`: what is asked of the cloud and changed there, as it is typed."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
from msgspec import structs
from systemprompt_cloud.base.errors import Io
from systemprompt_cloud.cli.shared.settings import Settings
from systemprompt_cloud.cli.tenants import choice
from systemprompt_cloud.cli.tenants.change import one_at_a_time, with_external_access
from systemprompt_cloud.errors import TenantNotConfigured
from systemprompt_cloud.io.cloud.wire import ExternalDbAccessResponse, TenantInfo
from systemprompt_cloud.io.local.paths import CloudPaths
from systemprompt_cloud.io.local.tenants import StoredTenant

from tests.support.command import CommandLine

from .conftest import Clouds, Owner, at_terminal, buy, stored


def test_status(owner: Owner) -> None:
    """The API's word on a tenant, and its address."""
    cli, tenant = owner
    ran = cli("tenants", "status").ended(0)
    assert ran.out.startswith(f"{tenant}: ready")
    assert "https://" in ran.out
    (line,) = cli("tenants", "status", tenant, "--json").ended(0).lines
    assert (line["tenant"], line["status"]) == (tenant, "ready")
    assert "secrets_url" not in line


def test_status_of_somebody_elses(owner: Owner) -> None:
    """A tenant the API does not show us is an error with its words; every command says the same way out."""
    ran = owner[0]("tenants", "status", "tenant_nowhere", "--json").ended(1)
    assert ran.lines[-1]["error"] == "ApiError"
    hint = ran.lines[-1]["hint"]
    assert "tenants sync" in hint
    there = (
        "secrets list --tenant",
        "deploy example.com/a:1 --tenant",
        "provision",
        "tenants show",
        "tenants delete --yes",
    )
    for words in there:
        assert owner[0](*words.split(), "tenant_nowhere", "--json").ended(1).lines[-1]["hint"] == hint


def test_restart(owner: Owner) -> None:
    """A restart is asked for, and what the API says of it is told."""
    cli, tenant = owner
    assert cli("tenants", "restart").ended(0).err.startswith(f"{tenant}: ")
    (line,) = cli("tenants", "restart", "--json").ended(0).lines
    assert line["tenant"] == tenant


def test_retry_of_one_that_runs(owner: Owner) -> None:
    """There is nothing to provision again where nothing failed: the API's refusal is told."""
    assert "Error: " in owner[0]("tenants", "retry").ended(1).err


def test_retry_finds_the_tenant_that_failed(cli: CommandLine, clouds: Clouds) -> None:
    """It is not stored here and needs no name; of several they are named; where none has failed that is said."""
    url = clouds("--fault", "provisioning-failure:after=2,times=2")
    words = ("--region", "fra", "--no-browser", "--api-url", url)
    cli.play("up", "--plan", "plan_sandbox_starter", *words, "--login-port", "0", "--checkout-port", "0").ended(8)
    (failed,) = cli("tenants", "retry", "--json", "--api-url", url).ended(0).lines
    shown = cli("flows", "show", "--json").ended(0).lines[0]
    assert failed["tenant"] in shown["trouble"]["message"] + shown["trouble"]["hint"]
    assert f"flows resume {shown['flow']}" in shown["trouble"]["hint"]


def _given(found: object, *_: object) -> object:
    """In place of a function that would ask: what is found."""
    return found


def test_several_tenants_that_failed_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """None is guessed at, but the selected one is meant."""
    tenants = [
        TenantInfo(id=f"tnt_{each}", name=each, database_url="postgresql://x@db.example/x") for each in ("a", "b")
    ]
    monkeypatch.setattr(choice, "ask_api", partial(_given, tenants))
    settings = Settings(paths=CloudPaths(directory=tmp_path, state_directory=tmp_path, origin="user"))
    with pytest.raises(TenantNotConfigured, match=r"2 have failed: tnt_a \(a\), tnt_b \(b\)"):
        choice.failed_tenant(settings)
    monkeypatch.setattr(choice, "selected_tenant", partial(_given, "tnt_b"))
    assert choice.failed_tenant(settings) == "tnt_b"


def test_what_destroys_asks(owner: Owner) -> None:
    """Where nobody can be asked, what destroys is refused as a mistake of usage, and nothing has changed."""
    cli, tenant = owner
    before = stored(cli)
    for command in ("delete", "rotate-credentials", "rotate-sync-token", "cancel-subscription"):
        assert "--yes is required when not running interactively." in cli("tenants", command, tenant).ended(2).err
    assert stored(cli) == before
    assert cli("tenants", "status", tenant).ended(0).out.startswith(f"{tenant}: ready")


def test_no_is_no(owner: Owner) -> None:
    """At a terminal the question names what will be lost; after a no nothing has changed."""
    cli, tenant = owner
    ended = at_terminal(cli, "tenants", "delete", tenant, typed=b"n\n").ended(1)
    assert f"Delete the tenant {tenant}, with its database?" in ended.err
    assert "Nothing was changed." in ended.err
    assert [each["id"] for each in stored(cli)] == [tenant]


def test_rotating(owner: Owner, tmp_path: Path) -> None:
    """New credentials take the place of the old ones in the file, and nobody is told them."""
    cli, tenant = owner
    log = tmp_path / "log.txt"
    before = stored(cli)[0]
    said = ""
    for command in ("rotate-credentials", "rotate-sync-token"):
        ran = cli("tenants", command, tenant, "--yes", "-vv", "--log-file", str(log)).ended(0)
        assert f"Stored in {cli.directory / 'tenants.json'}" in ran.err
        said += ran.out + ran.err
    after = stored(cli)[0]
    assert after["id"] == tenant
    for name in ("internal_database_url", "sync_token"):
        assert after[name] != before[name]
        assert after[name] not in said + log.read_text()
    (line,) = cli("tenants", "rotate-sync-token", tenant, "--yes", "--json").ended(0).lines
    assert line == {"tenant": tenant, "rotated": True, "stored": True}


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (("rotate-credentials", "--yes"), "internal_database_url"),
        (("rotate-sync-token", "--yes"), "sync_token"),
        (("external-db", "on"), "database_url"),
    ],
)
def test_new_credentials_of_a_tenant_that_is_not_stored(cli: CommandLine, words: tuple[str, ...], name: str) -> None:
    """The API gives them once: the tenant is taken from its list and stored with them."""
    tenant = buy(cli)
    before = stored(cli)[0]
    (cli.directory / "tenants.json").unlink()
    cli("tenants", *words, tenant).ended(0)
    (after,) = stored(cli)
    assert (after["id"], after["name"], after["tenant_type"]) == (tenant, before["name"], "cloud")
    assert after[name] != before.get(name)
    assert "***" not in after[name]


@pytest.mark.parametrize(
    "words", [("rotate-credentials", "--yes"), ("rotate-sync-token", "--yes"), ("external-db", "on")]
)
def test_nothing_is_rotated_of_a_tenant_that_could_not_be_stored(owner: Owner, words: tuple[str, ...]) -> None:
    """An id that is stored nowhere and listed nowhere is an error before the API is asked to change anything."""
    cli, _ = owner
    before = stored(cli)
    (line,) = cli("tenants", *words, "tenant_nowhere", "--json").ended(1).lines
    assert line["error"] == "TenantNotFound"
    assert line["message"] == "tenant_nowhere is not stored here, and the API does not list it"
    assert stored(cli) == before


@pytest.mark.parametrize(
    ("hostname", "host"), [("tenant.sandbox.example", "db-sandbox.systemprompt.io"), (None, "db.systemprompt.io")]
)
def test_the_outside_address_is_where_the_tenant_is(hostname: str | None, host: str) -> None:
    """Its host name says so where the database's own does not, as after provisioning."""
    tenant = StoredTenant(id="t", name="T", hostname=hostname)
    url = "postgres://u:p@db.internal:5432/d?sslmode=disable"
    found = ExternalDbAccessResponse(tenant_id="t", external_db_access=True, database_url=url)
    assert with_external_access(tenant, found).database_url == f"postgres://u:p@{host}:5432/d?sslmode=require"
    closed = with_external_access(tenant, structs.replace(found, external_db_access=False))
    assert (closed.external_db_access, closed.database_url) == (False, None)


def test_one_rotation_at_a_time(tmp_path: Path) -> None:
    """Another one waits until the first is stored: else the file might keep what no longer counts."""
    settings = Settings(paths=CloudPaths(directory=tmp_path, state_directory=tmp_path, origin="user"))
    with (
        one_at_a_time(settings),
        pytest.raises(Io, match="another process has held"),
        one_at_a_time(settings, seconds=0.02),
    ):
        pass
    with one_at_a_time(settings, seconds=0.02):
        pass


def test_external_database(owner: Owner) -> None:
    """Opened, the database's outside address is stored; closed, it is gone."""
    cli, _ = owner
    assert "is open to the outside" in cli("tenants", "external-db", "on").ended(0).err
    opened = stored(cli)[0]
    assert opened["external_db_access"] is True
    assert "@db-sandbox.systemprompt.io" in opened["database_url"]
    assert "sslmode=require" in opened["database_url"]
    (line,) = cli("tenants", "external-db", "off", "--json").ended(0).lines
    assert line["external_db_access"] is False
    assert "database_url" not in stored(cli)[0]


@pytest.mark.parametrize(
    "words",
    [
        ("tenants", "delete"),
        ("tenants", "cancel-subscription"),
        ("tenants", "rotate-credentials"),
        ("tenants", "rotate-sync-token"),
        ("domain", "delete"),
        ("secrets", "unset", "KEY"),
    ],
    ids=" ".join,
)
def test_yes_never_means_the_only_one(owner: Owner, words: tuple[str, ...]) -> None:
    """What destroys without asking wants its tenant named or selected; the question names it, so there it may be."""
    cli, tenant = owner
    before = stored(cli)
    (line,) = cli(*words, "--yes", "--json").ended(2).lines
    assert line["message"].startswith("No tenant is named or selected; --yes does not mean the only one.")
    assert f"Name it if you do: {tenant}" in line["message"]
    assert tenant in cli(*words).ended(2).err
    assert stored(cli) == before
    assert cli("tenants", "status", tenant).ended(0).out.startswith(f"{tenant}: ready")


def test_deleting_again_deletes_nothing_else(cli: CommandLine) -> None:
    """A script that deletes the selected tenant and is run again leaves the one that remains alone."""
    tenant = buy(cli)
    path = cli.directory / "tenants.json"
    held = json.loads(path.read_text())
    held["tenants"].append(held["tenants"][0] | {"id": "tenant_other", "name": "Other"})
    path.write_text(json.dumps(held))
    cli("tenants", "select", tenant).ended(0)
    cli("tenants", "delete", "--yes").ended(0)
    assert "Name it if you do: tenant_other" in cli("tenants", "delete", "--yes").ended(2).err
    assert [each["id"] for each in stored(cli)] == ["tenant_other"]


def test_cancelling_and_deleting(cli: CommandLine) -> None:
    """A cancelled subscription and a deleted tenant: gone there, and no longer stored or selected here."""
    tenant = buy(cli)
    cli("tenants", "select", tenant).ended(0)
    assert "is cancelled" in cli("tenants", "cancel-subscription", "--yes").ended(0).err
    (line,) = cli("tenants", "delete", "--yes", "--json").ended(0).lines
    assert line == {"tenant": tenant, "deleted": True}
    assert tenant not in [each["id"] for each in stored(cli)]
    assert json.loads((cli.directory / "sessions/index.json").read_text())["active_key"] is None
    again = cli("tenants", "delete", tenant, "--yes").ended(1)
    assert "tenant_not_found" in again.err
    assert "tenants sync" in again.err
