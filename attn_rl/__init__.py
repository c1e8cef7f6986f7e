"""Attention policies over entities for Stable-Baselines3."""
