"""The folder of one run: its files, checkpoints, exact resume, interrupts."""
