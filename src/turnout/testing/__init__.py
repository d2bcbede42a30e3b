"""The public contract: checks any routing method can be run through."""

from turnout.testing.case import Case
from turnout.testing.data import real_data

__all__ = ["Case", "real_data"]
