"""Strategies behind the gateway: one request of a client, several calls to the pool."""
