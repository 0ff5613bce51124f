"""Scripts of experiments run, in small, and end with what they promise."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from marline.envs import Finite, make_task
from marline.envs.finite import team_return

EXPERIMENTS = Path(__file__).parents[1] / "experiments"


def script(name: str) -> ModuleType:
    found = importlib.util.spec_from_file_location(f"experiments.{name}", EXPERIMENTS / f"{name}.py")
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules[module.__name__] = module  # where dataclasses look their annotations up
    found.loader.exec_module(module)
    return module


def test_every_experiment_is_run_by_a_test() -> None:
    here = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    elsewhere = {"verdicts": "test_experiments_verdicts.py", "kill_campaign": "behaviour/test_campaign_faults.py"}
    assert {path.stem for path in EXPERIMENTS.glob("*.py")} <= here | elsewhere.keys()
    for name, file in elsewhere.items():
        assert name in (Path(__file__).parent / file).read_text("utf-8")


@pytest.mark.slow
def test_cooperative_navigation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    places = ["--runs", str(tmp_path / "runs"), "--results", str(tmp_path / "results")]
    script("cooperative_navigation").main(["small-moving", "--quick", *places])
    results = sorted(path.name for path in (tmp_path / "results").iterdir())
    assert results == [f"cooperative-navigation-4-small-moving{end}" for end in (".csv", ".md", ".svg")]
    table = (tmp_path / "results" / results[0]).read_text("utf-8")
    assert "otc-value" in table and "uniform" in table


@pytest.mark.slow
def test_correction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """In small: what is there is not done again, a run gains what it lacks, and everything ends up in the tables."""
    monkeypatch.syspath_prepend(EXPERIMENTS)
    module = script("correction")
    for name, value in {"METHODS": ("two-sided",), "SHARES": (0.25,), "REFERENCES": ()}.items():
        monkeypatch.setattr(module, name, value)
    places = ["--quick", "--runs", str(tmp_path / "runs"), "--results", str(tmp_path / "results")]
    module.main(["matrix", "--leave-out", "two-sided", *places])
    before = (tmp_path / "results" / "correction.csv").read_text("utf-8")
    module.main(["matrix", *places])
    after = (tmp_path / "results" / "correction.csv").read_text("utf-8")
    assert set(before.splitlines()) < set(after.splitlines()) and "shuffled-two-sided" not in before
    assert (tmp_path / "results" / "correction.svg").read_text("utf-8").count("<circle") > 2
    printed = capsys.readouterr().out
    assert "| matrix | CQL | 2 | " in printed and "| `two-sided` | 1 | " in printed


def test_scores_of_correction_are_0_for_random_play_and_1_for_the_best_team(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where worlds can be solved: team_return of random choices, and the value of choosing together."""
    monkeypatch.syspath_prepend(EXPERIMENTS)
    for case in script("correction").CASES.values():
        task = make_task(case.task)
        if not isinstance(task, Finite):
            continue
        model = task.model()
        num_states, *choices, _ = model.transition.shape
        random = team_return(model, *(np.full((num_states, num), 1 / num) for num in choices))
        values = np.zeros(num_states)
        for _ in range(model.horizon):
            values = (model.reward + model.transition @ values).reshape(num_states, -1).max(axis=1)
        assert (case.random, case.best) == pytest.approx((random, model.start @ values), abs=1e-3)


def table_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module_name: str = "correction_table") -> tuple[Any, Any]:
    """Two seeds' worth of numbers by hand, ten times: uniform gains nothing, the method 1 of 10, its control -1."""
    monkeypatch.syspath_prepend(EXPERIMENTS)
    module = script(module_name)
    lines = ["task,algorithm,random,best,sampler,seed,deployment,return,corrects"]
    for sampler, gain in (("uniform", 0.0), ("two-sided", 1.0), ("shuffled-two-sided", -1.0), ("fresh-0.5", 0.5)):
        for seed in range(10):
            noise = 0.01 * seed
            lines += [f"world,CQL,0,10,{sampler},{seed},0,{5 + noise},"]
            lines += [
                f"world,CQL,0,10,{sampler},{seed},1,{5 + noise + gain + 0.001 * seed},{'1.0' if gain == 1 else ''}"
            ]
    (tmp_path / "correction.csv").write_text("\n".join(lines) + "\n", "utf-8")
    return module, module.read(tmp_path / "correction.csv")


def test_correction_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module, (world,) = table_of(tmp_path, monkeypatch)
    assert world.methods == ["two-sided"] and world.best_share == "fresh-0.5" and world.last == 1
    assert world.minus("two-sided", "shuffled-two-sided").mean == pytest.approx(20)
    assert world.minus("two-sided", "uniform").mean == pytest.approx(10)
    assert world.minus("two-sided", None) is None and world.minus("two-sided", "oracle") is None
    assert world.margin == pytest.approx(0.02 * 50.45)
    assert [word for _, _, word in module.findings(world).values()] == ["**better**"] * 3
    few = world._replace(points={name: {0: its[0], 1: its[1]} for name, its in world.points.items()})
    assert [word for _, _, word in module.findings(few).values()] == ["a direction, up"] * 3
    text = "\n".join(module.tables([world, few]))
    assert "| `two-sided` | 60.5 | 100 % | +20.0 in every seed, **better**" in text
    assert "better on 1, worse on 0 of 2" in text
    assert module.draw([world]).count("<circle") == 4


