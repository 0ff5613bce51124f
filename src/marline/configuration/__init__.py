"""From what a person asks for to what a run is."""
