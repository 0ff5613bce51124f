"""Teams whose logs others learn from: robots taught online, stopped by their return as for D4RL (2004.07219)."""
