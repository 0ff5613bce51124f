"""A campaign whose deployments happen elsewhere: what is taken, what waits, what is refused, and going back."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from field import ROWS, SIZES, STEPS, act, contents, copy, flip, offline_logs, policies

from marline import cli
from marline.campaign.campaign import Campaign
from marline.campaign.read_logs import Received, read_logs
from marline.campaign.require_logs import short_of_an_episode
from marline.campaign.status import status
from marline.cli.commands.export import _describe_off_policy, _expected_to_earn_less
from marline.configuration import planning
from marline.data import dataset
from marline.data.check import check
from marline.errors import ConfigError, CorruptionError, DataError
from marline.runs.lineage import exported_policies
from marline.statistics.fitted_q_evaluation import OffPolicyEstimate


def kinds(run: Path) -> list[str]:
    return [event.kind for event in Campaign.open(run).ledger.events()]


def test_of_rewards_that_differed_in_the_offline_logs_nothing_is_told_again(world: Path, tmp_path: Path) -> None:
    def own(logs: Mapping[str, dataset.Dataset]) -> dict[str, dataset.Dataset]:
        return {agent: dataclasses.replace(log, rewards=log.rewards + n) for n, (agent, log) in enumerate(logs.items())}

    later = own(read_logs(world / "logs").logs)
    for name, offline, times in (("own", own(offline_logs()), 0), ("same", offline_logs(), 2)):
        folder = copy(world / "run", tmp_path / name)
        run = Campaign(folder, Campaign.open(folder).config, offline)
        found = run._intake().take(Received(later, {}, (), "here"), allow_missing=False, unstamped=True, replace=False)
        assert found.outcome == "ingested" and sum("other rewards than" in note for note in found.notes) == times


def test_late_agents_wait_and_end_with_the_same_bytes(world: Path, tmp_path: Path) -> None:
    folder = copy(world / "run", tmp_path / "run")
    assert status(folder).stage == "out" and status(folder).out_since is not None
    run = Campaign.open(folder)
    first = run.ingest(world / "logs" / "lift")  # one agent's folder, or a folder of those
    assert (first.outcome, first.waiting_for) == ("waiting", ("arm", "cart"))
    with pytest.raises(ConfigError, match="deployment 1: no logs of arm, cart yet; bring them in .* --allow-missing"):
        run.tune()
    with pytest.raises(ConfigError, match="logs of lift wait for those of the others"):
        run.rollback(0)
    before = contents(folder)
    assert run.ingest(world / "logs" / "lift").outcome == "repeated"
    assert contents(folder) == before

    shutil.copytree(world / "logs" / "cart", tmp_path / "came" / "cart")
    assert Campaign.open(folder).ingest(tmp_path / "came").waiting_for == ("arm",)
    there = status(folder)
    assert (there.stage, there.waiting_for, there.agents["cart"].rows) == ("waiting", ("arm",), ROWS)
    act(world / "sent", tmp_path / "other", ["lift"], seed=0, episodes=1)
    with pytest.raises(ConfigError, match="other logs of lift for deployment 1 are waiting; pass --replace"):
        Campaign.open(folder).ingest(tmp_path / "other")

    assert Campaign.open(folder).ingest(world / "logs").outcome == "ingested"
    assert status(folder).stage == "ingested" and status(folder).next == f"marline tune {folder}"
    Campaign.open(folder).tune()
    assert policies(folder, 1) == policies(world / "tuned", 1)
    before = contents(folder)
    assert Campaign.open(folder).ingest(world / "logs").outcome == "repeated"
    assert contents(folder) == before
    expected = ["created", "trained", "exported", "waiting", "waiting", "ingested", "tuned"]
    assert kinds(folder) == expected and kinds(world / "tuned") == [kind for kind in expected if kind != "waiting"]


def edited(logs: Path, to: Path, agent: str, changes: dict[str, Any]) -> Path:
    """The same logs, but for some arrays or stamps of an agent's first episode."""
    shutil.copytree(logs, to)
    file = to / agent / "000000.npz"
    arrays = dict(np.load(file))
    for key, change in changes.items():
        arrays[key] = change(arrays[key]) if callable(change) else change
    np.savez(file, **arrays)
    return to


