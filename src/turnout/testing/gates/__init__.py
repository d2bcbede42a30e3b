"""The public contract of gates: checks that any gate of a mixture of experts can be run through.

Third parties run it on their own gates: give the module a `CARD`, then::

    from turnout.testing.gates import GateCase, check

    check(GateCase(MyGate(k=2)))        # raises ContractError with every broken check

It needs torch; `turnout.testing` itself does not import it.
"""

from turnout.testing.gates.case import GateCase
from turnout.testing.gates.contract import CHECKS, check, checks_for, known, run_check
from turnout.testing.gates.subject import Batch, GateSubject, routes

__all__ = [
    "CHECKS",
    "Batch",
    "GateCase",
    "GateSubject",
    "check",
    "checks_for",
    "known",
    "routes",
    "run_check",
]
