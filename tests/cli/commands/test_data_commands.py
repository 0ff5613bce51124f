"""`marline data`: every bad input that logs are known for, really made, and what is said about it."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from marline import cli
from marline.data.dataset import digest, load, save

ROWS = 120
Arrays = dict[str, np.ndarray]
Team = dict[str, Arrays]


def sound() -> Team:
    """Two agents, faultless: they share state and reward; episodes of 10, 15 and 35 steps, the last cut by a limit."""
    rng = np.random.default_rng(0)
    states = rng.normal(size=(ROWS + 1, 3)).astype(np.float32)
    step = np.arange(ROWS) % 60
    shared = {
        "observations": states[:-1],
        "rewards": rng.normal(size=ROWS).astype(np.float32),
        "terminals": np.isin(step, (9, 24)),
        "timeouts": step == 59,
        "next_observations": states[1:],
    }
    actions = rng.uniform(-1, 1, (2, ROWS, 2)).astype(np.float32)
    return {"left": shared | {"actions": actions[0]}, "right": shared | {"actions": actions[1]}}


def write(folder: Path, team: Team) -> None:
    folder.mkdir(exist_ok=True)
    for agent, arrays in team.items():
        with h5py.File(folder / f"{agent}.h5", "w") as file:
            for key, column in arrays.items():
                file[key] = column


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str]:
    """Status and text of a command."""
    with pytest.raises(SystemExit) as stop:
        cli.main(["data", *map(str, arguments)])
    captured = capsys.readouterr()
    text = captured.out + captured.err
    assert "Traceback" not in text
    return int(stop.value.code or 0), text


def check(capsys: pytest.CaptureFixture[str], folder: Path) -> tuple[int, list[dict[str, Any]]]:
    status, text = run(capsys, "check", folder, "--json")
    return status, json.loads(text)["findings"]


def of(team: Team, agent: str, **columns: np.ndarray | None) -> Team:
    """The team with columns of an agent replaced, or left out."""
    mine = {key: column for key, column in (team[agent] | columns).items() if column is not None}
    return team | {agent: mine}


def everyone(team: Team, **columns: np.ndarray) -> Team:
    return {agent: arrays | columns for agent, arrays in team.items()}


def at(column: np.ndarray, row: int, value: float) -> np.ndarray:
    column = column.copy()
    column[row] = value
    return column


def rows(team: Team, choose: Any) -> Team:
    return {agent: {key: column[choose] for key, column in arrays.items()} for agent, arrays in team.items()}


def discrete(team: Team, actions: np.ndarray, **masks: np.ndarray) -> Team:
    return {agent: arrays | {"actions": actions, **masks} for agent, arrays in team.items()}


CHOICES = np.arange(ROWS) % 3
MASKS = np.ones((ROWS, 4), bool)
TEAM = sound()
LEFT = TEAM["left"]
ENDS = LEFT["terminals"] | LEFT["timeouts"]
EVERY = np.arange(ROWS) % 20 == 19
NEVER = np.zeros(ROWS, bool)
ALIVE = np.array([1, 1, 0], np.float32)

# what is made, the rule that finds it, the row it is found at, and part of what is said
ERRORS: dict[str, tuple[Team, str, int | None, str]] = {
    "NaN in an observation": (
        of(TEAM, "left", observations=at(LEFT["observations"], 7, np.nan)),
        *("not-finite", 7, "hold NaN in observations at row 7 and in 1 of 120 rows altogether; remove those episodes"),
    ),
    "infinite reward": (
        of(TEAM, "left", rewards=at(LEFT["rewards"], 8, -np.inf)),
        *("not-finite", 8, "hold an infinite value in rewards at row 8"),
    ),
    "rewards of 1e30": (
        of(TEAM, "left", rewards=at(LEFT["rewards"], 8, 1e30)),
        *("too-large", 8, "hold 1e+30 in rewards at row 8; nothing beyond 1e+18 can be learned from in float32"),
    ),
    "numbers beyond float32": (
        of(TEAM, "left", rewards=at(LEFT["rewards"].astype(float), 8, 1e300)),
        *("unreadable", None, "hold rewards up to 1e+300 at row 8, which float32 cannot hold; rescale them"),
    ),
    "lengths that differ": (
        of(TEAM, "left", rewards=LEFT["rewards"][:-5]),
        *("unreadable", None, "observations have 120 rows and rewards 115; export one row per step everywhere"),
    ),
    "an observation more than steps": (
        of(TEAM, "left", observations=np.zeros((ROWS + 1, 3), np.float32)),
        *("unreadable", None, "split them into observations[:-1] and next_observations = observations[1:]"),
    ),
    "actions out of bounds": (
        of(TEAM, "left", actions=at(LEFT["actions"], 30, 1.8)),
        *("action-bounds", 30, "(first at row 30, 1 rows); re-export with the action scaling used on site"),
    ),
    "choices beyond the mask": (
        discrete(TEAM, at(CHOICES, 50, 4), action_masks=MASKS, next_action_masks=MASKS),
        *("action-range", 50, "hold action 4 at row 50 (1 such rows) but its spec has actions 0 to 3; count actions"),
    ),
    "choices below 0": (
        discrete(TEAM, at(CHOICES, 50, -1)),
        *("action-range", 50, "hold action -1 at row 50"),
    ),
    "fractional choices": (
        discrete(TEAM, at(CHOICES.astype(np.float32), 50, 1.5), action_masks=MASKS, next_action_masks=MASKS),
        *("unreadable", None, "export continuous actions as [n, size], discrete ones as integers [n]"),
    ),
    "a mask that allows nothing": (
        discrete(TEAM, CHOICES, action_masks=MASKS & (np.arange(ROWS) != 6)[:, None], next_action_masks=MASKS),
        *("empty-mask", 6, "action_masks allow no action at row 6; allow at least one"),
    ),
    "an action that its mask forbids": (
        discrete(TEAM, CHOICES, action_masks=MASKS & (np.arange(4) != 2), next_action_masks=MASKS),
        *("forbidden-action", 2, "took action 2 at row 2, which its mask forbids (40 such rows)"),
    ),
    "no terminals": (
        of(TEAM, "left", terminals=None),
        *("unreadable", None, 'no "terminals" among "actions", "next_observations"'),
    ),
    "flags that are none": (
        of(TEAM, "left", terminals=at(LEFT["terminals"].astype(np.int8), 4, 3)),
        *("unreadable", None, "hold 3 in terminals at row 4; export only 0 and 1 there"),
    ),
    "agents misaligned by a step": (
        TEAM | {"right": {key: np.roll(column, 1, axis=0) for key, column in TEAM["right"].items()}},
        *("misaligned", 9, "differ in terminals from row 9 on (8 rows): their rows are not the same steps"),
    ),
    "an agent a step behind, and no episode ends": (
        everyone(of(TEAM, "right", rewards=np.roll(LEFT["rewards"], 1)), terminals=NEVER, timeouts=NEVER),
        *("misaligned", 0, "one row later: they are a step behind; export them aligned"),
    ),
    "time that does not go on": (
        everyone(TEAM, timestamps=at(np.arange(ROWS) / 10, 5, 0.2)),
        *("time-order", 5, "go from time 0.4 to 0.2 at row 5 (1 such rows); sort the rows of every episode by time"),
    ),
}
WARNINGS: dict[str, tuple[Team, str, int | None, str]] = {
    "float64": (
        of(TEAM, "left", observations=LEFT["observations"].astype(float)),
        *("converted", None, "observations came as float64 and were converted to float32"),
    ),
    "no timeouts": (
        {agent: {key: column for key, column in arrays.items() if key != "timeouts"} for agent, arrays in TEAM.items()},
        *("converted", None, "no timeouts key, so no episode counts as cut by a time limit"),
    ),
    "big-endian integers": (
        of(TEAM, "left", rewards=np.arange(ROWS, dtype=">i4")),
        *("converted", None, "rewards came as >i4 and were converted to float32"),
    ),
    "steps after the last end": (
        everyone(TEAM, timeouts=at(LEFT["timeouts"], 119, 0)),
        *("unfinished", 85, "the last 35 rows belong to an episode without an end; they are kept"),
    ),
    "terminal and timeout both": (
        everyone(TEAM, timeouts=at(LEFT["timeouts"], 9, 1)),
        *("both-ends", 9, "terminal and timeout are both set at row 9 and in 1 rows; they count as terminal"),
    ),
    "truncation stored as terminal": (
        everyone(TEAM, terminals=EVERY, timeouts=NEVER),
        *("truncation-as-terminal", 19, "all 6 episodes are terminal after 20 steps; if a time limit cut them, store"),
    ),
    "a shared reward that differs": (
        of(TEAM, "right", rewards=at(LEFT["rewards"], 40, 0.5)),
        *("reward-mismatch", 40, "from row 40 on (1 rows); if each has its own, say so"),
    ),
    "a single transition": (
        rows(TEAM, slice(0, 1)),
        *("dead-feature", None, "observations never change in column 0, 1, 2"),
    ),
    "a dead feature": (
        everyone(
            TEAM, **{key: LEFT[key] * np.array([1, 1, 0], np.float32) for key in ("observations", "next_observations")}
        ),
        *("dead-feature", None, "observations never change in column 2; they carry no information"),
    ),
    "all rewards equal": (
        everyone(TEAM, rewards=np.full(ROWS, 2, np.float32)),
        *("constant-reward", None, "all rewards are 2, so there is nothing to improve"),
    ),
    "a next observation that is another": (
        everyone(TEAM, next_observations=at(LEFT["next_observations"], 12, 7.0)),
        *("not-following", 12, "is not the observation of the following row at row 12 and in 1 rows"),
    ),
    "an episode twice": (
        rows(TEAM, np.concatenate([np.arange(ROWS), np.arange(10, 25)])),
        *("repeated-episode", 10, "1 of 7 episodes repeat an earlier one, such as the one from row 10"),
    ),
    "actions cut at their bounds": (
        of(TEAM, "left", actions=np.where(LEFT["actions"] > 0, 1, -1).astype(np.float32)),
        *("saturated", None, "actions are mostly at their bounds in column 0 (100 %), 1 (100 %)"),
    ),
    "missing steps": (
        everyone(TEAM, timestamps=np.arange(ROWS) + 10.0 * (np.arange(ROWS) >= 30)),
        *("time-gap", 30, "11 instead of 1 pass before row 30 and 1 rows altogether; steps are missing"),
    ),
    "agents with unequal numbers of episodes": (
        TEAM | {"right": {key: column[:60] for key, column in TEAM["right"].items()}},
        *("other-steps", None, "60 rows and 3 ends of episodes"),
    ),
    "one log given to both": (
        of(TEAM, "right", actions=LEFT["actions"]),
        *("same-actions", None, "export to each agent its own actions only"),
    ),
}


def test_sound_logs_have_nothing_to_say(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(tmp_path / "logs", load_plain(tmp_path))
    assert check(capsys, tmp_path / "logs") == (0, [])
    status, text = run(capsys, "check", tmp_path / "logs")
    assert status == 0 and "0 errors, 0 warnings" in text and "left" in text


def load_plain(tmp_path: Path) -> Any:
    write(tmp_path / "plain", TEAM)
    return load(tmp_path / "plain")


@pytest.mark.parametrize("case", ERRORS)
def test_errors(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    team, rule, row, told = ERRORS[case]
    write(tmp_path / "logs", team)
    status, findings = check(capsys, tmp_path / "logs")
    assert status == 2
    errors = [finding for finding in findings if finding["severity"] == "error"]
    assert (rule, row) in [(error["rule"], error["row"]) for error in errors]
    assert any(told in error["message"] for error in errors), errors
    assert all("left" in error["message"] or "right" in error["message"] for error in errors)


@pytest.mark.parametrize("case", WARNINGS)
def test_warnings(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    team, rule, row, told = WARNINGS[case]
    write(tmp_path / "logs", team)
    status, findings = check(capsys, tmp_path / "logs")
    assert status == 0
    assert (rule, row) in [(finding["rule"], finding["row"]) for finding in findings]
    assert any(told in finding["message"] for finding in findings), findings


def empty(path: Path) -> None:
    path.write_bytes(b"")


def zipped(path: Path) -> None:
    path.write_bytes(b"PK\x03\x04")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def text_inside(path: Path) -> None:
    with h5py.File(path, "a") as file:
        del file["rewards"]
        file["rewards"] = ["1.0"] * ROWS


def bomb(path: Path) -> None:
    with h5py.File(path, "a") as file:
        del file["rewards"]
        file.create_dataset("rewards", (10**11,), "f4", chunks=(10**6,), compression="gzip")


def external(path: Path) -> None:
    with h5py.File(path, "a") as file:
        del file["rewards"]
        file["rewards"] = h5py.ExternalLink("/etc/passwd", "x")


def soft(path: Path) -> None:
    with h5py.File(path, "a") as file:
        del file["rewards"]
        file["rewards"] = h5py.SoftLink("/observations")


def virtual(path: Path) -> None:
    layout = h5py.VirtualLayout((ROWS,), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "x", (ROWS,))
    with h5py.File(path, "a") as file:
        del file["rewards"]
        file.create_virtual_dataset("rewards", layout)


def packed(path: Path) -> None:
    with h5py.File(path, "a") as file:
        del file["rewards"]
        file.create_dataset("rewards", data=np.zeros(ROWS, np.float32), scaleoffset=2)


def tiny_groups(path: Path) -> None:
    with h5py.File(path, "w") as file:
        for i in range(2000):
            file.create_group(f"g{i}")


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def link(path: Path) -> None:
    path.rename(path.with_suffix(".elsewhere"))
    path.symlink_to(path.with_suffix(".elsewhere"))


FILES: dict[str, tuple[Callable[[Path], None], str]] = {
    "empty": (empty, "is empty; export the logs again"),
    "not HDF5": (zipped, "is not an HDF5 file"),
    "truncated": (cut, "is truncated or altered"),
    "text": (text_inside, '"rewards" holds something other than numbers'),
    "a compression bomb": (bomb, '"rewards" claims to be 400000000000 bytes'),
    "an external link": (external, '"rewards" is a soft or external link, which is not read'),
    "a soft link": (soft, '"rewards" is a soft or external link, which is not read'),
    "a virtual array": (virtual, '"rewards" is a virtual array, made of other files'),
    "an unknown filter": (packed, '"rewards" is packed by filter 6, which is not read; repack it with gzip or lzf'),
    "many tiny groups": (tiny_groups, 'no "observations" among "g0", "g1"'),
    "a pipe": (pipe, "is not a plain file"),
    "a symbolic link": (link, "is a symbolic link"),
}


@pytest.mark.parametrize("case", FILES)
def test_files_that_cannot_be_read_do_not_hide_the_others(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil, told = FILES[case]
    write(tmp_path / "logs", of(TEAM, "right", actions=at(LEFT["actions"], 3, 9.0)))
    spoil(tmp_path / "logs" / "left.h5")
    status, findings = check(capsys, tmp_path / "logs")
    errors = {finding["agent"]: finding for finding in findings if finding["severity"] == "error"}
    assert status == 2
    assert errors["left"]["rule"] == "unreadable" and told in errors["left"]["message"]
    assert "left.h5" in errors["left"]["message"]
    assert errors["right"]["rule"] == "action-bounds" and errors["right"]["row"] == 3


def test_a_flipped_byte_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(tmp_path / "logs", load_plain(tmp_path))
    file = tmp_path / "logs" / "right.h5"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    status, findings = check(capsys, tmp_path / "logs")
    assert status == 2
    assert [(finding["rule"], finding["agent"]) for finding in findings] == [("unreadable", "right")]
    assert "was altered after it was written: its SHA-256 differs; restore a copy" in findings[0]["message"]


def test_an_agent_without_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "logs").mkdir()
    with h5py.File(tmp_path / "logs" / "left.h5", "w") as file:
        for key, column in LEFT.items():
            file.create_dataset(key, data=column[:0])
    status, findings = check(capsys, tmp_path / "logs")
    assert status == 2
    assert "hold no rows; leave the agent out or export its logs again" in findings[-1]["message"]


@pytest.mark.parametrize("name", ["a b", "x" * 200, "[bold]", "a\nb", "<script>"])
def test_names_that_cannot_name_an_agent(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "logs", TEAM)
    (tmp_path / "logs" / "left.h5").rename(tmp_path / "logs" / f"{name}.h5")
    status, text = run(capsys, "check", tmp_path / "logs")
    assert status == 2
    assert "cannot name a file; use 1 to 100 of the letters" in text


def test_an_agent_twice_and_no_agents(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "logs", TEAM)
    (tmp_path / "logs" / "left.hdf5").write_bytes((tmp_path / "logs" / "left.h5").read_bytes())
    assert "holds agent 'left' twice, as .h5 and .hdf5; remove one" in run(capsys, "check", tmp_path / "logs")[1]
    (tmp_path / "none").mkdir()
    status, text = run(capsys, "check", tmp_path / "none")
    assert status == 2 and "holds no .h5 or .hdf5 file; export one <agent>.h5 per agent" in text
    assert "nowhere does not exist; give the folder" in run(capsys, "check", tmp_path / "nowhere")[1]
    (tmp_path / "file").touch()
    assert "file is no folder; give the folder" in run(capsys, "check", tmp_path / "file")[1]


def test_a_missing_agent_and_other_sizes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task = ("--task", "cooperative-navigation-2")
    write(tmp_path / "logs", {"agent_0": LEFT})
    status, text = run(capsys, "check", tmp_path / "logs", *task)
    assert status == 2 and "'agent_1' is missing; name the files after the agents" in text
    write(tmp_path / "logs", {"agent_1": TEAM["right"]})
    status, text = run(capsys, "check", tmp_path / "logs", *task)
    assert status == 2
    assert "have 3 observations and 2 actions, but in cooperative-navigation-2 it has 8 observations" in text


def test_a_page_is_safe_and_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "logs", of(TEAM, "right", actions=at(LEFT["actions"], 3, 9.0)))
    folder = tmp_path / "<script>alert(1)<"
    (tmp_path / "logs").rename(folder)
    status, text = run(capsys, "check", folder, "--html", tmp_path / "page.html")
    assert status == 2 and "page.html" in text
    page = (tmp_path / "page.html").read_text("utf-8")
    assert "<script>alert" not in page and "Content-Security-Policy" in page
    assert "1 error and" in page and "(first at row 3, 1 rows)" in page
    data = json.loads(page.split('id="data">')[1].split("</script>")[0])
    assert {key.split("-", 2)[2] for key in data} == {"actions", "rewards", "returns", "lengths", "coverage"}
    shares = [float(told.removesuffix(" %")) for told in data["agent-0-actions"]["rows"][0]["t"]]
    assert abs(sum(shares) - 100) < 1  # every row is in a bin
    assert sum(map(int, data["agent-0-lengths"]["rows"][0]["t"])) == 6
    assert "src=" not in page.split("<main>")[1].split("</main>")[0]


TINY = ("--hidden", "8", "--offline-updates", "4", "--updates", "2", "--deployments", "1", "--seeds", "1")


def test_a_run_learns_from_given_logs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task = "cooperative-navigation-2"
    run(capsys, "make", f"{task}/random", "--size", "300", "--seed", "7", "--out", tmp_path / "logs")
    given = load(tmp_path / "logs")
    write(tmp_path / "plain", {agent: given[agent].columns() for agent in reversed(given)})
    arguments = ["run", "--task", task, "--run", str(tmp_path / "run"), "--data", str(tmp_path / "plain"), *TINY]
    arguments += ["--sampler", "uniform", "--evaluation-episodes", "2", "--json"]
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    assert stop.value.code == 0
    kept = load(tmp_path / "run" / "data")
    assert list(kept) == list(given)  # in the order of the task's agents
    for agent, log in given.items():
        for key, column in log.columns().items():
            np.testing.assert_array_equal(kept[agent].columns()[key], column)
    config = json.loads((tmp_path / "run" / "run.json").read_text())
    assert config["data_sha256"] == digest(given) and config["dataset_size"] is None
    assert config["rows_per_deployment"] == 3  # 1 % of the rows that there are
    assert "src=" not in (tmp_path / "run" / "report.html").read_text("utf-8").split("<main>")[1].split("</main>")[0]
    capsys.readouterr()
    with pytest.raises(SystemExit):
        cli.main(["resume", str(tmp_path / "run")])
    following = [
        f"  next:   open {tmp_path / 'run' / 'report.html'} in a browser",
        f"          marline report {tmp_path / 'run'} --csv returns.csv",
        "          marline run --help",
    ]
    assert capsys.readouterr().out.splitlines()[-3:] == following  # a line each, to be copied

    write(tmp_path / "plain", {agent: log.columns() | {"rewards": -log.rewards} for agent, log in given.items()})
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    assert stop.value.code == 2 and "already holds another run (data_sha256:" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("task", "change", "more", "told"),
    [
        ("cooperative-navigation-3", {}, [], "but 'agent_2' is missing; name the files after the agents"),
        ("cooperative-navigation-2-discrete", {}, [], "which is no whole number; export action indices"),
        ("cooperative-navigation-2", {"rewards": np.full(60, np.nan)}, [], "hold NaN in rewards at row 0"),
        ("cooperative-navigation-2", {"observations": np.zeros((60, 9))}, [], "instead of float32 and [n, 8]"),
        ("cooperative-navigation-2", {}, ["--dataset-size", "9"], "leave out one of them"),
    ],
)
def test_logs_that_do_not_fit_the_task_are_refused(
    task: str, change: Arrays, more: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(capsys, "make", "cooperative-navigation-2/random", "--size", "60", "--out", tmp_path / "made")
    plain = {agent: log.columns() | change for agent, log in load(tmp_path / "made").items()}
    write(tmp_path / "logs", plain)
    with pytest.raises(SystemExit) as stop:
        cli.main(
            ["run", "--task", task, "--run", str(tmp_path / "run"), "--data", str(tmp_path / "logs"), *TINY, *more]
        )
    assert stop.value.code == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_random_play_is_made_exported_and_read_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    made, tables, back = (tmp_path / name for name in ("made", "tables", "back"))
    status, text = run(capsys, "make", "cooperative-navigation-2-discrete/random", "--size", "130", "--out", made)
    assert status == 0 and "2 agents, 130 transitions of each" in text
    assert run(capsys, "export", made, "--format", "parquet", "--out", tables)[0] == 0
    task = ("--task", "cooperative-navigation-2-discrete")
    status, text = run(capsys, "import", tables, "--out", back, *task)
    assert status == 0 and "agent_1: 130 transitions" in text
    assert run(capsys, "check", back, *task)[0] == 0
    for agent, log in load(made).items():
        found = load(back)[agent]
        assert found.spec == log.spec
        for key, column in log.columns().items():
            np.testing.assert_array_equal(getattr(found, key), column)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["make", "cooperative-navigation-2", "--out", "x"], "is not TASK/KIND; write for example"),
        (["make", "cooperative-navigation-2/randm", "--out", "x"], "did you mean 'random'?"),
        (["make", "cooperative-navigation-5/random", "--out", "x"], "unknown task 'cooperative-navigation-5'"),
        (["make", "cooperative-navigation-2/random", "--size", "0", "--out", "x"], "--size is 0"),
        (["make", "cooperative-navigation-2/random", "--seed", "-1", "--out", "x"], "--seed is -1"),
        (["make", "cooperative-navigation-2/medium", "--out", "x"], "medium data is made of the robots of MuJoCo"),
        (["make", "hopper-3x1/expert", "--max-steps", "0", "--out", "x"], "--max-steps is 0"),
        (["make", "hopper-3x1/random", "--out", "/"], "exists already; choose another --out"),
        (["make", "mine:task/random", "--out", "x"], "is code that will be imported and run; add --trust"),
        (["import", "nowhere.h5", "--out", "x"], "does not exist; give D4RL's HDF5"),
        (["import", "a.csv", "--column", "agent", "--out", "x"], "--column 'agent' is not KEY=NAME"),
        (["import", "a.csv", "--spec", "s.json", "--task", "t", "--out", "x"], "give one"),
    ],
)
def test_wrong_options_are_named(
    arguments: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    status, text = run(capsys, *arguments)
    assert status == 2 and told in text
    assert list(tmp_path.iterdir()) == []


def test_logs_are_made_in_an_environment_that_is_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("gymnasium")
    (tmp_path / "carts.py").write_text("import gymnasium\ndef make(): return gymnasium.make('CartPole-v1')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    status, text = run(capsys, "make", "carts:make(max_steps=9)/random", "--trust", "--size", "20", "--out", "a b")
    assert status == 0, text
    assert "marline run --task 'carts:make(max_steps=9)' --trust --data 'a b' --run runs/first" in text
    assert {agent: len(log) for agent, log in load("a b").items()} == {"agent_0": 20}
    status, text = run(capsys, "check", "a b", "--task", "carts:make(max_steps=9)", "--trust")
    assert status == 0, text


def test_a_joint_log_is_split_by_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    joint = LEFT | {"actions": np.concatenate([LEFT["actions"], 2 * TEAM["right"]["actions"]], axis=1)}
    np.savez(tmp_path / "joint.npz", **joint)  # pyright: ignore[reportArgumentType]
    agents = {
        "left": {"observations": "0:2", "actions": [0, 1]},
        "right": {"actions": "2:4", "low": -2, "high": 2},
    }
    (tmp_path / "split.json").write_text(json.dumps({"agents": agents}))
    out = tmp_path / "out"
    status, text = run(capsys, "import", tmp_path / "joint.npz", "--spec", tmp_path / "split.json", "--out", out)
    assert status == 0 and "right: 120 transitions" in text
    found = load(out)
    np.testing.assert_array_equal(found["left"].observations, LEFT["observations"][:, :2])
    np.testing.assert_allclose(found["right"].actions, TEAM["right"]["actions"], atol=1e-6)
    status, text = run(capsys, "import", tmp_path / "joint.npz", "--spec", tmp_path / "split.json", "--out", out)
    assert status == 2 and "out holds a dataset already; add --replace" in text
    again = ("--spec", tmp_path / "split.json", "--out", out, "--replace")
    assert run(capsys, "import", tmp_path / "joint.npz", *again)[0] == 0


def test_a_range_with_names_and_units_is_kept_shown_and_given_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pyarrow")
    flow = np.arange(ROWS) % 12 * 5 + 5  # whole numbers in [5, 60], which a range says are no choices
    lines = ["episode,step,obs_0,obs_1,action,reward,terminated,truncated"]
    lines += [f"{n // 20},{n % 20},{n % 7}.5,{n % 3},{flow[n]},{n % 5},0,{int(n % 20 == 19)}" for n in range(ROWS)]
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "pump.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "logs" / "twin.csv").write_text("\n".join(lines) + "\n")
    mine = {
        "low": 5,
        "high": 60,
        "names": {"observations": ["level", "<b>day</b>"], "actions": ["flow"]},
        "units": {"observations": ["m", None], "actions": "l/min"},
    }
    (tmp_path / "spec.json").write_text(json.dumps({"agents": {"pump": mine, "twin": mine}}))
    imported = tmp_path / "imported"
    status, text = run(capsys, "import", tmp_path / "logs", "--spec", tmp_path / "spec.json", "--out", imported)
    assert status == 0 and "transitions, actions in [5, 60]" in text
    found = load(imported)["pump"]
    assert found.channels.action_units == ("l/min",) and not found.spec.discrete
    shown = found.field_actions()[:, 0]
    np.testing.assert_allclose(shown, flow[np.arange(ROWS) % 20 != 19], atol=1e-5)
    np.testing.assert_allclose(found.actions[:3, 0], [-1, -9 / 11, -7 / 11], atol=1e-6)

    status, text = run(capsys, "check", imported, "--html", tmp_path / "page.html")
    assert status == 0 and "pump: in the field, actions lie in [5, 60]" in text
    page = (tmp_path / "page.html").read_text("utf-8")
    assert '<td data-label="range">5 to 60</td>' in page and '<td data-label="unit">l/min</td>' in page
    assert "&lt;b&gt;day" in page and "<b>day" not in page
    data = page.split('id="data">')[1].split("</script>")[0]
    drawn = next(told for key, told in json.loads(data).items() if key.endswith("actions"))
    assert drawn["rows"][0]["name"] == "flow"
    places = [re.fullmatch(r"action, l/min ([\d.]+)", name) for _, name in drawn["places"]]
    middles = [float(place[1]) for place in places if place]
    assert len(middles) == len(places) and 5 < middles[0] < 6 and 59 < middles[-1] < 60
    _, text = run(capsys, "check", imported, "--json")
    assert json.loads(text)["agents"]["pump"]["channels"] == found.channels.to_json()

    assert run(capsys, "export", imported, "--format", "parquet", "--out", tmp_path / "given")[0] == 0
    assert run(capsys, "import", tmp_path / "given", "--out", tmp_path / "again")[0] == 0
    again = load(tmp_path / "again")["pump"]
    assert again.channels == found.channels
    np.testing.assert_array_equal(again.actions, found.actions)
    # narrower than what was logged: refused as it was logged, whatever the file is called
    (tmp_path / "spec.json").write_text(json.dumps({"agents": {"pump": mine | {"high": 50}, "twin": mine}}))
    status, text = run(capsys, "import", tmp_path / "logs", "--spec", tmp_path / "spec.json", "--out", tmp_path / "no")
    assert status == 2 and "hold 55 as flow (l/min), beyond its range of [5, 50] (first at row 10, " in text
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize(
    ("agents", "told"),
    [
        ({}, "names no agents"),
        ({"a": 1}, "agent 'a' is 1; describe it by observations, actions, discrete, continuous, low, high"),
        ({"a": {"action": [0]}}, "unknown key of"),
        ({"a": {"actions": [0]}, "b": {"actions": [0]}}, "gives action 0 to 'a' and 'b'; give it to one"),
        ({"a": {"actions": "3:1"}}, "give a list of columns counted from 0"),
        ({"a": {"actions": [-1]}}, "give a list of columns counted from 0"),
        ({"a": {"actions": [0, 1], "discrete": 3}}, "choices are one column; give one"),
        ({"a": {"actions": [0], "discrete": 0}}, "discrete is 0, but must be the number of choices"),
        ({"a": {"actions": [0], "discrete": 2, "low": 0}}, "choices have no low or high"),
        ({"a": {"low": 1, "high": 0}}, "give two numbers, the lower first"),
        ({"a": {"continuous": "yes"}}, "continuous is 'yes', but must be true or false"),
        ({"a": {"actions": [0], "discrete": 2, "continuous": True}}, "an action is either discrete or continuous"),
        ({"a": {"continuous": False, "low": 0, "high": 9}}, "only continuous actions have a low and a high"),
        ({"a": {"actions": [9]}}, "actions have 2 columns, so there is no column 9; count them from 0"),
        ({"a": {"discrete": 3}}, "choices are one column, but there are 2 of actions; say which one"),
    ],
)
def test_splits_that_are_refused(agents: object, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "joint.npz", **LEFT)  # pyright: ignore[reportArgumentType]
    split = tmp_path / "split.json"
    split.write_text(json.dumps({"agents": agents}))
    status, text = run(capsys, "import", tmp_path / "joint.npz", "--spec", split, "--out", tmp_path / "out")
    assert status == 2 and told in text
    assert not (tmp_path / "out").exists()


def test_a_range_beside_the_agents_of_a_split_is_not_passed_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "split.json").write_text(json.dumps({"agents": {"a": {}}, "low": 5, "high": 60}))
    status, text = run(capsys, "import", tmp_path, "--spec", tmp_path / "split.json", "--out", tmp_path / "out")
    assert status == 2 and "'low' stands beside \"agents\"; write it for each of them, within" in text


@pytest.mark.parametrize(("name", "copied"), [("my logs", "'my logs'"), ("-x", "./-x"), ("it's", "'it'\"'\"'s'")])
def test_the_next_command_can_be_copied(
    name: str, copied: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "logs", sound())
    monkeypatch.chdir(tmp_path)
    status, text = run(capsys, "import", "logs", f"--out=./{name}")
    assert status == 0 and text.splitlines()[-1] == f"  next:    marline data check {copied}"
    status, text = run(capsys, "check", f"./{name}")
    assert status == 0 and f"next: marline train {copied} --run runs/first" in text
