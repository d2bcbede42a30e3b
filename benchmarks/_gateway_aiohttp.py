"""A bare pass-through on aiohttp's server and client, a contestant of `gateway.py`.

    python benchmarks/_gateway_aiohttp.py PORT UPSTREAM

What a gateway costs that does nothing but hand on, written the usual way: no keys, no budgets, no
routing, no ledger.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator

import aiohttp
import uvloop
from aiohttp import web

_HOP = {"connection", "content-length", "host", "keep-alive", "transfer-encoding"}
_CLIENT = web.AppKey("client", aiohttp.ClientSession)
_UPSTREAM = web.AppKey("upstream", str)


async def _pass(request: web.Request) -> web.StreamResponse:
    body = await request.read()
    headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP}
    url = request.app[_UPSTREAM] + request.path_qs
    client = request.app[_CLIENT]
    async with client.request(request.method, url, data=body, headers=headers) as answer:
        kept = {name: value for name, value in answer.headers.items() if name.lower() not in _HOP}
        if "text/event-stream" not in answer.headers.get("content-type", ""):
            return web.Response(status=answer.status, headers=kept, body=await answer.read())
        response = web.StreamResponse(status=answer.status, headers=kept)
        await response.prepare(request)
        async for data in answer.content.iter_any():
            await response.write(data)
        await response.write_eof()
        return response


async def _client(app: web.Application) -> AsyncIterator[None]:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as client:
        app[_CLIENT] = client
        yield


def main() -> None:
    """Serve until told to stop."""
    app = web.Application()
    app[_UPSTREAM] = sys.argv[2]
    app.cleanup_ctx.append(_client)
    app.router.add_route("*", "/{path:.*}", _pass)
    loop = uvloop.new_event_loop()
    web.run_app(
        app,
        host="127.0.0.1",
        port=int(sys.argv[1]),
        access_log=None,
        print=None,
        loop=loop,
        backlog=4096,
    )


if __name__ == "__main__":
    main()
