"""Reads every method's card without importing the method."""
