"""A campaign opened for a command."""

from __future__ import annotations

import sys
from pathlib import Path

from marline.campaign.campaign import Campaign


def open_campaign(folder: Path, *, strict: bool = False) -> Campaign:
    """The campaign in a run directory; what is odd about it is said on standard error."""
    return noted(Campaign.open(folder, strict=strict))


def noted(campaign: Campaign) -> Campaign:
    """The campaign, once what is odd about it is said on standard error."""
    for note in campaign.notes:
        print(f"note: {note}", file=sys.stderr)
    return campaign
