"""`tenants`: what is stored, and what is changed in the cloud, as it is typed."""

from __future__ import annotations

import json
import stat
from functools import partial
from pathlib import Path
from typing import Any

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

from .conftest import Clouds, at_terminal, buy

Owner = tuple[CommandLine, str]


def stored(cli: CommandLine) -> list[dict[str, Any]]:
    """What tenants.json holds."""
    return json.loads((cli.directory / "tenants.json").read_text())["tenants"]


def secrets_of(cli: CommandLine) -> list[str]:
    """Every credential that is stored of any tenant."""
    names = ("database_url", "internal_database_url", "sync_token")
    return [tenant[name] for tenant in stored(cli) for name in names if tenant.get(name)]


def test_list_text(owner: Owner) -> None:
    """A person sees id, name, type and region in columns, and no credential."""
    cli, tenant = owner
    ran = cli("tenants", "list").ended(0)
    head, row = ran.out.splitlines()
    assert head.split() == ["ID", "NAME", "TYPE", "REGION", "HOSTNAME"]
    assert row.split()[0] == tenant
    assert {"cloud", "fra"} <= set(row.split())
    assert not [secret for secret in secrets_of(cli) if secret in ran.out + ran.err]


def test_list_json(owner: Owner) -> None:
    """A program gets an object a line, that says whether credentials are there without telling them."""
    cli, tenant = owner
    ran = cli("tenants", "list", "--json").ended(0)
    (line,) = ran.lines
    assert (line["tenant"], line["type"], line["selected"]) == (tenant, "cloud", False)
    assert (line["has_database_url"], line["missing_credentials"]) == (True, False)
    assert not [secret for secret in secrets_of(cli) if secret in ran.out]


def test_list_with_nothing(cli: CommandLine) -> None:
    """Where nothing was ever read, that is said, with the command that reads it; it is no failure."""
    ran = cli("tenants", "list").ended(0)
    assert ran.out == ""
    assert "systemprompt-cloud tenants sync" in ran.err
    assert cli("tenants", "list", "--json").ended(0).out == ""


def test_show(owner: Owner) -> None:
    """A tenant is named by its id or its name; the only one needs no naming."""
    cli, tenant = owner
    name = stored(cli)[0]["name"]
    assert f"tenant: {tenant}\n" in cli("tenants", "show", name).ended(0).out
    assert cli("tenants", "show", "--json").ended(0).lines[0]["tenant"] == tenant


def test_show_one_that_is_not_there(owner: Owner) -> None:
    """A tenant that is not stored is named in the error, with the command that looks again."""
    ran = owner[0]("tenants", "show", "tenant_nowhere").ended(1)
    assert "holds no tenant tenant_nowhere" in ran.err
    assert "tenants sync" in ran.err


def test_unreadable_store(owner: Owner) -> None:
    """A file that cannot be read is an error that names it, never an empty list."""
    cli, _ = owner
    path = cli.directory / "tenants.json"
    path.write_bytes(b'{"tenants": [{"id": "')
    ran = cli("tenants", "list", "--json").ended(1)
    assert ran.lines[0]["error"] == "TenantsStoreCorrupted"
    assert str(path) in ran.lines[0]["message"]
    assert path.read_bytes() == b'{"tenants": [{"id": "'


def test_select(owner: Owner) -> None:
    """The selected tenant is the one that commands mean; `local` takes the choice back."""
    cli, tenant = owner
    (stored,) = json.loads((cli.directory / "tenants.json").read_text())["tenants"]
    said = cli("tenants", "select", tenant).ended(0).err
    assert said == f"Selected the tenant {stored['name']} ({tenant}).\n"
    assert cli("tenants", "list").ended(0).out.splitlines()[1].startswith(f"*  {tenant}")
    index = cli.directory / "sessions/index.json"
    assert json.loads(index.read_text())["active_key"] == f"tenant_{tenant}"
    assert stat.S_IMODE(index.stat().st_mode) == 0o600
    assert cli("tenants", "select", "local", "--json").ended(0).lines == [{"selected": None}]
    assert cli("tenants", "select", "tenant_nowhere").ended(1).err.startswith("Error: ")


def test_which_of_several(owner: Owner) -> None:
    """Between several tenants nothing is guessed: they are listed, and selecting one settles it."""
    cli, tenant = owner
    path = cli.directory / "tenants.json"
    held = json.loads(path.read_text())
    held["tenants"].append(held["tenants"][0] | {"id": "tenant_other"})
    path.write_text(json.dumps(held))
    ran = cli("tenants", "show").ended(1)
    assert tenant in ran.err
    assert "tenant_other" in ran.err
    assert "tenants select" in ran.err
    cli("tenants", "select", "tenant_other").ended(0)
    assert "tenant: tenant_other\n" in cli("tenants", "show").ended(0).out
    assert "2 tenants are called" in cli("tenants", "show", held["tenants"][0]["name"]).ended(1).err


