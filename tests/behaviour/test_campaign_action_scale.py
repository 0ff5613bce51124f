"""Logs on another scale than [-1, 1], all the way round: whoever drives a machine does so on the scale of its logs."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from field import SETTINGS, act

from marline.algorithms import TD3BC
from marline.campaign.campaign import Campaign
from marline.campaign.read_logs import read_logs
from marline.campaign.robots import simulate
from marline.data import dataset
from marline.data.channels import Channels
from marline.data.dataset import Dataset, from_arrays
from marline.data.export import export_minari
from marline.data.team import on_task_scale
from marline.envs import ParallelTask
from marline.errors import DataError
from marline.policy import NumpyPolicy
from marline.rollouts.collection import collect_random
from marline.samplers import Uniform

gymnasium = pytest.importorskip("gymnasium", reason="environments of the user's need: pip install 'marline[parallel]'")

ROWS, STEPS = 60, 5
FLOW = Channels(
    observation_names=("level", "inflow", "heat"),
    action_names=("valve", "pump"),
    action_units=("%", "l/min"),
    action_low=(-1.8, 5.0),
    action_high=(1.8, 60.0),
)
LOW, HIGH = np.array(FLOW.action_low), np.array(FLOW.action_high)


def arrays(rows: int = ROWS) -> dict[str, Any]:
    """As a machine logs them, on its own scale."""
    random = np.random.default_rng(rows)
    return {
        "observations": random.normal(size=(rows, 3)).astype(np.float32),
        "actions": random.uniform(LOW, HIGH, (rows, 2)).astype(np.float32),
        "rewards": random.normal(size=rows).astype(np.float32),
        "terminals": np.zeros(rows, bool),
        "timeouts": np.arange(1, rows + 1) % STEPS == 0,
        "next_observations": random.normal(size=(rows, 3)).astype(np.float32),
    }


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`run` is trained and exported, `sent` its bundle, `logs` what that logged."""
    folder = tmp_path_factory.mktemp("site")
    run = Campaign.create(
        folder / "run",
        {"arm": from_arrays("arm", arrays(), channels=FLOW)},
        **{**SETTINGS, "sampler": Uniform()},
    )
    run.train()
    run.export(folder / "sent")
    act(folder / "sent", folder / "logs", ["arm"])
    return folder


def opened(site: Path, tmp_path: Path) -> Campaign:
    shutil.copytree(site / "run", tmp_path / "run")
    return Campaign.open(tmp_path / "run")


def test_the_bundle_answers_on_the_scale_of_the_logs(site: Path) -> None:
    run, bundle = Campaign.open(site / "run"), site / "sent" / "arm"
    assert run.channels == {"arm": FLOW}
    contract = json.loads((bundle / "contract.json").read_text())
    (observation,), (action,) = contract["inputs"], contract["outputs"]
    assert (action["low"], action["high"]) == ([-1.8, 5.0], [1.8, 60.0])
    assert (action["names"], action["units"]) == (["valve", "pump"], ["%", "l/min"])
    assert (observation["names"], observation["units"]) == (["level", "inflow", "heat"], None)
    assert contract["golden"]["tolerance"] == pytest.approx([1.8e-5, 27.5e-5])
    seen = arrays()["observations"]
    session = onnxruntime.InferenceSession((bundle / "policy.onnx").read_bytes(), providers=["CPUExecutionProvider"])
    answers = np.asarray(session.run(["action"], {"observation": seen})[0])
    in_jax = run.policies["arm"]
    unit = NumpyPolicy(in_jax._policy)(seen)
    assert np.abs(unit).max() <= 1 and unit.std() > 0
    np.testing.assert_allclose(answers, LOW + (unit + 1) / 2 * (HIGH - LOW), rtol=0, atol=1e-4)
    np.testing.assert_allclose(answers, in_jax(seen), rtol=0, atol=1e-4)
    assert answers[:, 1].min() >= 5 and answers[:, 1].max() <= 60 and np.abs(answers[:, 1]).max() > 1
    golden = json.loads((bundle / "golden.json").read_text())
    np.testing.assert_allclose(golden["action"], in_jax(np.array(golden["observation"])), rtol=0, atol=1e-4)


