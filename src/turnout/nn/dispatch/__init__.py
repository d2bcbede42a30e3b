"""Dispatch: sends rows to experts, and what they make of them back, fast.

`run` is the whole of it; `Bank` is how it reads experts. Paths differ in speed alone: each equals
`turnout.nn.dispatch.naive` in value and gradient. `turnout.nn.dispatch.choose` says which is taken
when, `turnout.nn.dispatch.register` puts this into models of transformers.
"""

from __future__ import annotations

from turnout.nn.dispatch.bank import Bank
from turnout.nn.dispatch.choose import BACKENDS, run

__all__ = ["BACKENDS", "Bank", "run"]
