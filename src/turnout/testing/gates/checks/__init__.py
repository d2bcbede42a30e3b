"""The checks of gates, one small function each; its docstring is the property it states."""

from turnout.testing.gates.checks import decisions, layers, learning, masking, promises, state

__all__ = ["decisions", "layers", "learning", "masking", "promises", "state"]
