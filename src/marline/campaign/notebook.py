"""What a notebook shows of a campaign."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from marline.display.notebook import html_table
from marline.types import AgentID


def tables(
    title: str, offline_rows: Mapping[AgentID, int], tuned_on: Mapping[AgentID, int], returns: Sequence[float]
) -> str:
    """Where every agent stands, and how each deployment went, in HTML."""
    agents = [
        (agent, f"{offline_rows[agent]:,}", "offline logs" if not number else f"deployment {number}")
        for agent, number in tuned_on.items()
    ]
    table = html_table(title, ("agent", "offline rows", "policy tuned on"), agents)
    went = [(str(number), f"{value:.4g}") for number, value in enumerate(returns, start=1)]
    return table + (html_table("Logged returns", ("deployment", "mean return"), went) if went else "")
