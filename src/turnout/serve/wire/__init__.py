"""Sends HTTP/1.1 requests from sockets to the gateway, and from the gateway to its upstreams.

`server` hears clients, `client` asks upstreams, `clock` keeps the time of both. Everything is
direct calls from the event loop's protocols: no task and no queue stands in the way of a byte.
"""
