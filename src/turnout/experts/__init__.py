"""Sends tokens to feed-forward experts."""
