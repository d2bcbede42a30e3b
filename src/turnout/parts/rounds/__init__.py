"""Requests of several calls: plays and their limits, turns of an inquiry, teams, readers."""
