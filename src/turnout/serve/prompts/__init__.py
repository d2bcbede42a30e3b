"""Prompts of requests, kept only where that is switched on, and deleted in time."""
