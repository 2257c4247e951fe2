"""Every command: where it is, and what it does in one sentence.

Nothing is imported here: names that are not commands and the names that Tab offers are answered from this table, and
`app` imports the module of a command when the command is run or its help is asked for. A test compares the sentences
with what the commands say of themselves.
"""

from __future__ import annotations

COMMANDS = {
    "up": ("run.up:up", "Log in if needed, pay, wait for the tenant and store it."),
    "login": ("account.login:login", "Log in with a browser, or with a token from stdin."),
    "whoami": ("account.whoami:whoami", "Show authentication status."),
    "logout": ("account.logout:logout", "Remove the login, the stored tenants and their sessions."),
    "auth": ("", "Log in and out, and show who is logged in."),
    "auth login": ("account.login:login", "Log in with a browser, or with a token from stdin."),
    "auth logout": ("account.logout:logout", "Remove the login, the stored tenants and their sessions."),
    "auth status": ("account.whoami:whoami", "Show authentication status."),
    "auth token": ("account.token:token", "Print the token, and nothing else."),
    "auth list": ("account.accounts:list_accounts", "List the accounts that are logged in here."),
    "auth switch": ("account.accounts:switch", "Make another account the active one."),
    "auth refresh": ("account.token:refresh", "Refresh a token; the SystemPrompt login has none to refresh."),
    "plans": ("run.plans:plans", "List the plans there are."),
    "checkout": ("run.checkout:checkout", "Pay for a tenant."),
    "provision": ("run.provision:provision", "Wait for a tenant with live progress, and store it."),
    "deploy": ("run.deploy:deploy", "Run an image on a tenant and wait until it runs."),
    "registry-token": ("tenants.registry_token:registry_token", "Show where to push a tenant's images."),
    "demo": ("tools.demo:demo", "Show the whole story on a local cloud."),
    "diagram": ("tools.diagram:diagram", "Draw a machine, or the path of a flow."),
    "sandbox": ("tools.sandbox:sandbox", "Run a local cloud on loopback until Ctrl-C."),
    "doctor": ("tools.doctor:doctor", "Diagnose problems."),
    "config": ("", "The settings you keep."),
    "config get": ("tools.config:get", "Print a setting; exit code 1 when it is not set."),
    "config list": ("tools.config:list_settings", "List every setting with its value."),
    "config set": ("tools.config:set_setting", "Set a setting."),
    "config unset": ("tools.config:unset", "Remove a setting."),
    "tenants": ("", "The tenants stored here, and changing them in the cloud."),
    "tenants list": ("tenants.tenants:list_tenants", "List the tenants stored here."),
    "tenants show": ("tenants.tenants:show", "Show what is stored of a tenant."),
    "tenants select": ("tenants.tenants:select", "Choose the tenant that is meant where none is named."),
    "tenants sync": ("tenants.tenants:sync", "Read the tenants from the API and store them."),
    "tenants status": ("tenants.tenants:status", "Ask the API how a tenant is."),
    "tenants restart": ("tenants.change:restart", "Restart a tenant."),
    "tenants retry": ("tenants.change:retry", "Provision a tenant again whose provisioning failed."),
    "tenants delete": ("tenants.change:delete", "Delete a tenant and everything in it; asks first."),
    "tenants rotate-credentials": (
        "tenants.change:rotate_credentials",
        "Give a tenant's database a new password; asks first.",
    ),
    "tenants rotate-sync-token": ("tenants.change:rotate_sync_token", "Give a tenant a new sync token; asks first."),
    "tenants external-db": ("tenants.change:external_db", "Open a tenant's database to the outside, or close it."),
    "tenants cancel-subscription": (
        "tenants.change:cancel_subscription",
        "Cancel the subscription of a tenant; asks first.",
    ),
    "secrets": ("", "The secrets of a tenant: set and listed, never shown."),
    "secrets list": ("tenants.secrets:list_secrets", "List the names of a tenant's secrets."),
    "secrets set": ("tenants.secrets:set_secrets", "Set secrets of a tenant."),
    "secrets unset": ("tenants.secrets:unset_secret", "Remove a secret of a tenant; asks first."),
    "domain": ("", "The custom domain of a tenant."),
    "domain show": ("tenants.domain:show", "Show a tenant's domain, and the DNS record to add."),
    "domain set": ("tenants.domain:set_domain", "Give a tenant a domain, and show the DNS record to add."),
    "domain delete": ("tenants.domain:delete", "Take a tenant's domain away; asks first."),
    "sessions": ("", "The CLI sessions kept here, of tenants and local work."),
    "sessions list": ("account.sessions:list_sessions", "List the sessions kept here."),
    "sessions show": (
        "account.sessions:show",
        "Show a session without its token; the active one when none is named.",
    ),
    "sessions switch": ("account.sessions:switch", "Make a session the active one."),
    "sessions remove": ("account.sessions:remove", "Remove a session with its token; asks first."),
    "sessions prune": ("account.sessions:prune", "Remove every session that has ended."),
    "flows": ("", "List, resume and cancel flows."),
    "flows list": ("flows.flows:list_flows", "List flows, the newest first."),
    "flows show": ("flows.flows:show", "Show a flow's state, what it means, and how to continue."),
    "flows history": ("flows.flows:history", "Show what a flow went through, a line for each state."),
    "flows resume": ("flows.flows:resume", "Resume a flow where it stopped."),
    "flows cancel": ("flows.flows:cancel", "Stop a flow for good."),
    "flows check": ("flows.flows:check", "Check the journal: the file, and every flow against its history."),
    "flows send": ("flows.send:send", "Send a flow an event, also when another process drives it."),
    "flows watch": ("flows.watch:watch", "Show what happens to flows that other processes drive."),
    "flows export": ("flows.keep:export", "Write a flow and its history as JSON, without any secret."),
    "flows prune": ("flows.keep:prune", "Remove flows that ended long ago, with their histories."),
    "flows backup": ("flows.keep:backup", "Copy the journal, also while flows are driven."),
    "flows restore": ("flows.keep:restore", "Put a backup back, also on another machine."),
}
"""A command's words: the module below `cli` and the name of the command there (none for a group), and the sentence."""


def inside(group: str) -> dict[str, str]:
    """The names of the commands of a group, of the program for an empty name, with their sentences."""
    start = f"{group} " if group else ""
    found = {words.removeprefix(start): what for words, (_, what) in COMMANDS.items() if words.startswith(start)}
    return {name: what for name, what in found.items() if " " not in name}


def is_group(words: str) -> bool:
    """Whether these words name commands that have commands inside them."""
    return not words or COMMANDS.get(words, ("not a command", ""))[0] == ""


def unknown(name: str, names: list[str]) -> str:
    """What is wrong with a word that is no command, and which commands it is like."""
    from difflib import get_close_matches

    like = ", ".join(repr(each) for each in get_close_matches(name, names))
    return f"No such command {name!r}.{f' Did you mean {like}?' if like else ''}"