def put(row: int, value: Any) -> Any:
    def change(array: np.ndarray) -> np.ndarray:
        array = array.copy()
        array[row] = value
        return array

    return change


def test_what_must_not_be_merged_is_refused_in_a_sentence_and_changes_nothing(world: Path, tmp_path: Path) -> None:
    folder = copy(world / "run", tmp_path / "run")
    run, before, logs = Campaign.open(folder), contents(folder), world / "logs"
    for number, (agent, changes, told) in enumerate(
        [
            ("cart", {"observations": put(3, np.nan)}, r'agent "cart" \(.*cart/000000.npz\) hold NaN .* at row 3'),
            ("cart", {"rewards": put(2, np.inf)}, "an infinite value in rewards at row 2"),
            ("arm", {"actions": put(1, 1.5)}, r'agent "arm" .* actions in .* but its spec is \[-1, 1\]'),
            ("arm", {"observations": lambda x: x[:, :2]}, r"observations have .* instead of float32 and \[n, 3\]"),
            ("arm", {"timeouts": put(1, True)}, r"a file is one episode, but 5 rows have ends at \[1, 4\]"),
            ("arm", {"timeouts": put(STEPS - 1, False)}, r"have ends at \[\]"),
            ("arm", {"next_observations": put(0, 9.0)}, "next observation at row 0 is not the observation at row 1"),
            ("arm", {"rewards": lambda x: x[:-1]}, "rewards"),
            ("arm", {"rewards": np.array(["a"] * STEPS)}, "rewards hold <U1 instead of numbers"),
            ("arm", {"deployment": 2}, "stamped with deployment .* beside it"),
            ("arm", {"agent": "crane"}, "stamped with agent"),
            ("arm", {"agent": np.array(["arm"])}, r"the stamp agent is <U3\[1\]"),
            ("arm", {"policy_sha256": "0" * 64}, "stamped with policy"),
        ]
    ):
        with pytest.raises(DataError, match=told) as refused:
            run.ingest(edited(logs, tmp_path / str(number), agent, changes))
        assert "\n" not in str(refused.value)
        assert contents(folder) == before, told
    (tmp_path / "cut").mkdir()
    shutil.copytree(logs / "arm", tmp_path / "cut" / "arm")
    file = tmp_path / "cut" / "arm" / "000001.npz"
    file.write_bytes(file.read_bytes()[:-70])
    with pytest.raises(CorruptionError, match=r"arm/000001.npz"):
        run.ingest(tmp_path / "cut")
    assert contents(folder) == before


