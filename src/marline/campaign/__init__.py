"""The durable side: only this folder writes into a run directory."""
