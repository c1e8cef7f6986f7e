"""Vector environments for Stable-Baselines3: making, guarding, replaying and supervising them."""
