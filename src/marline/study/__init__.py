"""One task, several samplers and seeds."""
