"""What records say: metrics, counterfactual effects, invariants, summaries, and the file that keeps them."""