def test_logs_of_other_policies_rounds_and_steps_are_refused(world: Path, tmp_path: Path) -> None:
    folder = copy(world / "tuned", tmp_path / "run")
    run, before = Campaign.open(folder), contents(folder)
    act(world / "sent", tmp_path / "old", seed=1)  # the offline team acted once more
    with pytest.raises(DataError, match="stamped with deployment 1, but those of 2 are awaited"):
        run.ingest(tmp_path / "old")
    assert contents(folder) == before
    run.export(tmp_path / "sent")
    shutil.copytree(tmp_path / "sent", tmp_path / "mixed")
    for name in ("arm", "lift"):  # bundles in each other's places: their logs say whose they are
        shutil.rmtree(tmp_path / "mixed" / name)
    shutil.copytree(tmp_path / "sent" / "arm", tmp_path / "mixed" / "lift")
    shutil.copytree(tmp_path / "sent" / "lift", tmp_path / "mixed" / "arm")
    act(tmp_path / "mixed", tmp_path / "crossed", seed=2)
    assert run.ingest(tmp_path / "crossed").outcome == "ingested"

    folder = copy(world / "tuned", tmp_path / "again")
    run = Campaign.open(folder)
    run.export(tmp_path / "sent")
    before = contents(folder)
    act(tmp_path / "sent", tmp_path / "long", episodes=3)
    with pytest.raises(DataError, match=f"hold 15 rows, but .* at most {ROWS} .* --rows-per-deployment 15"):
        run.ingest(tmp_path / "long")
    act(tmp_path / "sent", tmp_path / "uneven", ["arm", "cart"])
    act(tmp_path / "sent", tmp_path / "uneven", ["lift"], episodes=1)
    apart = Campaign.open(copy(folder, tmp_path / "apart")).ingest(tmp_path / "uneven")  # each learns from its own
    assert apart.outcome == "ingested" and apart.rows == {"arm": 10, "cart": 10, "lift": 5}
    assert any('agent "lift"' in note and "5 rows and 1 ends of episodes, but 10 and 2" in note for note in apart.notes)
    dataset.save(tmp_path / "plain", dataset.load(next(folder.glob("seed-0/otc*/deployment-01/logs"))))
    assert run.ingest(tmp_path / "plain", unstamped=True).outcome == "repeated"  # told by their rows
    act(tmp_path / "sent", tmp_path / "good", seed=3)
    unstamped = {agent: read_rows(tmp_path / "good" / agent) for agent in SIZES}
    dataset.save(tmp_path / "unstamped", unstamped)
    with pytest.raises(ConfigError, match="does not tell which policy acted for arm, cart, lift.*--unstamped"):
        run.ingest(tmp_path / "unstamped")
    assert contents(folder) == before
    assert run.ingest(tmp_path / "unstamped", unstamped=True).outcome == "ingested"
    run.tune()
    assert status(folder).stage == "done"
    with pytest.raises(ConfigError, match="all 2 deployments are done"):
        run.ingest(tmp_path / "crossed")


def test_a_plan_for_less_than_an_episode_is_told_when_it_can_still_be_changed(world: Path, tmp_path: Path) -> None:
    config, logs = Campaign.open(world / "run").config, dataset.load(world / "run" / "data")
    (note,) = Campaign.start(tmp_path / "run", logs, dataclasses.replace(config, rows_per_deployment=4)).notes
    assert "at most 4 rows per agent" in note and f"agent 'arm' has {STEPS} on average" in note
    assert "--rows-per-deployment" in note
    assert short_of_an_episode(logs, STEPS) == ()
    endless = {agent: dataclasses.replace(log, timeouts=np.zeros(len(log), bool)) for agent, log in logs.items()}
    assert short_of_an_episode(endless, STEPS) == ()  # of which nobody knows what will come back


def read_rows(folder: Path) -> dataset.Dataset:
    episodes = [dict(np.load(file)) for file in sorted(folder.glob("*.npz"))]
    keys = ("observations", "actions", "rewards", "terminals", "timeouts", "next_observations")
    return dataset.from_arrays(folder.name, {key: np.concatenate([one[key] for one in episodes]) for key in keys})


def test_waived_and_frozen_agents_keep_their_policies_and_others_notice_nothing(world: Path, tmp_path: Path) -> None:
    folder = copy(world / "run", tmp_path / "run")
    run = Campaign.open(folder)
    assert run.ingest(world / "logs" / "arm").outcome == "waiting"
    run = Campaign.open(folder)
    run.ingest(world / "logs" / "lift")
    with pytest.raises(ConfigError, match="or --allow-missing"):
        run.ingest()
    assert run.ingest(allow_missing=True).waived == ("cart",)
    record = Campaign.open(folder).tune(freeze=["lift"])
    assert (record.get("waived"), record.get("frozen"), list(record["agents"])) == (["cart"], ["lift"], ["arm", "lift"])
    assert "alpha" in record["agents"]["lift"] and "actor_loss" not in record["agents"]["lift"]
    run = Campaign.open(folder)
    assert run.tuned_on == {"arm": 1, "cart": 0, "lift": 0}
    offline, tuned = Campaign.open(world / "run").policies, Campaign.open(world / "tuned").policies
    for agent, same in (("arm", tuned), ("cart", offline), ("lift", offline)):
        seen = np.ones(SIZES[agent][0], np.float32)
        np.testing.assert_array_equal(run.policies[agent](seen), same[agent](seen))
    assert {agent: its.online_rows for agent, its in status(folder).agents.items()} == {
        "arm": 10,
        "cart": 0,
        "lift": 10,
    }
    exported = run.export()
    act(exported.folder, tmp_path / "logs")
    assert run.ingest(tmp_path / "logs").outcome == "ingested"
    assert run.tune(agents=["cart"]).get("frozen") == ["arm", "lift"]
    assert run.tuned_on == {"arm": 1, "cart": 2, "lift": 0}
    assert run.replay() == dict.fromkeys(SIZES, True)


