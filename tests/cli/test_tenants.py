"""`tenants`: what is stored, and which of them is meant, as it is typed."""

from __future__ import annotations

import json
import stat

from tests.support.command import CommandLine

from .conftest import Owner, secrets_of, stored


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
    """What the API lists is taken over; credentials that it masks stay, and what it lists no more, until asked.

    Other tests buy in the same cloud: theirs are listed, too.
    """
    cli, tenant = owner
    before = stored(cli)[0]
    path = cli.directory / "tenants.json"
    gone = before | {"id": "tenant_gone", "name": "gone"}
    mine = {"id": "local_1", "name": "mine", "tenant_type": "local", "database_url": "postgres://here/db"}
    path.write_text(json.dumps({"tenants": [before, gone, mine], "synced_at": "2026-01-01T00:00:00Z"}))
    ran = cli("tenants", "sync").ended(0)
    assert "tenant_gone (gone) is not ada@sandbox.example's there, its credentials stay here" in ran.err
    assert {tenant, "tenant_gone", "local_1"} <= {each["id"] for each in stored(cli)}
    assert "no longer stored" in cli("tenants", "sync", "--prune").ended(0).err
    after = {each["id"]: each for each in stored(cli)}
    assert {tenant, "local_1"} <= after.keys()
    assert "tenant_gone" not in after
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
