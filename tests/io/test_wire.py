"""The wire records read what the API sends, and are neither stricter nor looser than they must be."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from systemprompt_cloud.io.cloud import wire

ME = b"""{
  "user": {"id": "u1", "email": "ada@example.com", "name": null, "avatar": "x"},
  "tenants": [{"id": "t1", "name": "One", "status": "hibernating", "database_url": "postgres://u:p@h/d",
               "plan": {"name": "Small", "memory_mb": 512, "volume_gb": 1}}],
  "feature_flags": {"new": true}
}"""


def test_me_ignores_unknown_fields_and_takes_null_for_absent() -> None:
    """A newer server may say more, and may say null where it used to say nothing."""
    me = msgspec.json.decode(ME, type=wire.UserMeResponse)
    assert me.user == wire.UserInfo(id="u1", email="ada@example.com")
    assert me.customer is None
    assert me.tenants[0].plan == wire.TenantPlan(name="Small", memory_mb=512, volume_gb=1)
    assert me.tenants[0].external_db_access is False


def test_me_without_tenants_has_none() -> None:
    """`tenants` may be absent altogether."""
    me = msgspec.json.decode(b'{"user": {"id": "u", "email": "a@b.c"}}', type=wire.UserMeResponse)
    assert me.tenants == []


def test_unknown_enum_value_stays_the_raw_string() -> None:
    """A status nobody knows yet does not stop a flow."""
    me = msgspec.json.decode(ME, type=wire.UserMeResponse)
    assert me.tenants[0].status == "hibernating"


def test_known_enum_values_compare_equal_to_the_members() -> None:
    """The raw string of a record can be compared with, and looked up by, the StrEnum."""
    event = msgspec.json.decode(
        b'{"tenant_id": "t", "event_type": "tenant_ready", "status": "ready"}', type=wire.ProvisioningEvent
    )
    assert event.event_type == wire.ProvisioningEventType.TENANT_READY
    assert event.event_type in set(wire.ProvisioningEventType)
    assert wire.SubscriptionStatus.PAST_DUE == "past_due"
    assert wire.TenantInfoStatus.ACTIVE == "active"


def test_missing_field_is_named_with_its_path() -> None:
    """What is needed and missing is an error that says where."""
    with pytest.raises(msgspec.ValidationError, match=r"missing required field `email` - at `\$\.user`"):
        msgspec.json.decode(b'{"user": {"id": "u"}}', type=wire.UserMeResponse)


def test_envelope_decodes_its_inner_record() -> None:
    """`{"data": ...}` is generic over what it carries."""
    body = b'{"data": [{"id": "t", "name": "One", "fly_app_name": "app-1"}], "page": 1}'
    tenants = msgspec.json.decode(body, type=wire.Data[list[wire.Tenant]]).data
    assert tenants == [wire.Tenant(id="t", name="One", fly_app_name="app-1")]


def test_plan_defaults() -> None:
    """Memory and volume default to 0, the number of tenants to unlimited."""
    plan = msgspec.json.decode(b'{"id": "p", "name": "P", "paddle_price_id": "pri_1"}', type=wire.Plan)
    assert (plan.memory_mb_default, plan.volume_gb, plan.max_tenants) == (0, 0, None)


def test_checkout_request_leaves_out_an_absent_redirect() -> None:
    """An optional request field that was not given is not sent as null."""
    assert msgspec.json.encode(wire.CheckoutRequest(price_id="p", region="iad")) == b'{"price_id":"p","region":"iad"}'


def test_secrets_stay_out_of_repr_but_are_encoded() -> None:
    """A traceback or log line that prints a record loses no secret; the wire still carries it."""
    secrets = wire.TenantSecrets(
        jwt_secret="very-jwt",
        database_url="postgres://very",
        internal_database_url="postgres://internal",
        app_url="https://app.example",
        sync_token="very-sync",
    )
    assert "very" not in repr(secrets)
    assert "postgres" not in str(secrets)
    assert "app_url='https://app.example'" in repr(secrets)
    assert b"very-jwt" in msgspec.json.encode(secrets)


SECRET_RECORDS = [
    wire.TenantInfo(id="t", name="n", database_url="s3cret"),
    wire.RegistryToken(registry="r", username="u", token="s3cret", repository="r", tag="t"),
    wire.SetSecretsRequest(secrets={"KEY": "s3cret"}),
    wire.ExternalDbAccessResponse(tenant_id="t", external_db_access=True, database_url="s3cret"),
    wire.RotateCredentialsResponse(
        status="s", message="m", internal_database_url="s3cret", external_database_url="s3cret"
    ),
    wire.RotateSyncTokenResponse(sync_token="s3cret"),
]


@pytest.mark.parametrize("record", SECRET_RECORDS, ids=lambda record: type(record).__name__)
def test_every_record_with_a_secret_hides_it(record: wire.Message) -> None:
    """No record that carries a token, a database URL or a secret's value shows it."""
    assert "s3cret" not in repr(record)


def test_records_are_frozen() -> None:
    """What came from the wire is a fact."""
    with pytest.raises(AttributeError):
        wire.StatusResponse(status="ok").status = "other"  # pyright: ignore[reportAttributeAccessIssue] -- the point


@given(st.text(), st.text(), st.text() | st.none())
def test_records_survive_the_wire(tenant_id: str, event_type: str, message: str | None) -> None:
    """Encoding and decoding gives the same record, whatever the strings hold."""
    event = wire.ProvisioningEvent(tenant_id=tenant_id, event_type=event_type, status="s", message=message)
    assert msgspec.json.decode(msgspec.json.encode(event), type=wire.ProvisioningEvent) == event


def test_environments_know_their_api() -> None:
    """The two public clouds have the documented base URLs."""
    assert wire.Environment("production").api_url == "https://api.systemprompt.io"
    assert wire.Environment("sandbox").api_url == "https://api-sandbox.systemprompt.io"


def test_regions_are_the_documented_eight() -> None:
    """Every region code has a name people read."""
    assert set(wire.REGIONS) == {"iad", "lhr", "fra", "ams", "sin", "nrt", "syd", "gru"}
    assert wire.REGIONS["gru"] == "South America (São Paulo)"


ANSWERS = [
    each
    for each in vars(wire).values()
    if isinstance(each, type) and issubclass(each, wire.Message) and each not in {wire.Message, wire.Data}
]
UNKNOWN = st.dictionaries(
    st.text(min_size=1).map(lambda name: f"x-{name}"), st.none() | st.text() | st.lists(st.booleans())
)


@pytest.mark.parametrize("record", ANSWERS, ids=lambda record: record.__name__)
@given(data=st.data())
@settings(max_examples=20)
def test_every_record_takes_what_a_newer_server_may_say(record: type[wire.Message], data: st.DataObject) -> None:
    """Fields nobody knows are ignored, words nobody knows are kept, optionals may be absent or null."""
    fields = msgspec.structs.fields(record)
    found = data.draw(st.builds(record, **{field.name: st.from_type(field.type) for field in fields}))
    said: dict[str, Any] = msgspec.to_builtins(found)
    for field in (each for each in fields if each.default is None):
        if said.get(field.encode_name) is None and data.draw(st.booleans()):
            said[field.encode_name] = None
        elif said.get(field.encode_name) is None:
            said.pop(field.encode_name, None)
    body = msgspec.json.encode(data.draw(UNKNOWN) | said)
    assert msgspec.json.decode(body, type=record) == found
