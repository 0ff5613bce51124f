"""How a table might be read, guessed from what is in it, and all that stands against it; the user has the last word."""
