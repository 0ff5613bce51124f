"""How good a team is, and how sure one can be."""
