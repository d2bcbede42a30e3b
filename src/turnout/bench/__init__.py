"""Outcome tables, importers, frontiers and landmarks."""
