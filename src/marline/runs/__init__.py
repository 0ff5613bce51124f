"""The run directory: what is in it, and what must be true of it."""
