"""Offline training of decentralized multi-agent policies, and their improvement over a few deployments."""
