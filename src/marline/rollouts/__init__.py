"""Episodes of a team in a task."""
