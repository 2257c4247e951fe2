"""The fields of each command's JSON, so that `--fields` is checked before the command does anything.

Errors are no part of it: an object with `error` is always written whole. A test's `Ran.lines` compares what commands
print with this table.
"""

from __future__ import annotations

_FLOW = "flow machine key state status verdict parent created updated deadline"
_CHANGE = "flow seq at machine kind event from to message"
_RUN = f"{_CHANGE} state verdict result problem code hint resume"
_PROBLEMS = "journal flows unchecked problems directory stories points"
_STATUS = (
    "user_email account api_url source keyring authenticated_at expires_at expired checked directory origin pending"
)
_SESSION = (
    "key tenant active profile profile_path session_id context_id user_id user_email user_type created_at expires_at "
    "expired last_used"
)
_TENANT = (
    "tenant name type selected app_id hostname region external_db_access has_database_url missing_credentials account"
)
_DOMAIN = "tenant domain status verified dns_target dns_instructions created_at verified_at"

FIELDS = {
    "up": _RUN,
    "login": _RUN,
    "auth login": _RUN,
    "auth logout": "removed sessions reported kept",
    "auth status": _STATUS,
    "auth refresh": "",
    "auth token": "token api_url expires_at",
    "auth list": "account active user_email api_url",
    "auth switch": "account user_email api_url before",
    "config get": "key value",
    "config list": "key value",
    "config set": "key value",
    "config unset": "key value",
    "whoami": _STATUS,
    "logout": "removed sessions reported kept",
    "plans": "id name paddle_price_id memory_mb_default volume_gb max_tenants",
    "checkout": _RUN,
    "provision": _RUN,
    "deploy": _RUN,
    "registry-token": "tenant registry username repository tag",
    "demo": _RUN,
    "diagram": "format file diagram",
    "sandbox": "url",
    "doctor": "check status message hint",
    "tenants list": _TENANT,
    "tenants show": _TENANT,
    "tenants select": "selected",
    "tenants sync": _TENANT,
    "tenants status": "tenant status message app_url",
    "tenants restart": "tenant status",
    "tenants retry": "tenant status",
    "tenants delete": "tenant deleted",
    "tenants rotate-credentials": "tenant status stored",
    "tenants rotate-sync-token": "tenant rotated stored",
    "tenants external-db": "tenant external_db_access",
    "tenants cancel-subscription": "tenant subscription",
    "secrets list": "tenant key",
    "secrets set": "tenant set",
    "secrets unset": "tenant unset",
    "domain show": _DOMAIN,
    "domain set": _DOMAIN,
    "domain delete": "tenant deleted",
    "sessions list": _SESSION,
    "sessions show": _SESSION,
    "sessions switch": _SESSION,
    "sessions remove": "key removed",
    "sessions prune": "removed",
    "flows list": f"{_FLOW} driven",
    "flows show": f"{_FLOW} problem trouble driver children resume waiting refused",
    "flows history": _CHANGE,
    "flows resume": f"{_RUN} {_FLOW}",
    "flows cancel": _FLOW,
    "flows check": _PROBLEMS,
    "flows send": f"{_FLOW} event taken",
    "flows watch": f"{_CHANGE} {_FLOW} resume",
    "flows export": "format exported flows",
    "flows prune": "removed flows children records kept spared freed",
    "flows backup": "journal backup bytes secrets flows_with_secrets",
    "flows restore": "journal unfinished flows_with_secrets",
}
"""A command's words, and the names of its fields: each once, in the order they are listed in."""


def fields_of(words: str) -> tuple[str, ...]:
    """The fields of a command's JSON; none where the command has none."""
    return tuple(dict.fromkeys(FIELDS.get(words, "").split()))
