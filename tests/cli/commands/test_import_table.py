"""From a messy table to a team: what is shown, what is asked, and that two tries are enough."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from marline import cli
from marline.data.dataset import load, mapping_of
from marline.data.mapping import read_mapping

pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
from pyarrow import parquet  # noqa: E402

SIGNALS = ("Main/1st", "Main/2nd", "Oak", "Elm")
TRAINING = "--sampler uniform --hidden 4 --offline-updates 2 --updates 2 --deployments 1".split()


def signals(path: Path, *, days: int = 3, seed: int = 0, **more: Any) -> None:
    """Four traffic signals: a row per signal and half a minute, green time in whole seconds, rewards of their own.

    Rows are lost for all of them at once, and so is what one detector counts.
    """
    rng = np.random.default_rng(seed)
    n, tables = 60 * days, []
    lost, uncounted = rng.random((2, n)) < 0.01
    for number, name in enumerate(SIGNALS):
        times = np.datetime64("2026-05-04T06:00:00") + np.arange(n) * np.timedelta64(30, "s")
        queues = rng.poisson(4, (n, 4)).astype(float)
        queues[uncounted, 0] = np.nan
        table = pa.table(
            {
                "intersection": [name] * n,
                "time": times.astype("datetime64[us]"),
                **{f"queue_{side}": queues[:, i] for i, side in enumerate("nesw")},
                "occupancy_pct": rng.uniform(0, 100, n),
                "phase": np.array(["NS", "EW"])[np.arange(n) % 2],
                "green_s": rng.integers(5, 61, n),
                "reward": -queues[:, 1] * (number + 1),
                "firmware": ["v1.2"] * n,
                **{key: [value] * n for key, value in more.items()},
            }
        )
        tables.append(table.filter(pa.array(~lost)))
    parquet.write_table(pa.concat_tables(tables), path)


def robots(path: Path) -> None:
    """Two arms side by side in a row, with decimal commas, a sensor that fails, and lost rows."""
    rng = np.random.default_rng(1)
    arms = ("arm_left", "arm_right")
    names = ["run", "t", *(f"{arm}.{what}" for arm in arms for what in ("pos_1", "pos_2", "torque_nm", "gripper"))]
    lines = [";".join([*names, "reward", "done"])]
    for row in np.delete(np.arange(400), [33, 34, 70]):
        cells = [str(row // 50), str(row % 50)]
        for arm in arms:
            position = "ERR" if row % 100 == 7 and arm == "arm_left" else f"{rng.normal():.4f}"
            cells += [f"{rng.normal():.4f}", position, f"{rng.uniform(-8, 8):.4f}", rng.choice(["open", "closed"])]
        lines.append(";".join([*cells, f"{rng.normal():.4f}", str(int(row % 100 == 99))]).replace(".", ","))
    lines[0] = ";".join([*names, "reward", "done"])
    path.write_bytes(gzip.compress(("\r\n".join(lines) + "\r\n").encode()))


def games(path: Path) -> None:
    """Three pieces that take turns, with words for what they see and do, and a missing row now and then."""
    rng = np.random.default_rng(2)
    rows = []
    for match in range(10):
        for turn in range(20):
            for player in ("rook", "knight", "queen"):
                move = str(rng.choice(["attack", "defend", "wait"]))
                zone = str(rng.choice(["north", "south", "castle"]))
                row = {"match": f"m{match}", "turn": turn, "player": player, "hp": int(rng.integers(100)), "zone": zone}
                row |= {"mana": None if rng.random() < 0.01 else rng.random(), "move": move, "score": rng.normal()}
                rows += [row | {"finished": turn == 19}] if rng.random() > 0.01 else []
    path.write_text("\n".join(map(json.dumps, rows)))


MESSY: dict[str, tuple[Any, str, list[str], dict[str, tuple[int, int, bool]]]] = {
    "signals.parquet": (
        signals,
        "td3-bc",
        [
            "intersection   agent",
            "whole numbers 5 to 60 s",
            "firmware       left out (never changes)",
            "2 agents have names that cannot name a file",
            "action 'green_s' is 5 to 60 s, not in [-1, 1]",
            "observation 'phase' holds EW, NS: words",
            "no column says that something ended for good",
            "something is missing in",
            "steps are missing in",
        ],
        {name: (7, 1, False) for name in ("Elm", "Main_1st", "Main_2nd", "Oak")},
    ),
    "cell.CSV.gz": (
        robots,
        "td3-bc",
        [
            "separator ';'; decimal ','",
            "arm_left.torque_nm   action        arm_left   -7.",
            "column 'arm_left.pos_2' holds 'ERR' at row 7 and in 3 more rows among numbers",
        ],
        {"arm_left": (4, 1, False), "arm_right": (4, 1, False)},
    ),
    "matches.jsonl": (
        games,
        "cql",
        ["action 'move' holds the words attack, defend, wait", "zone      observation   3 words"],
        {name: (5, 3, True) for name in ("knight", "queen", "rook")},
    ),
}


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str]:
    with pytest.raises(SystemExit) as stop:
        cli.main([*map(str, arguments)])
    captured = capsys.readouterr()
    text = captured.out + captured.err
    assert "Traceback" not in text
    return int(stop.value.code or 0), text


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if place else ()) for place, name in enumerate(MESSY)]
)
def test_two_tries_lead_from_a_messy_table_to_a_team(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make, algorithm, told, sizes = MESSY[name]
    monkeypatch.chdir(tmp_path)
    make(tmp_path / name)
    status, text = run(capsys, "data", "import", name)  # the first look
    assert status == 0 and not Path("logs").exists()
    for part in told:
        assert part in text, text
    following = text.splitlines()[-1].removeprefix("  next:    ")
    assert following == f"marline data import {name} --mapping import.toml --out logs"
    assert read_mapping(tmp_path / "import.toml").agents.keys() == sizes.keys()

    status, text = run(capsys, *following.split()[1:])  # the second, as it says
    assert status == 0, text
    found = load("logs")
    assert {
        agent: (log.spec.observation_size, log.spec.action_size, log.spec.discrete) for agent, log in found.items()
    } == sizes
    status, text = run(capsys, "data", "check", "logs")
    fitting = "--algorithm cql " if algorithm == "cql" else ""
    assert status == 0 and "0 errors" in text and f"next: marline train logs {fitting}--run runs/first" in text
    status, text = run(capsys, "train", "logs", "--run", "run", "--algorithm", algorithm, *TRAINING)
    assert status == 0 and "trained: 2 updates of each agent" in text
    assert mapping_of("run/data") == mapping_of("logs") == read_mapping(tmp_path / "import.toml").to_document()

    # what is shown can be accepted at once, and nothing blocks without a terminal
    Path("import.toml").unlink()
    status, text = run(capsys, "data", "import", name, "--out", "other")
    assert status == 2 and not Path("other").exists() and "nothing was imported yet: what is shown was guessed" in text
    status, text = run(capsys, "data", "import", name, "--out", "other", "--yes")
    assert status == 0 and {agent: len(log) for agent, log in load("other").items()} == {
        agent: len(log) for agent, log in found.items()
    }
    status, text = run(capsys, "data", "import", name, "--out", "again", "--mapping", "other")  # as kept with the logs
    assert status == 0 and mapping_of("again") == mapping_of("other")


def test_what_reads_tables_is_asked_for_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cell.csv").write_text("agent,episode,step,x,a,reward\nq,0,0,1,.1,1\n")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.chdir(tmp_path)
    for arguments in (("cell.csv",), ("cell.csv", "--out", "logs")):
        code, told = run(capsys, "data", "import", *arguments)
        assert code == 2 and "tables need pyarrow, which is not installed: pip install 'marline[data]'" in told
    assert [path.name for path in tmp_path.iterdir()] == ["cell.csv"]


def test_the_users_mapping_is_never_written_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    games(tmp_path / "matches.jsonl")
    assert run(capsys, "data", "import", "matches.jsonl")[0] == 0
    made = Path("import.toml").read_text()
    assert run(capsys, "data", "import", "matches.jsonl")[0] == 0
    assert not Path("import-2.toml").exists()  # the same is not written twice
    Path("import.toml").write_text(made.replace('"queen"', '"dame"').replace("[agents.queen]", "[agents.lady]"))
    edited = Path("import.toml").read_text()
    assert "mapping: import-2.toml" in run(capsys, "data", "import", "matches.jsonl")[1]
    assert Path("import.toml").read_text() == edited
    status, text = run(capsys, "data", "import", "matches.jsonl", "--mapping", "import.toml", "--out", "out")
    assert status == 2 and "has an agent 'queen', but the team is" in text and not Path("out").exists()
    Path("import.toml").write_text(made.replace("[agents.queen]", "[agents.lady]"))
    assert run(capsys, "data", "import", "matches.jsonl", "--mapping", "import.toml", "--out", "out")[0] == 0
    assert set(load("out")) == {"knight", "lady", "rook"}


def test_all_that_is_to_be_decided_is_told_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.csv").write_text("alpha,beta,gamma\n1,2,x\n2,3,y\n3,1,z\n")
    status, text = run(capsys, "data", "import", "a.csv", "--out", "out", "--yes")
    assert status == 2 and not Path("out").exists()
    assert "no column is called like an action" in text and "no column is called like a reward" in text
    assert "To be decided by you:" in text and "import.toml (edit it first)" in text
    assert "# To be decided first:" in Path("import.toml").read_text()
    status, text = run(capsys, "data", "import", "a.csv", "--out", "out", "--column", "action=alpha")
    assert status == 2 and "alpha   action" in text  # the singular or the plural, as one likes
    last = text.splitlines()[-1]  # names what is to be decided, and not what was guessed
    assert last.startswith("marline: nothing was imported yet: no column is called like a reward; see above"), last
    told = run(capsys, "data", "import", "a.csv", "--column", "actoins=alpha")[1]
    assert "unknown key of columns 'actoins'; did you mean 'actions'?" in told
    told = run(capsys, "data", "import", "a.csv", "--column", "action=alpha", "actions=beta")[1]
    assert "--column says actions twice; join names by commas: actions=ONE,OTHER" in told


def test_a_sound_table_is_imported_without_a_question(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = "\n".join(f"a,{n},{n / 7},{n / 99},{n},{int(n == 29)}" for n in range(30))
    (tmp_path / "a.csv").write_text(f"agent,step,obs_0,action_0,reward,terminated\n{rows}\n")
    status, text = run(capsys, "data", "import", "a.csv", "--out", "out")
    assert status == 0 and mapping_of("out") is None and not Path("import.toml").exists(), text
    status, text = run(capsys, "data", "import", "a.csv")
    assert status == 0 and "Nothing stands against it." in text
    assert run(capsys, "data", "import", "a.csv", "--mapping", "import.toml", "--out", "same")[0] == 0
    assert load("same")["a"].observations.tolist() == load("out")["a"].observations.tolist()


@pytest.mark.slow
def test_later_tables_are_read_as_the_first_were_in_parts_and_by_their_policies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.chdir(tmp_path)
    games(tmp_path / "matches.jsonl")
    assert run(capsys, "data", "import", "matches.jsonl", "--out", "logs", "--yes")[0] == 0
    training = [*TRAINING, "--algorithm", "cql", "--rows-per-deployment", "400"]
    assert run(capsys, "train", "logs", "--run", "run", *training)[0] == 0
    assert run(capsys, "export", "run", "--out", "sent")[0] == 0
    policies = {
        agent: json.loads((Path("sent") / agent / "contract.json").read_text())["policy_sha256"]
        for agent in load("logs")
    }
    rows = [json.loads(line) for line in Path("matches.jsonl").read_text().splitlines()]
    rows = [row | {"policy_sha256": policies[row["player"]]} for row in rows]

    def day(name: str, *matches: str, **more: Any) -> str:
        Path(name).write_text("\n".join(json.dumps(row | more) for row in rows if row["match"] in matches))
        return name

    status, text = run(capsys, "ingest", "run", day("wrong.jsonl", "m1", policy_sha256="0" * 64))
    assert status == 2 and "are stamped with policy 000000000000, which never left" in text
    status, text = run(capsys, "ingest", "run", day("one.jsonl", "m1"), "--more")
    assert status == 0 and "WAITING 0/3, more of knight, queen, rook to come" in text
    assert "more of knight, queen, rook to come" in run(capsys, "status", "run")[1]
    assert "are in already" in run(capsys, "ingest", "run", "one.jsonl", "--more")[1]
    status, text = run(capsys, "ingest", "run", day("new.jsonl", "m2", zone="cellar"), "--more")
    assert status == 2 and "'cellar' at row 0, which is none of its one_hot" in text, text
    assert "marline data import new.jsonl --mapping run tells all that is wrong and writes a mapping" in text
    status, text = run(capsys, "data", "import", "new.jsonl", "--mapping", "run")
    assert status == 0 and "holds cellar, which one_hot do not list" in text
    assert "next:    marline ingest run new.jsonl --mapping import.toml" in text
    told = Path("import.toml").read_text()
    zone = '[values.zone]\none_hot = ["castle", "north", "south"]'
    Path("import.toml").write_text(told.replace(zone, zone[:-1] + ', "cellar"]'))
    status, text = run(capsys, "ingest", "run", "new.jsonl", "--more", "--mapping", "import.toml")
    assert status == 2 and "(18, 6) instead" in text and "for words that they had not, say other" in text, text
    Path("import.toml").write_text(told.replace(zone, zone + '\nother = "zeros"'))
    assert run(capsys, "ingest", "run", "new.jsonl", "--more", "--mapping", "import.toml")[0] == 0
    assert run(capsys, "ingest", "run", day("two.jsonl", "m4"), "--more")[0] == 0
    plain = [{key: row[key] for key in row if key != "policy_sha256"} for row in rows if row["match"] == "m3"]
    Path("plain.jsonl").write_text("\n".join(map(json.dumps, plain)))
    status, text = run(capsys, "ingest", "run", "plain.jsonl")
    assert status == 2 and "does not tell which policy acted" in text
    status, text = run(capsys, "ingest", "run", "plain.jsonl", "--policy-of", "sent")
    assert status == 0 and "logs of deployment 1 are in" in text
    assert "are in already" in run(capsys, "ingest", "run", "two.jsonl")[1]
    (home,) = Path("run").glob("seed-0/*/deployment-01/logs")
    kept = load(home)["rook"]
    assert kept.num_episodes >= 3 and kept.channels.action_names == ("attack", "defend", "wait")
    assert run(capsys, "tune", "run")[0] == 0
    status, text = run(capsys, "status", "run")
    assert "return per episode, mean over agents, in deployment 1: " in text and "deployment 1\n" in text
    told = json.loads(run(capsys, "status", "run", "--json")[1])
    by_agent = [its["returns"]["0"] for its in told["agents"].values()]
    assert len(set(by_agent)) == 3
    assert all(len(line.rstrip()) <= 80 for line in text.splitlines() if line.split(" ")[0] in told["agents"])
    assert "0 problems" in run(capsys, "verify", "run")[1]


def arms(path: Path) -> None:
    """Two arms that no usual word names, in a shared step column, with torques and rewards of their own."""
    rng = np.random.default_rng(3)
    rows = [
        f"{arm};{trial};{step};{rng.normal():.3f};{rng.uniform(-80, 80):.2f};{rng.normal():.3f};{int(step == 19)}"
        for trial in range(3)
        for step in range(20)
        for arm in ("links", "rechts")
    ]
    path.write_text("\n".join(["arm;trial;step;q;torque_nm;reward;done", *rows]).replace(".", ","))


def test_whose_rewards_are_is_said_once_and_a_table_is_checked_as_it_would_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    arms(tmp_path / "arms.csv")
    assert run(capsys, "data", "import", "arms.csv", "--out", "logs", "--yes")[0] == 0
    assert "say so with --rewards per-agent" in run(capsys, "data", "check", "logs")[1]
    assert run(capsys, "data", "import", "logs", "--out", "own", "--rewards", "per-agent")[0] == 0  # any format can
    assert run(capsys, "data", "import", "arms.csv", "--out", "said", "--yes", "--rewards", "per-agent")[0] == 0
    for folder in ("own", "said"):
        status, text = run(capsys, "data", "check", folder)
        assert "reward-mismatch" not in text and "rewards: each agent's own; mean over agents" in text
        assert load(folder)["links"].reward_scope == "per-agent"
    assert mapping_of("said") == (mapping_of("logs") or {}) | {"rewards": "per-agent"}
    status, text = run(capsys, "data", "check", "arms.csv", "--mapping", "said")
    assert status == 0 and "0 errors" in text
    assert "next: marline data import arms.csv --mapping said --out logs" in text
    status, text = run(capsys, "data", "check", "arms.csv")
    assert status == 2 and "say what stands between columns" in text
    assert "marline data import arms.csv shows all" in text and "marline data check arms.csv --mapping FILE" in text
    status, text = run(capsys, "train", "arms.csv", "--run", "run")
    assert status == 2 and "edit it, and marline data import arms.csv --mapping FILE --out logs reads by it" in text
    status, text = run(capsys, "data", "check", "logs", "--mapping", "said")
    assert status == 2 and "is no table" in text
