"""A campaign, or logs, opened for a command."""

from __future__ import annotations

import sys
from pathlib import Path

from marline.campaign.campaign import Campaign
from marline.campaign.read_logs import Received, read_logs
from marline.data.formats import tables_in
from marline.display.shell import command
from marline.errors import CorruptionError, DataError


def open_campaign(folder: Path, *, strict: bool = False) -> Campaign:
    """The campaign in a run directory; what is odd about it is said on standard error."""
    return noted(Campaign.open(folder, strict=strict))


def read_unmapped(source: Path, following: str, *, clip_actions: bool = False) -> Received:
    """Logs of any format that is read; what is wrong with tables is told with how to say what they hold.

    Args:
        source: what `read_logs` reads.
        following: the command that reads tables by a mapping, once there is one.
        clip_actions: as of `read_logs`.
    """
    try:
        return read_logs(source, clip_actions=clip_actions)
    except (DataError, CorruptionError) as error:
        if not tables_in(source):
            raise
        raise type(error)(
            f"{error}. {command('data', 'import', source)} shows all that is to be decided and writes a mapping; edit "
            f"it, and {following} reads by it"
        ) from None


def noted(campaign: Campaign) -> Campaign:
    """The campaign, once what is odd about it is said on standard error."""
    for note in campaign.notes:
        print(f"note: {note}", file=sys.stderr)
    return campaign
