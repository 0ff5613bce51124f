"""What a person sees: progress, tables, commands to copy."""
