"""Texts as features: words, form, shingles and their signatures, vectors of encoders."""