@pytest.mark.slow
def test_a_rollback_decides_what_goes_out_and_from_where_tuning_goes_on(world: Path, tmp_path: Path) -> None:
    folder = copy(world / "tuned", tmp_path / "run")
    run = Campaign.open(folder)
    forward = run.export(tmp_path / "forward")
    run.rollback(0, ["cart"])
    assert run.tuned_on == Campaign.open(folder).tuned_on == {"arm": 1, "cart": 0, "lift": 1}
    act(tmp_path / "forward", tmp_path / "withdrawn")
    with pytest.raises(DataError, match='agent "cart".*which was rolled back since; no bundle of it for deployment 2'):
        run.ingest(tmp_path / "withdrawn")
    back = Campaign.open(folder).export(tmp_path / "back")
    first = Campaign.open(world / "run").export(tmp_path / "first")
    hashes = [{agent: bundle.policy_sha256 for agent, bundle in one.bundles.items()} for one in (forward, back, first)]
    assert hashes[1] == {**hashes[0], "cart": hashes[2]["cart"]}
    assert back.bundles["cart"].contract["tuned_on_deployment"] == 0
    assert back.bundles["cart"].contract["logs_of_deployment"] == 2
    run = Campaign.open(folder)
    act(tmp_path / "back", tmp_path / "logs")
    run.ingest(tmp_path / "logs")
    run.tune()
    assert run.tuned_on == dict.fromkeys(SIZES, 2) and run.replay() == dict.fromkeys(SIZES, True)

    straight = Campaign.open(copy(world / "tuned", tmp_path / "straight"))
    for _ in range(2):  # the second time nothing is to be told
        straight.export(tmp_path / "straight-sent")
    straight.rollback(0)
    straight.rollback(1)  # takes it back
    sent = straight.export(tmp_path / "straight-sent").bundles
    assert kinds(straight.folder)[-4:] == ["exported", "rolled-back", "rolled-back", "exported"]
    out = exported_policies(straight.ledger.events(), 2)
    assert out == {agent: {bundle.policy_sha256} for agent, bundle in sent.items()}
    straight.ingest({agent: read_rows(tmp_path / "logs" / agent) for agent in SIZES})
    straight.tune()
    mine, theirs = policies(folder, 2), policies(straight.folder, 2)
    assert {agent for agent in SIZES if mine[agent] != theirs[agent]} == {"cart"}
    with pytest.raises(ConfigError, match="was tuned on deployments up to 2, not on 3"):
        run.rollback(3)


def test_the_ledger_follows_the_files_and_processes_follow_each_other(world: Path, tmp_path: Path) -> None:
    folder = copy(world / "tuned", tmp_path / "run")
    stale, run = Campaign.open(folder), Campaign.open(folder)
    run.rollback(0)
    with pytest.raises(ConfigError, match="has changed since it was opened here; open it again"):
        stale.rollback(1)
    # as if it had been killed before any event: what files tell is entered again, and nothing twice
    (folder / "ledger.sqlite").unlink()
    with pytest.raises(CorruptionError, match="an older ledger"):
        Campaign.open(folder)
    (folder / "ledger.head").unlink()  # who does without what only the ledger knew says so by this
    run = Campaign.open(folder)
    run.rollback(1)
    assert kinds(folder) == ["created", "trained", "ingested", "tuned", "rolled-back"]
    shutil.rmtree(next(folder.glob("seed-0/otc*/deployment-01/logs")))
    with pytest.raises(CorruptionError, match="deployment-01/logs is missing, and these logs cannot be made again"):
        Campaign.open(folder)


