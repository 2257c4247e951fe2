"""What a login takes for a token is a token for every later command, whatever its form and whoever's it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jwt
import pytest
from starlette.responses import JSONResponse
from systemprompt_cloud.flows.login import start_login
from systemprompt_cloud.flows.outside import Api
from systemprompt_cloud.io.local.credentials import CloudCredentials
from systemprompt_cloud.testing.scripted import serve_scripted

from tests.support.rehearsal import open_rehearsal

KEY = "a test key of more than thirty-two bytes"
ADA = {"id": "user_1", "email": "ada@example.org", "name": "Ada"}


def signed(**claims: Any) -> str:
    """A JWT with these claims."""
    return jwt.encode(claims, KEY, algorithm="HS256")


TOKENS = {
    "opaque": "spc_0123456789abcdef0123456789abcdef",
    "with every character": "a.b~c+d/e_f-g=:!#$%&'()*,;<>?@[]^`{|}",
    "no exp": signed(sub="u"),
    "exp as text": signed(sub="u", exp="4102444800"),
    "exp as words": signed(sub="u", exp="never"),
    "exp with a fraction": signed(sub="u", exp=4102444800.5),
    "exp in milliseconds": signed(sub="u", exp=4102444800000),
    "exp beyond every calendar": signed(sub="u", exp=10**30),
    "exp of zero": signed(sub="u", exp=0),
    "exp of another type": signed(sub="u", exp=[1]),
    "very long": signed(sub="u", groups=["g" * 36] * 200),
}


@pytest.mark.parametrize("name", TOKENS)
async def test_a_token_the_api_accepts_is_stored_and_used(tmp_path: Path, name: str) -> None:
    """Whatever it looks like: the API has the last word."""
    token = TOKENS[name]
    async with open_rehearsal(tmp_path) as rehearsal, serve_scripted() as server, rehearsal.open_engine() as engine:
        server.plan(JSONResponse({"user": ADA, "tenants": []}), JSONResponse({}))
        outcome = await (await start_login(engine, rehearsal.login(api_url=server.url), token=token)).wait()
        assert outcome.succeeded, outcome.problem
        assert server.requests[0].headers["authorization"] == f"Bearer {token}"
        assert Api(rehearsal.paths).credentials(server.url).api_token == token


@pytest.mark.parametrize(
    ("user", "known_as"),
    [
        ({"id": "user_1"}, "user_1@email.invalid"),
        ({"id": "user_1", "email": None}, "user_1@email.invalid"),
        ({"id": "user_1", "email": ""}, "user_1@email.invalid"),
        ({"id": "github|4 2@x", "email": "none"}, "github|4-2-x@email.invalid"),
        (ADA, "ada@example.org"),
    ],
)
async def test_an_account_without_an_address_can_log_in(tmp_path: Path, user: dict[str, Any], known_as: str) -> None:
    """It is known by its id, in an address that reaches nobody and that every reader of the file takes."""
    async with open_rehearsal(tmp_path) as rehearsal, serve_scripted() as server, rehearsal.open_engine() as engine:
        server.plan(JSONResponse({"user": user, "tenants": []}), JSONResponse({}))
        outcome = await (await start_login(engine, rehearsal.login(api_url=server.url), token="opaque")).wait()
        assert outcome.result["user_email"] == known_as
        assert CloudCredentials.load_from_path(rehearsal.paths.credentials).user_email == known_as
