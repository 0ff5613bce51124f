"""What each subcommand can be told: frozen dataclasses, and nothing else."""