def test_what_a_bundle_logged_comes_in_on_the_scale_of_the_campaign(site: Path, tmp_path: Path) -> None:
    logged = np.concatenate([np.load(file)["actions"] for file in sorted((site / "logs" / "arm").glob("*.npz"))])
    assert logged[:, 1].min() >= 5 and logged[:, 1].max() > 1
    run = opened(site, tmp_path)
    assert run.ingest(site / "logs").outcome == "ingested"
    assert run.ingest(site / "logs").outcome == "repeated"
    kept = dataset.load(tmp_path / "run" / "seed-0" / "uniform" / "deployment-01" / "logs")["arm"]
    assert kept.channels == FLOW
    unit = (logged.astype(float) - (LOW + HIGH) / 2) / ((HIGH - LOW) / 2)
    np.testing.assert_array_equal(kept.actions, unit.astype(np.float32))
    run.tune()
    # and without a campaign, as the offline logs of another one
    alone = read_logs(site / "logs").logs["arm"]
    assert alone.channels == FLOW
    np.testing.assert_array_equal(alone.actions, kept.actions)


def altered(folder: Path, logs: Path, **changes: Any) -> Path:
    """The logs of a bundle with columns or stamps replaced, or left out."""
    shutil.copytree(logs, folder)
    for file in (folder / "arm").glob("*.npz"):
        columns = {key: value for key, value in {**np.load(file), **changes}.items() if value is not None}
        np.savez(file, **columns)
    return folder


def test_logs_beyond_the_range_or_of_another_one_are_refused_and_change_nothing(site: Path, tmp_path: Path) -> None:
    run = opened(site, tmp_path)
    beyond = np.full((STEPS, 2), 1.0, np.float32) + [[0, 20]]
    beyond[3, 1] = 60.5
    other = dataclasses.replace(FLOW, action_high=(1.8, 50.0))
    swapped = dataclasses.replace(FLOW, observation_names=("inflow", "level", "heat"))
    cases: list[tuple[dict[str, Any], str]] = [
        ({"actions": beyond}, r'"arm" \(.*000000\.npz\) hold 60\.5 as pump \(l/min\), beyond its range .* at row 3'),
        ({"channels": json.dumps(other.to_json())}, r"\[5, 50\], not in \[-1\.8, 1\.8\] x \[5, 60\], as its offline"),
        ({"channels": json.dumps(swapped.to_json())}, "have 'inflow' as entry 0 of observation_names, not 'level'"),
        ({"channels": "{"}, "channels are no JSON"),
        ({"channels": np.arange(3)}, "the stamp channels is int64"),
        # of a bundle that knew no scale, or a program that does not stamp it: then nobody can tell
        ({"channels": None}, r"000000\.npz\) have actions in \[-1, 1\], not in \[-1\.8, 1\.8\] x \[5, 60\]"),
    ]
    for number, (changes, told) in enumerate(cases):
        with pytest.raises(DataError, match=told):
            run.ingest(altered(tmp_path / str(number), site / "logs", **changes))
    assert not list((tmp_path / "run" / "seed-0").glob("uniform/deployment-01/*"))


def test_logs_that_tell_no_scale_are_taken_on_that_of_the_campaign(site: Path, tmp_path: Path) -> None:
    """Tables and arrays come as the offline logs came; a dataset is what it says it is."""
    run, brought = opened(site, tmp_path), arrays(10)
    (tmp_path / "arrays").mkdir()
    np.savez(tmp_path / "arrays" / "arm.npz", **brought)
    wanted = from_arrays("arm", brought, channels=FLOW).actions
    dataset.save(tmp_path / "plain", {"arm": from_arrays("arm", brought, channels=FLOW)})
    (tmp_path / "plain" / dataset.MANIFEST).unlink()
    received = read_logs(tmp_path / "arrays", run._state.awaited.specs, channels=run.channels).logs["arm"]
    np.testing.assert_array_equal(received.actions, wanted)
    unscaled: dict[str, Dataset] = {"arm": dataclasses.replace(received, channels=Channels())}
    for channels, told in (
        (FLOW, None),
        (dataclasses.replace(FLOW, action_units=("%", "m3/h")), "have 'm3/h' as entry 1"),
    ):
        export_minari({"arm": from_arrays("arm", brought, channels=channels)}, tmp_path / f"exported-{told}")
        if told is None:
            kept = read_logs(tmp_path / f"exported-{told}", run._state.awaited.specs, channels=run.channels).logs["arm"]
            np.testing.assert_array_equal(kept.actions, wanted)
        else:
            with pytest.raises(DataError, match=told):
                run.ingest(tmp_path / f"exported-{told}", unstamped=True)
    with pytest.raises(DataError, match=r'"arm" .*have actions in \[-1, 1\], not in .* as its offline logs have'):
        run.ingest(unscaled)

    def robots(policies: Any) -> dict[str, Any]:
        actions = policies["arm"](brought["observations"])
        assert actions[:, 1].min() >= 5 and actions[:, 1].max() > 1
        return {"arm": brought | {"actions": actions}}

    returned = run.deploy(robots)
    assert np.abs(returned["arm"].actions).max() <= 1
    assert run.ingest(tmp_path / "arrays", unstamped=True).outcome == "ingested"
    kept = dataset.load(tmp_path / "run" / "seed-0" / "uniform" / "deployment-01" / "logs")["arm"]
    np.testing.assert_array_equal(kept.actions, wanted)
    assert kept.channels == FLOW


