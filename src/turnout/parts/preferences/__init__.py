"""Policies in words: their decision, the model that matches a conversation to one, its play."""
