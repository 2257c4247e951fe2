"""`domain`: the custom domain of a tenant."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import typer

from ...errors import ApiError
from ..screen.terminal import clean, put, put_done, put_json, say, table
from ..shared.api import ask_api, ask_once
from ..shared.names import CLI
from ..shared.settings import Settings, settings_of
from .choice import TenantOption, TenantYes, chosen_tenant, confirmed_tenant

if TYPE_CHECKING:
    from ...io.cloud.wire import CustomDomainResponse

_LABEL = r"(?!-)[a-z0-9-]{1,63}(?<!-)"
# RFC 1123 section 2.1, encoded: at least two labels, the last one not a number.
_DOMAIN = re.compile(rf"(?:{_LABEL}\.)+(?!\d+$){_LABEL}")

app = typer.Typer(
    help="The custom domain of a tenant.",
    no_args_is_help=True,
    rich_markup_mode=None,
    epilog=f"Example: {CLI} domain set shop.example.com",
)


@app.command("show", epilog=f"Example: {CLI} domain show --json")
def show(context: typer.Context, tenant: TenantOption = None) -> None:
    """Show a tenant's domain, and the DNS record to add. Needs a login."""
    settings = settings_of(context)
    chosen = chosen_tenant(settings, tenant)
    try:
        _put(settings, ask_api(settings, lambda api: api.custom_domain(chosen)))
    except ApiError as exc:
        if exc.code != "domain_not_found":
            raise
        way = settings.command("domain set DOMAIN")
        put_done(settings, {"tenant": chosen, "domain": None}, f"{clean(chosen)} has no domain. Give it one: {way}")


@app.command("set", epilog=f"Example: {CLI} domain set shop.example.com")
def set_domain(
    context: typer.Context,
    domain: Annotated[str, typer.Argument(metavar="DOMAIN", help="A name you own.")],
    tenant: TenantOption = None,
) -> None:
    """Give a tenant a domain, and show the DNS record to add. Needs a login."""
    settings = settings_of(context)
    name = known_domain(domain)
    chosen = chosen_tenant(settings, tenant)
    _put(settings, ask_once(settings, lambda api, key: api.set_custom_domain(chosen, name, idempotency_key=key)))


@app.command("delete", epilog=f"Example: {CLI} domain delete --tenant tenant_4f2a --yes")
def delete(context: typer.Context, tenant: TenantOption = None, yes: TenantYes = False) -> None:
    """Take a tenant's domain away; asks first. Needs a login."""
    settings = settings_of(context)
    question = "Take the domain of {} away? It stops answering there."
    chosen = confirmed_tenant(settings, tenant, question, yes=yes)
    ask_api(settings, lambda api: api.delete_custom_domain(chosen))
    done = {"tenant": chosen, "deleted": True}
    put_done(settings, done, f"{clean(chosen)} has no domain of its own any more.")


def known_domain(value: str) -> str:
    """A domain's name as DNS knows it: lower case, encoded (RFC 5891, UTS 46), without a dot at its end.

    Raises:
        typer.BadParameter: It is none.
    """
    import idna

    try:
        name = idna.encode(value.strip().removesuffix("."), uts46=True).decode()
    except idna.IDNAError:
        name = ""
    if len(name) > 253 or not _DOMAIN.fullmatch(name):
        raise typer.BadParameter(f"{value!r} is no domain name; it looks like shop.example.com", param_hint="DOMAIN")
    return name


def _put(settings: Settings, found: CustomDomainResponse) -> None:
    if settings.json:
        put_json(found)
        return
    record = found.dns_instructions
    verified = "verified" if found.verified else "not verified yet"
    put(f"{clean(found.domain)}: {clean(found.status)}, {verified}")
    if not found.verified:
        say("Add this DNS record:")
        rows = [("TYPE", "HOST", "VALUE", "TTL")]
        rows.append((clean(record.record_type), clean(record.host), clean(record.value), str(record.ttl)))
        put(table(rows))
        say(f"Then check: {settings.command('domain show')}")
