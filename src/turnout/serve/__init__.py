"""Sends each request that arrives at an OpenAI-compatible address to the model that should answer.

Three seams, each a protocol that can be replaced without touching the others: `policy` decides,
`upstream` asks, `ledger` remembers. `app` joins them; nothing in it knows a routing method.
"""
