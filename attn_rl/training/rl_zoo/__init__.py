"""RL Zoo: hyperparameters as its files have them, and a search over the network too. ``docs/rl-zoo.md`` shows both."""
