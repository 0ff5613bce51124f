"""What a person gives: arguments, options, code."""
