"""A request that is cancelled while it is sent leaves nothing behind, and one that is not arrives whole."""

from __future__ import annotations

import gc

import httpx
import pytest
import trio
from starlette.responses import Response
from systemprompt_cloud.io.http.bodies import WholeBody, may_be_left
from systemprompt_cloud.testing.scripted import serve_scripted


@pytest.mark.parametrize(("method", "content"), [("GET", None), ("POST", b"{}"), ("POST", b"x" * 100_000)])
async def test_the_body_arrives_whole(method: str, content: bytes | None) -> None:
    """With its length in the header, not in chunks, and again when the request is sent again."""
    async with serve_scripted() as server, httpx.AsyncClient(trust_env=False) as client:
        server.plan(Response(status_code=204))
        request = may_be_left(client.build_request(method, server.url, content=content))
        for _ in range(2):
            assert (await client.send(request)).status_code == 204
        assert server.bodies == [content or b""] * 2
        assert [asked.headers.get("content-length") for asked in server.requests] == [
            None if content is None else str(len(content))
        ] * 2


async def test_a_body_left_half_sent_is_nobodys_business() -> None:
    """Left after its first piece and collected: no warning, which here would be an error."""
    body = aiter(WholeBody(b"all of it"))
    assert await anext(body) == b"all of it"
    del body
    gc.collect()
    await trio.lowlevel.checkpoint()