@pytest.mark.slow
def test_refresh(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    places = ["--runs", str(tmp_path / "runs"), "--results", str(tmp_path / "results")]
    script("refresh").main(["predator-prey", "--quick", *places])
    assert "| `otc-value-refresh` |" in capsys.readouterr().out


@pytest.mark.slow
def test_value_samples(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    module = script("value_samples")
    small = {"OFFLINE_ROWS": 600, "ONLINE_ROWS": 200, "CANDIDATES": 64, "UPDATES": 2, "REPEATS": 1, "MANY": 4}
    for name, value in {**small, "FEW": (1,), "LEARNERS": {"AWAC": module.LEARNERS["AWAC"]}}.items():
        monkeypatch.setattr(module, name, value)
    module.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[2] for line in lines[2:]] == ["of each row", "the same for all rows"]


def test_parity_balanced(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    module = script("parity_balanced")
    for name, value in {"NUM_OFFLINE": 600, "NUM_ONLINE": 300, "NUM_UPDATES": 4, "EVERY": 2, "SCORED": 100}.items():
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr("sys.argv", ["parity_balanced.py", "--seeds", "1", "--csv", str(tmp_path / "curves.csv")])
    module.main()
    header, *rows = (tmp_path / "curves.csv").read_text("utf-8").splitlines()
    assert (
        header.startswith("side,seed,updates,share_online")
        and rows
        and all(row.startswith("marline,0,") for row in rows)
    )


def test_parity(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    module = script("parity")
    for name, value in {"NUM_ROWS": 600, "NUM_UPDATES": 4, "EVERY": 2, "EPISODES": 2, "SCORED": 100}.items():
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr("sys.argv", ["parity.py", "iql", "--seeds", "1", "--csv", str(tmp_path / "curves.csv")])
    module.main()
    header, *rows = (tmp_path / "curves.csv").read_text("utf-8").splitlines()
    assert header == "side,algorithm,seed,updates,return,mean_q1"
    assert [row.rsplit(",", 2)[0] for row in rows] == ["marline,iql,0,2", "marline,iql,0,4"]


def test_parity_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["parity_table.py", str(EXPERIMENTS.parent / "results" / "parity.csv")])
    script("parity_table").main()
    printed = capsys.readouterr().out
    assert "Return, by number of updates" in printed and "| `td3-bc`, marline | " in printed


def test_false_verdicts(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["false_verdicts.py", "--quick"])
    script("false_verdicts").main()
    lines = capsys.readouterr().out.splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines if re.match(r"\| (normal|skewed)", line)]
    assert [row[:2] for row in rows] == [[law, str(n)] for law in ("normal", "skewed") for n in (3, 5, 10, 20)]
    for _, num_seeds, bootstrap, student, verdict, flips, _ in rows:
        assert float(bootstrap) >= float(student)
        assert float(verdict) == (float(student) if int(num_seeds) >= 10 else 0.0)
        assert int(num_seeds) > 5 or float(flips) == 0.0


def test_traffic_table(tmp_path: Path) -> None:
    days = {"fixed-time": ((30.0, -9.0), (34.0, -7.0)), "tuned 1 times": ((28.0, -5.0), (30.0, -8.0))}
    rows = [f"{name},{day},{its[1]},{its[0]}" for name, of_days in days.items() for day, its in enumerate(of_days)]
    path = tmp_path / "days.csv"
    path.write_text("\n".join(["control,day,return,delay", *rows]), "utf-8")
    module = script("traffic_table")
    # two days: the mean is off by 12.7 standard errors at most, of 2 and of 1
    head, _, fixed, tuned = module.table(path)
    assert head == "| control | lost by a vehicle | return | to fixed time |"
    assert fixed == "| fixed-time | 32.0 s [6.6, 57.4] | \N{MINUS SIGN}8 |  |"
    assert tuned.startswith("| tuned once | 29.0 s [16.3, 41.7] | \N{MINUS SIGN}6 | \N{MINUS SIGN}3")
    told = {what: module.sentence(path, f"{what} tuned 1 times / fixed-time") for what in module.SENTENCES}
    assert told["worse-days"] == "2 of 2 days" and told["most"] == "4 s" and told["better-returns"] == "1 of 2 days"
    assert told["lost"].startswith("\N{MINUS SIGN}3") and " s [" in told["lost"]
    path.write_text("\n".join(["control,day,return,delay", *rows[:-1]]), "utf-8")
    module.read.cache_clear()
    with pytest.raises(ValueError, match="not every control has the same days"):
        module.table(path)
