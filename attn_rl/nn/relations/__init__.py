"""Attention that compares like with like: groups of features, the terms they add to scores, all layers together."""
