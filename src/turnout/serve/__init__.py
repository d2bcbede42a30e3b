"""Sends each request that arrives at an OpenAI-compatible address to the model that should answer.

`front` takes a request in, `exchange` asks and passes on, `pages` shows what there is to see. Two
seams, each a protocol that can be replaced: `policy` decides, `upstream` asks. `wire` is HTTP,
`money` prices, budgets and ledger, `guard` keys and limits; `worker` and `workers` run it all.
"""