def test_sync_keeps_credentials(owner: Owner) -> None:
    """What the API lists is taken over; credentials that it masks stay, and what it lists no more, until asked."""
    cli, tenant = owner
    before = stored(cli)[0]
    path = cli.directory / "tenants.json"
    gone = before | {"id": "tenant_gone", "name": "gone"}
    mine = {"id": "local_1", "name": "mine", "tenant_type": "local", "database_url": "postgres://here/db"}
    path.write_text(json.dumps({"tenants": [before, gone, mine], "synced_at": "2026-01-01T00:00:00Z"}))
    ran = cli("tenants", "sync").ended(0)
    assert "tenant_gone (gone) is not ada@sandbox.example's there, its credentials stay here" in ran.err
    assert {each["id"] for each in stored(cli)} == {tenant, "tenant_gone", "local_1"}
    assert "no longer stored" in cli("tenants", "sync", "--prune").ended(0).err
    after = {each["id"]: each for each in stored(cli)}
    assert after.keys() == {tenant, "local_1"}
    assert after[tenant]["internal_database_url"] == before["internal_database_url"]
    assert after[tenant]["sync_token"] == before["sync_token"]
    assert json.loads(path.read_text())["synced_at"] > "2026-01-01T00:00:00Z"


def test_sync_without_a_login(cli: CommandLine) -> None:
    """Nobody logged in is exit code 4, with the command that mends it."""
    assert "systemprompt-cloud login" in cli("tenants", "sync").ended(4).err


def test_sync_on_another_computer(owner: Owner) -> None:
    """A tenant whose credentials were given out elsewhere is stored without them, and how to make new ones is said."""
    cli, tenant = owner
    (cli.directory / "tenants.json").unlink()
    ran = cli("tenants", "sync").ended(0)
    assert f"tenants rotate-credentials {tenant}" in ran.err
    assert "sync_token" not in stored(cli)[0]


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


def belongs_to_somebody_else(cli: CommandLine, tenant: str) -> None:
    """Write down that a stored tenant is another account's."""
    owners = {tenant: "eve@example.com at https://api.systemprompt.io"}
    (cli.directory / "accounts.json").write_text(json.dumps({"owners": owners}))
    (cli.directory / "accounts.json").chmod(0o600)


def test_a_tenant_of_another_account_is_not_chosen(owner: Owner) -> None:
    """It is not listed, not chosen as the only one, and not as the selected one; the text and JSON say whose it is."""
    cli, tenant = owner
    cli("tenants", "select", tenant).ended(0)
    belongs_to_somebody_else(cli, tenant)
    listed = cli("tenants", "list").ended(0)
    assert tenant not in listed.out
    assert (
        "1 more of eve@example.com at https://api.systemprompt.io: systemprompt-cloud tenants list --all" in listed.err
    )
    assert cli("tenants", "list", "--json").ended(0).out == ""
    (line,) = cli("tenants", "list", "--all", "--json").ended(0).lines
    assert (line["tenant"], line["account"]) == (tenant, "eve@example.com at https://api.systemprompt.io")
    refused = cli("tenants", "status", "--json").ended(1)
    assert refused.lines[-1]["error"] == "TenantNotConfigured"
    assert f"the selected tenant {tenant} belongs to eve@example.com" in refused.err
    cli("tenants", "select", "local").ended(0)
    assert "no tenant is named" in cli("tenants", "status").ended(1).err
    cli("tenants", "sync").ended(0)  # the API lists it for this account
    assert tenant in cli("tenants", "list").ended(0).out


def test_a_tenant_that_was_not_listed_is_not_chosen(owner: Owner) -> None:
    """It stays for its credentials; it has to be named."""
    cli, tenant = owner
    content = json.loads((cli.directory / "tenants.json").read_text())
    gone = content["tenants"][0] | {"id": "tnt_gone", "name": "Gone"}
    (cli.directory / "tenants.json").write_text(json.dumps(content | {"tenants": [gone]}))
    assert "tnt_gone" in cli("tenants", "sync").ended(0).err
    assert "tnt_gone" in cli("tenants", "list").ended(0).out
    chosen = cli("tenants", "status")  # the account may have more than one
    assert tenant in chosen.out + chosen.err
    assert "tnt_gone" not in chosen.out + chosen.err
    cli("tenants", "status", "tnt_gone").ended(1)
