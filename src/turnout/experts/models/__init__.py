"""Routers of transformers models: found, swapped for gates, recorded, replayed, saved, balanced."""
