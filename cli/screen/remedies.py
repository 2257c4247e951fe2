"""What a person does about an error: the remedies of errors as sentences with commands to paste.

A template holds text, facts as `{name}`, and commands in double brackets. A command works when it is pasted: its facts
are quoted for a shell, and it names the directory and the API that were named here; one that begins with `!` names its
own API. Outside of commands `{name:shell}` is a fact to be pasted.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping
from typing import Final

from typing_extensions import override

from ...base.errors import CloudError
from ...base.remedies import Remedy
from ...engine.errors import FlowParked
from ..shared.settings import Settings

TEMPLATES: Final[Mapping[str, str]] = {
    # the account
    "log_in": "Log in: [[login]]",
    "log_in_again": "Log in again: [[login]]",
    "log_in_there": "Log in there: [[!login --api-url {api_url}]]",
    "retry_login": "Try again: [[login]]",
    "set_clock": "Set this computer's clock, then resume: [[flows resume {flow}]]",
    "replace_credentials": "Look at the file; `[[login]]` sets it aside and writes a new one.",
    "unlock_keyring": "Start or unlock the keyring and run the same command again, or: [[login --no-keyring]]",
    "confirm_account": "Run `[[flows resume {flow}]]` in a terminal, where the account can be confirmed.",
    "remove_session": "Remove the session: [[sessions remove {session}]]",
    # tenants
    "choose_tenant": "Choose one: [[tenants select]]; for a new one: [[up --plan ID]]",
    "sync_or_buy": "Fetch yours: [[tenants sync]]. To buy one: [[up --help]]",
    "name_tenant": "Name one, or run: [[tenants select ID]]",
    "name_failed_tenant": "Name the one to retry: [[tenants retry ID]]",
    "deploy": "Give it an image: [[deploy IMAGE]]",
    "sync_tenants": "Fetch yours: [[tenants sync]]",
    "list_tenants": "See what is stored here: [[tenants list]]. Read it from the API again: [[tenants sync]]",
    "set_domain": "There is nothing to take away; give the tenant one: [[domain set DOMAIN]]",
    "list_secrets": "List them: [[secrets list]]",
    "list_plans": "List them: [[plans]]",
    # flows
    "start_flow": "Start one: [[up --help]]",
    "list_flows": "List them: [[flows list]]",
    "show_machine": "See what it accepts: [[diagram {machine}]]",
    "wait_or_cancel": "Let it finish, look at it with `[[flows show {flow}]]`, or stop it: [[flows cancel {flow}]]",
    "resume": "To continue, run: [[flows resume {flow}]]",
    "resume_or_cancel": "Resume it: [[flows resume {flow}]]; or end it first: [[flows cancel {flow}]]",
    "resume_without_repeat": "Resume it without --repeat: [[flows resume {flow}]]",
    "repeat_or_cancel": (
        "Check whether it happened; then `[[flows resume --repeat {flow}]]` does it again. "
        "Or end the flow: [[flows cancel {flow}]]"
    ),
    "answer_question": (
        'To answer, run `[[flows resume {flow}]]` in a terminal. It asks: "{question}" '
        "To end the flow instead: [[flows cancel {flow}]]"
    ),
    "wait_longer": "To wait longer, run: [[flows resume {flow}]]",
    "pay_or_cancel": (
        "Check again, and pay on the same page: [[flows resume {flow}]]. To give the order up: [[flows cancel {flow}]]"
    ),
    "settle_earlier_order": (
        "Continue that order: [[flows resume {flow}]]. To give it up: [[flows cancel {flow}]]. "
        'Then run, in a terminal: [[flows resume {this}]]. While that order is not finished, it asks: "{question}"'
    ),
    "retry_tenant": "Retry it: [[tenants retry {tenant}]]. Then continue with this tenant: [[flows resume {flow}]]",
    "see_traceback": "The flow is kept: `[[flows resume {flow}]]`. Run with -v --log-file FILE to see the traceback.",
    "add_program": "Open the engine with it, or end the flow: [[flows cancel {flow}]]",
    "finish_or_cancel": "Finish it with the version that started it, or end it: [[flows cancel {flow}]]",
    "fix_migration": "Fix the migration; the flow is unchanged. See `[[flows check]]`.",
    # the world
    "name_api": "If you trust it, name it yourself with --api-url.",
    "check_api": "Check --api-url; if it is right, try again later.",
    "check_api_address": "Check --api-url: there is no such call at that address.",
    "check_api_gives": "Check --api-url: this is not an address the API would give.",
    "check_connection": "Check the connection and --api-url, then run the same command again.",
    "check_proxy_variable": "Check {variable}; NO_PROXY lists the hosts that are reached without a proxy.",
    "set_proxy": "Set {variable} to http://HOST:PORT or socks5://HOST:PORT, or unset it.",
    "install_socks": "Run `pip install 'systemprompt-cloud[socks]'`, or set {variable} to an HTTP proxy.",
    "check_proxy": "This is not what the API sends; check --api-url and any proxy.",
    "check_page": (
        "Check whether this network wants a sign-in in a browser first, HTTPS_PROXY and NO_PROXY, and --api-url."
    ),
    "check_compression": "A proxy between here and the API compresses answers; check --api-url and the proxy.",
    "check_certificates": "Check --api-url, the clock, and SSL_CERT_FILE when a proxy of yours signs certificates.",
    "choose_port": "Choose another with --port, or 0 for any free one.",
    "list_faults": "List them: [[sandbox --help]]",
    # places
    "own_directory": "Remove it, or point --dir at a directory of your own.",
    "new_directory": "Name an empty directory, for example --dir DIR/.systemprompt",
    "use_directory": "Name an empty directory: --dir {directory:shell}",
    "real_directory": "Use the directory it leads to: --dir {directory:shell}",
    "local_directory": "Fix that, or name another directory, on a local disk, with --dir.",
    "permitted_directory": (
        "Name another directory with --dir, or see who may write there: ls -ld {directory:shell} {parent:shell}"
    ),
    "writable_disk": "Make the disk of {disk} writable again, or name another directory with --dir.",
    "copy_directory": (
        "The disk of {disk} fails: look at the system's log. Copy the directory to another disk and use it with --dir."
    ),
    "upgrade_in_steps": "Upgrade in smaller steps, or point --dir at another directory.",
}
"""A sentence for every step an error of ours names."""

_COMMAND: Final = re.compile(r"\[\[(!?)(.+?)\]\]")
_LOG_IN: Final = frozenset({"log_in", "log_in_again"})


class _Fact(str):
    """A fact in a template: as it is, or quoted for a shell where the template says `{name:shell}`."""

    __slots__ = ()

    @override
    def __format__(self, kind: str) -> str:
        return shlex.quote(self) if kind == "shell" else str(self)


class _Facts(dict[str, str]):
    """Facts for a sentence; one that is not there is left out."""

    def __init__(self, facts: Mapping[str, str]) -> None:
        super().__init__({name: _Fact(value) for name, value in facts.items()})

    def __missing__(self, name: str) -> _Fact:
        return _Fact()


def remedy_text(
    settings: Settings | None, remedy: Remedy, environ: Mapping[str, str] = os.environ, *, flow: str = ""
) -> str | None:
    """A remedy as a sentence with commands; None where there is none for it.

    Args:
        settings: The global options; None when they could not even be read.
        remedy: The step, with its facts.
        environ: While it holds a token, no login helps.
        flow: The flow that is paused, where there is one: the one that is meant where the facts name none.
    """
    from ...io.local.environment import environment_token, fresh_token_hint

    if remedy.step in _LOG_IN and environment_token(environ):
        return fresh_token_hint()
    template = TEMPLATES.get(remedy.step)
    if template is None:
        return None
    facts = _Facts(({"flow": flow} if flow else {}) | dict(remedy.facts))
    quoted = _Facts({name: shlex.quote(value) for name, value in facts.items()})
    parts: list[str] = []
    end = 0
    for found in _COMMAND.finditer(template):
        parts.append(template[end : found.start()].format_map(facts))
        words = found[2].format_map(quoted).rstrip()
        parts.append(_command(settings, words, own_api=bool(found[1])))
        end = found.end()
    return "".join([*parts, template[end:].format_map(facts)])


def hint_of(settings: Settings | None, error: CloudError, *, flow: str = "") -> str:
    """What a person does about an error: its remedy in words, or else its own hint.

    Args:
        settings: The global options; None when they could not even be read.
        error: What happened.
        flow: The flow it stopped, where the error itself does not name it.
    """
    if isinstance(error, FlowParked):
        flow = error.flow
    words = None if error.remedy is None else remedy_text(settings, error.remedy, flow=flow)
    return error.recovery_hint if words is None else words


def _command(settings: Settings | None, words: str, *, own_api: bool) -> str:
    if settings is None:
        from ..shared.names import CLI

        return f"{CLI} {words}"
    return settings.command(words, own_api=own_api)