class Tank(gymnasium.Env):
    """Pays what flows in, in litres a minute; three steps an episode."""

    observation_space = gymnasium.spaces.Box(-1, 1, (3,))
    action_space = gymnasium.spaces.Box(np.array([-2.0, 5.0], np.float32), np.array([2.0, 60.0], np.float32))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        self.random, self.time = np.random.default_rng(seed), 0
        return self.random.uniform(-1, 1, 3).astype(np.float32), {}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action)
        self.time += 1
        return self.random.uniform(-1, 1, 3).astype(np.float32), float(action[1]), False, self.time == 3, {}


@pytest.mark.slow
def test_what_a_task_logs_is_on_the_scale_of_its_box(tmp_path: Path) -> None:
    task = ParallelTask(Tank, num_environments=1)
    logs = collect_random(task, 30, seed=0)
    assert logs["agent_0"].channels == Channels(action_low=(-2.0, 5.0), action_high=(2.0, 60.0))
    np.testing.assert_allclose(logs["agent_0"].field_actions()[:, 1], logs["agent_0"].rewards, rtol=1e-6)
    options: dict[str, Any] = {
        "algorithm": TD3BC(hidden=(4,)),
        "sampler": Uniform(batch_size=4),
        "deployments": 1,
        "offline_updates": 4,
        "updates": 4,
        "rows_per_deployment": 6,
    }
    run = Campaign.create(tmp_path / "run", logs, **options)
    run.train()
    deployed = run.deploy(task)
    assert deployed["agent_0"].channels == logs["agent_0"].channels
    run.tune(deployed)
    bundle = run.export(tmp_path / "out").folders["agent_0"]
    (action,) = json.loads((bundle / "contract.json").read_text())["outputs"]
    assert (action["low"], action["high"]) == ([-2.0, 5.0], [2.0, 60.0])
    golden = json.loads((bundle / "golden.json").read_text())
    assert all(5 <= answer[1] <= 60 for answer in golden["action"])
    # of a dataset of earlier versions, which knew no scale, nothing is known of it; but another one is refused
    policies = run._state.policies
    for channels, told in (
        (Channels(), None),
        (Channels(action_low=(0, 0), action_high=(1, 9)), "in the offline logs"),
    ):
        if told is None:
            found = simulate(task, policies, {"agent_0": channels}, 1, seed=0, num_rows=6)
            assert found["agent_0"].channels == channels
        else:
            with pytest.raises(DataError, match=told):
                simulate(task, policies, {"agent_0": channels}, 1, seed=0, num_rows=6)


def test_logs_and_a_task_agree_on_their_scale() -> None:
    """For `marline run --data`: where one of both does not tell, the other's is meant."""
    scaled, plain = from_arrays("arm", arrays(), channels=FLOW), from_arrays("arm", arrays(), low=-60, high=60)
    plain = dataclasses.replace(plain, channels=Channels())
    assert on_task_scale("arm", plain, FLOW, "plant").channels == FLOW
    assert on_task_scale("arm", scaled, Channels(), "plant").channels == FLOW
    other = Channels(action_low=(0, 0), action_high=(1, 1))
    with pytest.raises(DataError, match=r'"arm" have actions in .* but in plant they lie in \[0, 1\]'):
        on_task_scale("arm", scaled, other, "plant")
