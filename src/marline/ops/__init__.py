"""The mathematics: pure functions on arrays, one equation each."""
