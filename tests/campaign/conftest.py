"""What tests of campaigns share."""

from __future__ import annotations

from pathlib import Path

import pytest
from field import ROWS, SIZES, act, copy, create

from marline.campaign.campaign import Campaign
from marline.campaign.intake import Ingested
from marline.campaign.status import status


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`run` is trained and exported, `sent` its bundles, `logs` what they logged; `tuned` came after that."""
    folder = tmp_path_factory.mktemp("world")
    run = create(folder / "run")
    run.train()
    assert status(run.folder).stage == "ready"
    run.export(folder / "sent")
    act(folder / "sent", folder / "logs")
    tuned = Campaign.open(copy(run.folder, folder / "tuned"))
    assert tuned.ingest(folder / "logs") == Ingested(1, "ingested", dict.fromkeys(SIZES, ROWS), (), ())
    tuned.tune()
    return folder
