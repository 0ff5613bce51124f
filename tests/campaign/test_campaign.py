"""A campaign without a simulator: what it saves, how it goes on, and what it refuses."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from field import ROWS, SETTINGS, SIZES, STEPS

from marline.campaign.campaign import Campaign
from marline.configuration import planning
from marline.data.dataset import Dataset, from_arrays
from marline.errors import ConfigError, DataError
from marline.policy import NumpyPolicy
from marline.runs.verify import verify


def logs(seed: int, num_rows: int = ROWS) -> dict[str, Dataset]:
    """Two agents that share steps and rewards but neither the size of what they see nor of what they do."""
    random = np.random.default_rng(seed)
    rewards, ends = random.normal(size=num_rows), np.arange(1, num_rows + 1) % STEPS == 0
    arrays = {}
    for agent in ("arm", "cart"):
        num_seen, num_done = SIZES[agent]
        arrays[agent] = {
            "observations": random.normal(size=(num_rows, num_seen)),
            "actions": random.uniform(-1, 1, (num_rows, num_done)),
            "rewards": rewards,
            "terminals": np.zeros(num_rows, bool),
            "timeouts": ends,
            "next_observations": random.normal(size=(num_rows, num_seen)),
        }
    return {agent: from_arrays(agent, columns) for agent, columns in arrays.items()}


def robots(policies: Mapping[str, NumpyPolicy]) -> dict[str, Dataset]:
    """Logs that depend on the policies, as real ones do."""
    assert policies["arm"](np.zeros(3)).shape == (2,)
    assert policies["cart"](np.zeros((7, 5))).shape == (7, 1)
    return logs(int(1e6 * abs(policies["cart"](np.ones(5))[0])))


def create(folder: Path) -> Campaign:
    """Of the sizes of the field, whose programs are compiled already."""
    return Campaign.create(folder, logs(0, 60), **SETTINGS)


def fingerprints(folder: Path) -> dict[str, str]:
    files = sorted(folder.glob("**/*.safetensors"))
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def test_reopening_after_every_step_changes_no_byte(tmp_path: Path) -> None:
    run = create(tmp_path / "straight")
    run.train()
    for _ in range(2):
        run.tune(run.deploy(robots))

    folder = tmp_path / "reopened"
    create(folder)
    Campaign.open(folder).train()
    for number in (1, 2):
        received = Campaign.open(folder).deploy(robots)
        record = Campaign.open(folder).tune(received)
        assert record["deployment"] == number
    assert fingerprints(folder) == fingerprints(tmp_path / "straight")
    assert len(run.returns) == 2 and run.returns == Campaign.open(folder).returns
    with pytest.raises(ConfigError, match="all 2 deployments are done"):
        run.deploy(robots)
    assert "What happened" in run.report().read_text("utf-8")


def test_what_robots_return_is_copied_and_wrong_sorts_are_told(tmp_path: Path) -> None:
    run = create(tmp_path / "run")
    run.train()
    kept = logs(1)
    received = run.deploy(lambda policies: kept)
    before = received["arm"].rewards.copy()
    kept["arm"].rewards[:] = 7.0  # as robots do that log the next deployment into the same memory
    np.testing.assert_array_equal(received["arm"].rewards, before)
    forgotten: Any = lambda policies: None  # noqa: E731
    with pytest.raises(ConfigError, match="what the robots returned is None, but must be a mapping by name"):
        run.deploy(forgotten)
    nothing: Any = lambda policies: {**logs(1), "arm": None}  # noqa: E731
    with pytest.raises(ConfigError, match=r"what the robots returned\['arm'\] is None, but must be a Dataset"):
        run.deploy(nothing)


def test_what_comes_back_wrong_is_refused_and_nothing_is_merged(tmp_path: Path) -> None:
    run = create(tmp_path / "run")
    with pytest.raises(ConfigError, match="call train"):
        run.tune(logs(1))
    run.train()
    good = logs(1)
    nan = good["arm"].rewards.copy()
    nan[7] = np.nan
    broken = from_arrays("arm", {**good["arm"].columns(), "rewards": nan})
    for wrong, told in [
        ({"arm": good["arm"]}, "'cart' is missing"),
        ({**good, "crane": good["arm"]}, "'crane' is not of this team"),
        ({"arm": good["cart"], "cart": good["cart"]}, 'agent "arm"'),
        (logs(1, ROWS + 1), f"{ROWS + 1} rows, but the campaign planned at most {ROWS}"),
        ({**good, "arm": broken}, "row 7"),
    ]:
        with pytest.raises(DataError, match=told):
            run.tune(wrong)
        assert run.number == 0
        assert not (run.folder / "seed-0" / run.sampler_name / "deployment-01").exists()
    run.tune(good)
    assert run.number == 1


def test_agents_that_were_logged_for_other_times_each_learn_from_their_own(tmp_path: Path) -> None:
    run = create(tmp_path / "run")
    run.train()
    uneven = {"arm": logs(1)["arm"], "cart": logs(1, ROWS // 2)["cart"]}
    run.tune(uneven)
    episodes = sum(log.num_episodes for log in uneven.values())
    assert run.number == 1 and len(run.records[0].get("returns", ())) == episodes
    run.tune(logs(2))
    assert run.number == 2 and not verify(run.folder).problems


def test_bad_offline_logs_leave_nothing_on_disk(tmp_path: Path) -> None:
    given = logs(0)
    given["arm"].actions[3, 1] = 1.8
    with pytest.raises(DataError, match=r"agent 'arm'|agent \"arm\""):
        Campaign.create(tmp_path / "run", given)
    assert list(tmp_path.iterdir()) == []


def test_creating_twice_goes_on_and_another_campaign_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(tmp_path / "run").train()
    assert create(tmp_path / "run").policies
    monkeypatch.setattr(planning, "check_compatible", lambda config, sizes: [])  # that it could be run does not matter
    with pytest.raises(ConfigError, match="already holds another run"):
        Campaign.create(tmp_path / "run", logs(0, 400))
