"""What all environments share: batched and single stepping, slots, random draws, geometry, drawing."""
