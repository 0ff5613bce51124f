"""What a deployment takes does not grow with those before it: counted, not timed."""

from __future__ import annotations

import collections
from pathlib import Path

import numpy as np
import pytest

from marline.algorithms import TD3BC
from marline.campaign.campaign import Campaign
from marline.data import files, hdf5, manifest, plain
from marline.data.dataset import Dataset, from_arrays
from marline.samplers import Uniform

DEPLOYMENTS = 5


def logs(num_rows: int, seed: int) -> dict[str, Dataset]:
    random = np.random.default_rng(seed)
    columns = {
        "observations": random.normal(size=(num_rows, 3)),
        "actions": random.uniform(-1, 1, (num_rows, 2)),
        "rewards": random.normal(size=num_rows),
        "terminals": np.zeros(num_rows, bool),
        "timeouts": np.arange(1, num_rows + 1) % 5 == 0,
    }
    return {"arm": from_arrays("arm", columns)}


def trained(folder: Path) -> Campaign:
    campaign = Campaign.create(
        folder,
        logs(40, 0),
        algorithm=TD3BC(hidden=(4,)),
        sampler=Uniform(),
        deployments=DEPLOYMENTS,
        offline_updates=2,
        updates=2,
        rows_per_deployment=10,
    )
    campaign.train()
    return campaign


def test_no_deployment_reads_more_than_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    campaign = trained(tmp_path / "run")
    opened: list[Path] = []
    for module in (files, hdf5, manifest):
        its = module.open_regular
        monkeypatch.setattr(
            module,
            "open_regular",
            lambda path, *args, its=its, **kwargs: (opened.append(Path(path)), its(path, *args, **kwargs))[1],
        )
    counts: list[dict[str, int]] = []
    for number in range(1, DEPLOYMENTS + 1):
        opened.clear()
        campaign.tune(logs(10, number))
        counts.append(collections.Counter(path.name for path in opened))
        earlier = [
            path
            for path in opened
            for part in path.parts
            if part.startswith("deployment-") and int(part[-2:]) < number - 1
        ]
        assert earlier == []
    assert counts[-1] == counts[-2] == counts[-3]
    assert counts[-1]["manifest.json"] <= 5 and len(campaign.records) == DEPLOYMENTS + 1
    # lists that grow with every deployment are read once each
    assert [path.parent.name for path in opened if path.name == "manifest.json"].count("checkpoint-0000005") == 1


def test_folders_of_earlier_deployments_are_looked_through_once_from_wherever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    campaign = trained(Path("."))
    looked: list[str] = []
    scandir = plain.os.scandir
    monkeypatch.setattr(plain.os, "scandir", lambda path: (looked.append(str(path)), scandir(path))[1])
    counts = []
    for number in range(1, DEPLOYMENTS + 1):
        looked.clear()
        campaign.tune(logs(10, number))
        counts.append(sum("deployment-01" in path for path in looked))
    assert counts[-3:] == [0, 0, 0] and counts[1] > 0


def test_what_was_measured_is_the_callers_own(tmp_path: Path) -> None:
    campaign = trained(tmp_path / "run")
    campaign.tune(logs(10, 1))
    before = campaign.records
    campaign.records[0].get("returns", []).clear()
    assert campaign.records == before
    campaign.tune(logs(10, 2))
    assert campaign.records[1]["agents"] == before[1]["agents"]
    assert campaign.records == Campaign.open(tmp_path / "run").records
