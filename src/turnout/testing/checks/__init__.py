"""The checks, one small function each; its docstring is the property it states."""

from turnout.testing.checks import everybody, learning, online, routing, sequential

__all__ = ["everybody", "learning", "online", "routing", "sequential"]
