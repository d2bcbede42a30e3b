"""Blocks that need torch: nothing here is imported before it is asked for."""
