"""The public contract: checks any routing method can be run through."""
