"""Money and memory of the gateway: prices, hard budgets, and the ledger, exact across workers.

`units` counts, `prices` and `estimate` say what a request costs, `board` is what all workers
share, `purses` are the budgets on it, `journal` is what survives a kill, `ledger` is what stays for
good. `store` opens and recovers all of it, `books` is what a worker uses.
"""
