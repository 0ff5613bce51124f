"""Where results lie that are published, which tiny versions of experiments are kept from."""

from __future__ import annotations

import argparse
from pathlib import Path

RESULTS = Path("results")


def require_apart(parser: argparse.ArgumentParser, folder: Path, option: str) -> None:
    """Leave with a message where a tiny version would write over published tables."""
    if folder.resolve() == RESULTS.resolve():
        parser.error(
            f"--quick is a tiny version, whose numbers are no results: add {option} FOLDER, another than {RESULTS}"
        )
