"""Predictors and what they are fitted with: linear, trees, neighbours, clusters, networks."""