def test_the_commands_say_what_they_did(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = copy(world / "run", tmp_path / "run")

    def command(*arguments: str | Path) -> tuple[Any, str, str]:
        with pytest.raises(SystemExit) as stop:
            cli.main([str(argument) for argument in arguments])
        printed, error = capsys.readouterr()
        return stop.value.code, printed, error

    error = command("tune", folder)[2]  # whose policies were exported
    assert error == f"marline: deployment 1 has no logs yet; bring them in with: marline ingest {folder} LOGS\n"
    status_, printed, _ = command("ingest", folder, world / "logs" / "arm")
    assert status_ == 0 and "WAITING 1/3, no logs of cart, lift yet" in printed
    assert "WAITING 1/3, no logs of cart, lift yet" in command("status", folder)[1]
    status_, printed, _ = command("ingest", folder, world / "logs")
    assert status_ == 0 and f"next: marline tune {folder}" in printed
    status_, printed, _ = command("ingest", folder, world / "logs")
    assert status_ == 0 and "nothing to do: these logs of deployment 1 are in already" in printed
    status_, printed, _ = command("tune", folder, "--freeze", "lift")
    assert status_ == 0 and "lift: alpha" in printed and "frozen: keeps its policy" in printed
    status_, printed, error = command("tune", folder)
    assert (status_, printed, error) == (
        2,
        "",
        "marline: deployment 2 has no logs yet, and its policies were not exported; send the policies out: "
        f"marline export {folder}, or bring them in with: marline ingest {folder} LOGS\n",
    )
    status_, printed, _ = command("rollback", folder, "--to", "0", "--agent", "arm")
    assert status_ == 0 and "arm: back to the policies after offline training" in printed
    told, again = (_describe_off_policy(Campaign.open(folder).off_policy_evaluation()) for _ in range(2))
    assert told == again
    assert kinds(folder).count("foreseen") == 1, "the same is entered once, NaN or not"
    assert told[0].startswith("arm against the policy before, on the last logs: value +0 [+0, +0], actions 0 apart")
    assert re.fullmatch(r"cart .* last logs: actions .* apart, .*\); no estimate of its value, because .*", told[1])
    assert told[2].startswith("lift ") and told[3].startswith("limits: ") and len(told) == 4
    estimate = OffPolicyEstimate(-0.3, -0.4, -0.2, 0.1, 0.0, 0.0)
    estimates = {
        "arm": estimate,
        "cart": estimate._replace(no_value="it has none"),
        "lift": estimate._replace(high=0.1),
    }
    (line,) = _expected_to_earn_less(estimates, folder, 3)
    assert line.startswith("expected to earn less: arm. ")
    assert line.endswith(f"to keep the policies before: marline rollback {folder} --to 1 --agent arm")
    assert _expected_to_earn_less({"lift": estimates["lift"]}, folder, 3) == []
    assert command("report", folder)[0] == 0
    page = (folder / "report.html").read_text()
    assert "What happened" in page and "arm back to what came out of deployment 0" in page
    status_, printed, _ = command("verify", folder)
    assert status_ == 0 and "0 problems" in printed
    status_, _, error = command("status", tmp_path)
    assert status_ == 2 and "start one with: marline train" in error


def test_where_logs_are_in_all_commands_lead_to_tuning_also_after_damage(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copy(world / "tuned", tmp_path / "run")
    assert status(folder).notes == () and not Campaign.open(folder).logs_are_in
    (checkpoint,) = folder.glob("seed-0/otc*/checkpoint-0000001")
    whole = flip(checkpoint / "lift" / "sampler.safetensors")
    told = f"{checkpoint} is damaged, so what came after the one before it is done again"
    there = status(folder)
    assert (there.stage, there.deployment, there.notes) == ("ingested", 1, (told,))
    assert Campaign.open(folder).logs_are_in
    for arguments, code in (("verify", folder), 3), (("status", folder), 0), (("export", folder, "--out", "sent"), 0):
        with pytest.raises(SystemExit) as stop, contextlib.chdir(tmp_path):
            cli.main([str(argument) for argument in arguments])
        printed, error = capsys.readouterr()
        assert stop.value.code == code and printed.endswith(f"  next: marline tune {folder}\n")
        assert (told in error) == (code == 0) and "ingest" not in printed
    (checkpoint / "lift" / "sampler.safetensors").write_bytes(whole)
    (offline,) = folder.glob("seed-0/offline/checkpoint-*")
    flip(offline / "lift" / "learner.safetensors")  # which is needed no longer
    assert status(folder).notes == Campaign.open(folder).notes == () and status(folder).stage == "ready"


def test_train_from_the_command_line_goes_on_and_refuses(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = "--hidden 4 --deployments 2 --offline-updates 4 --updates 4 --rows-per-deployment 10".split()
    options += (
        "--sampler otc-value --sampler-option num_candidates=8 num_references=8 batch_size=4 num_estimate=8".split()
    )

    def train(*arguments: str | Path) -> tuple[Any, str, str]:
        with pytest.raises(SystemExit) as stop:
            cli.main(["train", *map(str, arguments), "--run", str(tmp_path / "run")])
        printed, error = capsys.readouterr()
        return stop.value.code, printed, error

    logs = world / "run" / "data"
    status_, printed, _ = train(logs, *options)
    assert status_ == 0 and f"next: marline export {tmp_path / 'run'}" in printed
    assert "at most 10 rows per agent and deployment (--rows-per-deployment)" in printed
    before = contents(tmp_path / "run")
    assert train(logs, *options)[0] == 0 and train()[0] == 0 and train(*options)[0] == 0
    assert contents(tmp_path / "run") == before
    offline = "seed-0/offline/checkpoint-0000004/arm/learner.safetensors"
    assert before[offline] == contents(world / "run")[offline]
    plain = shutil.copytree(logs, tmp_path / "plain")
    (plain / "dataset.json").unlink()
    assert check(dataset.load(plain))  # of which something is told, but not before what is wrong with an option
    # all of them could be run
    monkeypatch.setattr(planning, "check_compatible", lambda config, sizes: [])
    for arguments, told in [
        ([plain, *options, "--seed", "1"], "already holds another run"),
        ([logs, "--sampler", "online-matched"], "a real team is tuned by one; choose another"),
        ([tmp_path / "nothing"], "does not exist"),
        (
            ["--offline-updates", "5", "--deployments", "10"],
            "offline_updates: 4 there, 5 here; deployments: 2 there, 10",
        ),
        (["--hidden", "5"], "algorithm hidden: [4] there, [5] here"),
        (["--sampler-option", "batch_size=5"], "sampler otc-value batch_size: 4 there, 5 here"),
        (["--clip-actions"], "--clip-actions is for LOGS"),
    ]:
        status_, printed, error = train(*arguments)
        assert status_ == 2 and told in error and "Traceback" not in error and printed == ""
    assert contents(tmp_path / "run") == before


def test_an_episode_that_ended_for_good_keeps_its_last_row_without_a_next_observation(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for number in range(2):
        np.savez(
            tmp_path / "a" / f"00000{number}.npz",
            agent="a",
            deployment=1,
            policy_sha256="0" * 64,
            observations=10.0 * number + np.arange(3.0)[:, None],
            actions=np.zeros((3, 1)),
            rewards=np.arange(3.0),
            terminals=np.arange(3) == 2,
            timeouts=np.zeros(3, bool),
        )
    log = read_logs(tmp_path).logs["a"]
    assert log.terminals.tolist() == [False, False, True] * 2 and not log.timeouts.any()
    assert log.next_observations[:, 0].tolist() == [1, 2, 2, 11, 12, 12]
