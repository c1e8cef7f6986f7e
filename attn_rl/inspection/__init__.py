"""Where a policy looks and whether that matters: record, measure, draw, show in TensorBoard."""
