"""The seam to Stable-Baselines3: features extractors, policies with action heads, and a leaner PPO."""
