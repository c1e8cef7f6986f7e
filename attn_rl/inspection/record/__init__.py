"""Record what a policy attends to, from the very pass that acts: states, actors, patterns, rendered frames."""
