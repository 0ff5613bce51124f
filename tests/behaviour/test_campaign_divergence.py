"""An agent that leaves the finite numbers stops, and nobody else does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from field import SETTINGS, SIZES, act, contents, copy, flip, offline_logs, policies

from marline import cli
from marline.algorithms import TD3BC
from marline.campaign.campaign import Campaign
from marline.campaign.status import status
from marline.configuration.run_config import RunConfig
from marline.errors import ConfigError, DivergenceWarning
from marline.runs.creation import start_run
from marline.runs.verify import verify
from marline.samplers import Uniform

OTHERS = ("arm", "lift")


def command(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[Any, str, str]:
    with pytest.raises(SystemExit) as stop:
        cli.main([str(argument) for argument in arguments])
    printed, error = capsys.readouterr()
    return stop.value.code, printed, error


@pytest.mark.slow
def test_an_agent_that_diverges_when_tuned_keeps_its_policy_and_the_others_go_on(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Campaign.open(copy(world / "run", tmp_path / "run"))
    act(world / "sent", tmp_path / "logs", broken_sensor="cart")
    run.ingest(tmp_path / "logs")
    code, printed, error = command(capsys, "tune", run.folder)
    (home,) = run.folder.glob("seed-0/otc*/deployment-01")
    batch = home / "diverged" / "cart" / "batch.safetensors"
    assert code == 4 and 'agent "cart" DIVERGED at update' in error and "of tuning on deployment 1 (mean_q is" in error
    assert f"keeps the policy that it had before, and the others went on. The batch is in {batch}" in error
    assert "cart: alpha" in printed and "DIVERGED: keeps its policy" in printed
    assert f"next: marline export {run.folder}" in printed

    tuned, offline = policies(run.folder, 1), run.policies["cart"]
    run = Campaign.open(run.folder)
    assert run.tuned_on == {"arm": 1, "cart": 0, "lift": 1}
    assert {agent: tuned[agent] for agent in OTHERS} == {
        agent: its for agent, its in policies(world / "tuned", 1).items() if agent in OTHERS
    }
    seen = np.ones(SIZES["cart"][0], np.float32)
    np.testing.assert_array_equal(run.policies["cart"](seen), offline(seen))

    (stop,) = run.diverged
    rows = safetensors.numpy.load_file(batch)
    assert set(rows["update"]) == {stop.update - 1, stop.update} - {-1}
    assert rows["observation"].shape == (len(rows["update"]), SIZES["cart"][0]) and rows["row"].max() < 70
    (event,) = run.ledger.events("tuned")
    assert event.body["diverged"]["cart"]["batch"] == str(batch.relative_to(run.folder)) == stop.batch
    there = status(run.folder)
    assert there.diverged == (stop,) and there.agents["cart"].tuned_on == 0 and there.stage == "ready"
    assert "DIVERGED" in command(capsys, "status", run.folder)[1]
    told = json.loads(command(capsys, "status", run.folder, "--json")[1])
    assert told["diverged"][0]["agent"] == "cart"
    for shift in told["shifts"]:  # who diverged has its distances told, too
        assert len(shift["histogram"]) == len(told["distance_edges"]) + 1 and sum(shift["histogram"]) == 8
    page = run.report().read_text()
    assert "Distances of cart" in page
    assert "cart of seed 0 in deployment 1 left the finite numbers" in page and "cart DIVERGED at update" in page
    assert run.replay() == dict.fromkeys(SIZES, True)
    assert verify(run.folder).problems == ()
    flip(batch)
    assert str(batch) in verify(run.folder).problems[0]


def test_an_agent_that_diverges_offline_does_not_stop_the_others(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    team = {**dict.fromkeys(SIZES, TD3BC(hidden=(4,))), "cart": TD3BC(hidden=(4,), learning_rate=1e12)}
    settings = {**SETTINGS, "algorithm": team, "sampler": Uniform(batch_size=4)}
    run = Campaign.create(tmp_path / "run", offline_logs(), **settings)
    with pytest.warns(DivergenceWarning, match=r'agent "cart" DIVERGED at update \d of offline .* learned NOTHING'):
        run.train()
    learners = "seed-0/offline/checkpoint-0000004"
    mine, theirs = contents(run.folder), contents(world / "run")
    for agent in OTHERS:
        assert mine[f"{learners}/{agent}/learner.safetensors"] == theirs[f"{learners}/{agent}/learner.safetensors"]
    assert status(run.folder).diverged == run.diverged and run.diverged[0].kept == 0
    assert verify(run.folder).problems == () and run.replay() == dict.fromkeys(SIZES, True)
    code, _, error = command(capsys, "train", "--run", run.folder)
    assert code == 4 and 'agent "cart" DIVERGED' in error
    with pytest.raises(ConfigError, match="'cart' diverged before it had learned anything.* --allow-missing"):
        run.export()
    with pytest.raises(ConfigError, match="'cart' diverged before it had learned anything"):
        run.deploy(lambda _: {})
    act(run.export(agents=OTHERS).folder, tmp_path / "logs", OTHERS)
    run.ingest(tmp_path / "logs", allow_missing=True)
    record = run.tune()
    assert record.get("waived") == ["cart"] and "diverged" not in record


@pytest.mark.slow
def test_a_study_goes_on_without_whom_diverged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = RunConfig(
        task="cooperative-navigation-2",
        algorithm={"agent_0": TD3BC(hidden=(4,), learning_rate=1e12), "agent_1": TD3BC(hidden=(4,))},
        samplers={"uniform": Uniform(batch_size=4)},
        seeds=(0,),
        dataset_size=100,
        rows_per_deployment=25,
        offline_updates=4,
        deployments=1,
        updates=4,
        evaluation_episodes=2,
    )
    folder = tmp_path / "run"
    start_run(folder, config)
    code, _, error = command(capsys, "resume", folder)
    assert code == 4 and 'seed 0, offline: agent "agent_0" DIVERGED' in error and "learned NOTHING" in error
    assert 'seed 0, uniform: agent "agent_0" DIVERGED' in error and "agent_1" not in error
    assert (folder / "seed-0/uniform/deployment-01/diverged/agent_0/batch.safetensors").exists()
    lines = [json.loads(line) for line in (folder / "seed-0/uniform/metrics.jsonl").read_text().splitlines()]
    assert [list(line["diverged"]) for line in lines] == [["agent_0"], ["agent_0"]]
    assert np.isfinite(lines[1]["return"]) and np.isfinite(lines[1]["agents"]["agent_1"]["critic_loss"])
    assert (
        "agent_0 of seed 0 offline and agent_0 of seed 0 in deployment 1 left" in (folder / "report.html").read_text()
    )
    assert command(capsys, "resume", folder)[0] == 4  # nothing more was done, and it is still so
