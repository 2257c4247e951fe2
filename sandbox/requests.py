r"""The bodies the local cloud takes: the wire's records with the bounds this server sets on their values.

A client must be able to send what a later cloud allows, so `io/cloud/wire.py` bounds nothing; a server has to. The
bounds are written once, as constraints of the fields: reading a body applies them, and the description (`openapi.py`)
shows them. Where a refusal has a code of its own (`unknown_region` says more than `invalid_body`), the handler makes it
and the field only describes the same rule.

A pattern has to mean the same to Python, which checks it, and to JSON Schema, which takes ECMA-262: hence no `\d`, no
`\Z`, and behind each `$` a `(?!\n)`, because Python's `$` also matches before a last line break.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from ..io.cloud import wire
from .redirects import LONGEST, REDIRECT_URI
from .state import PLANS

END: Final = r"$(?!\n)"
_HOST_PART = "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_PATH_PART = "[a-z0-9]+(?:(?:[.]|_{1,2}|-+)[a-z0-9]+)*"

SECRET_NAME: Final = rf"^[A-Za-z_][A-Za-z0-9_]*{END}"
"""What an environment variable may be called (POSIX.1-2017, section 8.1), in either case."""
LONGEST_NAME: Final = 128
LONGEST_VALUE: Final = 4096
MOST_SECRETS: Final = 100
"""Characters of a secret's name and of its value, and how many a tenant may have."""
IMAGE: Final = (
    rf"^(?:{_HOST_PART}(?:[.]{_HOST_PART})*(?::[0-9]{{1,5}})?/)?{_PATH_PART}(?:/{_PATH_PART})*"
    rf"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}})?(?:@sha256:[0-9a-f]{{64}})?{END}"
)
"""`[host[:port]/]path[:tag][@digest]`, as registries read it (distribution/reference)."""
DOMAIN: Final = rf"^(?:{_HOST_PART}[.])+[A-Za-z](?:[A-Za-z0-9-]{{0,61}}[A-Za-z0-9]){END}"
"""A host name of at least two labels (RFC 1123 section 2.1), its last no number."""
TIMESTAMP: Final = (
    r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(?:[.][0-9]+)?(?:[Zz]|[+-][0-9]{2}:[0-9]{2})"
    rf"{END}"
)
"""RFC 3339 section 5.6."""


def _described(**rule: object) -> Meta:
    """A rule the handler applies, for the description only."""
    return Meta(extra_json_schema=dict(rule))


SecretName = Annotated[str, Meta(pattern=SECRET_NAME, max_length=LONGEST_NAME)]
SecretValue = Annotated[str, Meta(pattern=r"^[^\x00]*$", max_length=LONGEST_VALUE)]


class CheckoutRequest(wire.CheckoutRequest, frozen=True, kw_only=True):
    """What is bought, where it shall run, where the browser goes afterwards."""

    price_id: Annotated[str, _described(enum=[plan.paddle_price_id for plan in PLANS])]
    region: Annotated[str, _described(enum=list(wire.REGIONS))]
    redirect_uri: Annotated[str, _described(pattern=REDIRECT_URI, maxLength=LONGEST)] | None = None


class ActivityRequest(wire.ActivityRequest, frozen=True, kw_only=True):
    """What a client reports."""

    event: Annotated[str, _described(enum=list(wire.ActivityEvent))]
    timestamp: Annotated[str, _described(pattern=TIMESTAMP, format="date-time")]


class DeployRequest(wire.DeployRequest, frozen=True, kw_only=True):
    """The image to run."""

    image: Annotated[str, Meta(pattern=IMAGE, max_length=255)]


class SetSecretsRequest(wire.SetSecretsRequest, frozen=True, kw_only=True):
    """The values to set, by name."""

    secrets: Annotated[dict[SecretName, SecretValue], Meta(max_length=MOST_SECRETS)]


class CustomDomainRequest(wire.CustomDomainRequest, frozen=True, kw_only=True):
    """The domain the tenant shall answer under."""

    domain: Annotated[str, Meta(pattern=DOMAIN, max_length=253)]


ExternalDbAccessRequest = wire.ExternalDbAccessRequest


def json_schema(kind: object) -> dict[str, object]:
    """The schema of one bounded value, such as `SecretName`."""
    return msgspec.json.schema(kind)
