"""Scripts of experiments run, in small, and end with what they promise."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import math
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marline.configuration.selection import select_samplers
from marline.data import dataset
from marline.data.checkpoints import read_manifest
from marline.envs import Finite, make_task
from marline.envs.finite import team_return
from marline.errors import ConfigError
from marline.statistics.intervals import paired_difference

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
    elsewhere = {
        "verdicts": "test_experiments_verdicts.py",
        "shelf": "test_experiments_shelf.py",
        "kill_campaign": "behaviour/test_campaign_faults.py",
        "smax_team": "test_experiments.py",
    }
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


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("cooperative_navigation", "small-moving"),
        ("correction", "matrix"),
        ("paper", "table-2"),
        ("refresh", "predator-prey"),
        ("theory", None),
    ],
)
def test_published(
    name: str, what: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A tiny version leaves published results alone."""
    monkeypatch.syspath_prepend(EXPERIMENTS)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        script(name).main([*([what] if what else []), "--quick"])
    assert stop.value.code == 2 and "--quick is a tiny version, whose numbers are no results" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_correction_keeps_what_was_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run on another machine adds samplers and seeds; numbers that are there change if one says so."""
    monkeypatch.syspath_prepend(EXPERIMENTS)
    module = script("correction")
    told = {"seeds": [0], "settings": {"updates": 4}, "starts": [{"date": "then"}]}
    head = dict.fromkeys(module.COLUMNS, "") | {"task": "matrix", "algorithm": "CQL", "random": "0", "best": "1"}

    def lines(value: float, *names: tuple[str, int]) -> list[dict[str, str]]:
        return [
            head | {"sampler": name, "seed": str(seed), "deployment": str(number), "return": str(value)}
            for name, seed in names
            for number in range(2)
        ]

    monkeypatch.setattr(module, "read_run", lambda path: path)
    monkeypatch.setattr(module, "provenance", lambda run: {**told, "starts": [{"date": "now"}]})
    (tmp_path / "runs" / "correction-matrix").mkdir(parents=True)

    def written(new: list[dict[str, str]], **options: bool) -> dict[tuple[str, int], float]:
        monkeypatch.setattr(module, "lines", lambda name, run: [dict(row) for row in new])
        module.write_tables(tmp_path / "runs", tmp_path / "results", **options)
        (task,) = module.read(tmp_path / "results" / "correction.csv")
        return {(name, seed): curve[1] for name, curves in task.points.items() for seed, curve in curves.items()}

    assert written(lines(0.5, ("uniform", 0))) == {("uniform", 0): 50}
    more = lines(0.25, ("uniform", 0), ("uniform", 1), ("return-weighted", 0))
    assert written(more) == {("uniform", 0): 50, ("uniform", 1): 25, ("return-weighted", 0): 25}
    sources = json.loads((tmp_path / "results" / "correction.json").read_text("utf-8"))["matrix"]
    assert sources["seeds"] == [0, 1] and sources["starts"] == [{"date": "now"}]
    assert written(lines(1.0, ("uniform", 1)), replace=True)["uniform", 1] == 100
    assert written(lines(1.0, ("uniform", 0)))["uniform", 0] == 50


@pytest.mark.slow
def test_correction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """In small: what is there is not done again, a run gains what it lacks, and everything ends up in the tables."""
    monkeypatch.syspath_prepend(EXPERIMENTS)
    module = script("correction")
    for name, value in {
        "METHODS": {"two-sided-pooled": "two-sided(pooled=true)"},
        "SHARES": (0.25,),
        "REFERENCES": (),
    }.items():
        monkeypatch.setattr(module, name, value)
    places = ["--quick", "--runs", str(tmp_path / "runs"), "--results", str(tmp_path / "results")]
    module.main(["matrix", "--leave-out", "two-sided-pooled", *places])
    before = (tmp_path / "results" / "correction.csv").read_text("utf-8")
    module.main(["matrix", *places])
    after = (tmp_path / "results" / "correction.csv").read_text("utf-8")
    assert set(before.splitlines()) < set(after.splitlines()) and "shuffled-two-sided-pooled" not in before
    sources = (tmp_path / "results" / "correction.json").read_text("utf-8")

    module.write_tables(tmp_path / "runs", tmp_path / "results")
    assert (tmp_path / "results" / "correction.csv").read_text("utf-8") == after
    assert (tmp_path / "results" / "correction.json").read_text("utf-8") == sources
    (tmp_path / "runs").rename(tmp_path / "elsewhere")
    module.main(["matrix", "--leave-out", "two-sided-pooled", *places, "--seeds", "1"])
    assert (tmp_path / "results" / "correction.csv").read_text("utf-8") == after
    assert json.loads((tmp_path / "results" / "correction.json").read_text("utf-8"))["matrix"]["seeds"] == [0, 1]
    assert (tmp_path / "results" / "correction.svg").read_text("utf-8").count("<circle") > 2
    printed = capsys.readouterr().out
    assert "| matrix | CQL | 2 | " in printed and "| `two-sided-pooled` | 1 | " in printed


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
    gains = {"uniform": 0.0, "two-sided": 1.0, "shuffled-two-sided": -1.0, "fresh-0.5": 0.5, "adaptive-share": 0.25}
    for sampler, gain in gains.items():
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
    few = dataclasses.replace(world, points={name: {0: its[0], 1: its[1]} for name, its in world.points.items()})
    assert [word for _, _, word in module.findings(few).values()] == ["a direction, up"] * 3
    text = "\n".join(module.tables([world, few]))
    assert "| `two-sided` | 60.5 | 100 % | +20.0 in every seed, **better**" in text
    assert "better on 1, worse on 0 of 2" in text
    assert "| world | 0.5 | −2.5 in every seed, **worse** | +2.5 in every seed |" in text
    assert module.draw([world], ["two-sided"]).count("<circle") == 4
    begun = dataclasses.replace(
        world, points={name: its for name, its in world.points.items() if name != "shuffled-two-sided"}
    )
    assert module.draw([world, begun], ["two-sided"]).count("<circle") == 4


def test_correction_of_the_product(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module, (world,) = table_of(tmp_path, monkeypatch)
    names = {"uniform": "uniform", "kernel-ratio-and-return": "two-sided", "return-weighted": "fresh-0.5"}
    world = dataclasses.replace(world, points={name: world.points[its] for name, its in names.items()})
    other = dataclasses.replace(world, points={"uniform": world.points["uniform"]})
    (row,) = module.product_table([world, other])[2:]
    # of the ratio alone there are no seeds
    assert row == "| world | 10 | 60.5 | +5.0 in every seed, **better** |  | +10.0 in every seed, **better** |"


def test_correction_of_what_has_a_control_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module, (world,) = table_of(tmp_path, monkeypatch)
    names = {"uniform": "uniform", "retarget": "two-sided", "retarget-logs": "shuffled-two-sided"}
    world = dataclasses.replace(world, points={name: world.points[its] for name, its in names.items()})
    assert world.methods == ["retarget"]
    (row,) = module.methods_table(world)[2:]
    assert (
        row.startswith("| `retarget` (control: `retarget-logs`) | 60.5 |")
        and "| +20.0 in every seed, **better**" in row
    )
    samplers = script("correction").samplers
    assert {"retarget=retarget", "retarget-logs"} < set(samplers(make_task("drifting-navigation")))
    assert not any("retarget" in one for one in samplers(make_task("matrix")))


@pytest.mark.slow
def test_paper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """From nothing to a page; what is there is not done again, and what was written on a page stays."""
    monkeypatch.syspath_prepend(EXPERIMENTS)
    module = script("paper")
    one = dataclasses.replace(module.ITEMS["fig-6c"], samplers=("uniform", "offline-only"))
    monkeypatch.setitem(module.ITEMS, "fig-6c", one)
    places = ["--quick", "--seeds", "1", "--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "results")]
    assert module.main(["fig-6c", *places]) == 0
    results = tmp_path / "results"
    assert sorted(path.name for path in results.iterdir()) == [
        f"paper-fig-6c.{end}" for end in ("csv", "json", "md", "svg")
    ]
    before = (results / "paper-fig-6c.csv").read_text("utf-8")
    assert before.startswith("cell,task,algorithm,sampler,seed,deployment,return\nbcq-drifting-navigation,")
    told = json.loads((results / "paper-fig-6c.json").read_text("utf-8"))["bcq-drifting-navigation"]
    assert told["logs"] == "drifting-navigation-random-like" and told["starts"][0]["device"]
    assert str(tmp_path) not in json.dumps(told)
    page = results / "paper-fig-6c.md"
    page.write_text(page.read_text("utf-8") + "Said by hand.\n", "utf-8")
    assert module.main(["fig-6c", "--only-tables", *places]) == 0
    assert (results / "paper-fig-6c.csv").read_text("utf-8") == before
    assert "Said by hand." in page.read_text("utf-8") and "| not run |" in page.read_text("utf-8")
    assert "| bcq-drifting-navigation | `otc-embedding-paper` | `uniform` | above |" in capsys.readouterr().out
    assert module.main(["--prices", "--out", str(results)]) == 0
    assert "`python experiments/paper.py table-1 --only bcq-halfcheetah-random`" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["table-1", "table-2", "fig-3", "fig-4", "fig-5", "fig-6a", "fig-6b", "fig-6c", "fig-6d", "fig-7", "fig-8"],
)
def test_every_item_of_the_paper(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(EXPERIMENTS)
    module = script("paper")
    assert name in module.ITEMS and len(module.ITEMS) == 11
    if name == "fig-6d":
        pytest.importorskip("jaxmarl")
    item = module.ITEMS[name]
    only = [item.cells[0].name, item.cells[-1].name]
    places = ["--quick", "--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "results")]
    assert module.main([name, "--only", *only, *places]) == 0
    page = (tmp_path / "results" / f"{item.stem}.md").read_text("utf-8")
    told = [line for line in page.splitlines() if line.startswith(f"| {item.cells[0].name} | `otc")]
    assert told and not any("not run" in line for line in told)
    figure = (tmp_path / "results" / f"{item.stem}.svg").read_text("utf-8")
    assert ("<polygon" in figure) == (name != "table-2")  # bands over seeds


def test_paper_items(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the paper says is of cells and samplers that an item has; every cell is claimed of, and has a price."""
    monkeypatch.syspath_prepend(EXPERIMENTS)
    items, table = script("paper_items").ITEMS, script("paper_table")
    for claim in table.claims():
        item = items[claim.item]
        names = select_samplers(item.samplers).samplers
        assert claim.cell in {cell.name for cell in item.cells}
        assert {claim.method + "-paper", claim.against} <= names.keys() and claim.where
        assert not claim.has_numbers or claim.item == "table-2" or (claim.difference > 0) == (claim.sign > 0)
    for item in items.values():
        claimed = {claim.cell for claim in table.claims() if claim.item == item.name}
        assert claimed == {cell.name for cell in item.cells}
    hours = script("paper_items").core_hours
    assert all(hours(item, cell, 5) > 0 for item in items.values() for cell in item.cells)
    bcq = items["table-1"].cells[0]
    # 2 agents, 100,000 and 10 x 4000 updates of 3 samplers; 6 x 10 x 20,000 steps
    updates = 2 * (100_000 + 40_000 * (4 + 1.5 + 12.7 + 0.0)) * 2.9 / 1000
    plain = dataclasses.replace(
        items["table-1"], samplers=("uniform", "otc-embedding-paper", "otc-value-paper", *"abc")
    )
    assert hours(plain, bcq, 1) == pytest.approx((updates + 6 * 10 * 20_000 / 10_000) / 3600)


def test_paper_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Verdicts by the rules, of numbers by hand: Table 1's BCQ on HalfCheetah, random logs, 25.7 and 9.0 percent."""
    monkeypatch.syspath_prepend(EXPERIMENTS)
    table = script("paper_table")
    item = table.ITEMS["table-1"]
    claim = table.claims()[0]
    assert (claim.cell, claim.method, claim.difference) == (
        "bcq-halfcheetah-random",
        "otc-embedding",
        pytest.approx(16.7),
    )

    def said(differences: list[float], of: Any = claim, margin: float = 2.0) -> str:
        found = paired_difference(differences, [0.0] * len(differences))
        return table.verdict(of, found, found.p, margin)

    noise = np.linspace(-1, 1, 10)
    assert said([*(16.0 + noise)]) == "agrees in size"
    assert said([*(5.0 + noise)]) == "agrees in sign"
    assert said([*(5.0 + noise)][:4]) == "agrees in sign (a direction)"
    assert said([*(-5.0 + noise)]) == "differs" and said([*(-5.0 + noise)][:4]) == "differs (a direction)"
    assert said([*(0.1 * noise)]) == "differs", "equal, where the paper has a gain"
    assert said([*(20 * noise)]) == "not told apart" == said([0.1, -0.1, 0.1, -0.1])
    assert table.verdict(claim, None, math.nan, 2.0) == "not run"
    low, high = table.welch(
        [16.0, 17.0, 18.0], claim
    )  # sqrt(1 / 3 + (1.2^2 + 2.4^2) / 5) by t of 5.48 degrees of freedom, 2.504
    assert (low, high) == pytest.approx((0.3 - 3.335, 0.3 + 3.335), abs=0.01)

    lines = ["cell,task,algorithm,sampler,seed,deployment,return"]
    gains = {"uniform": 0.05, "otc-embedding-paper": 0.22, "shuffled-otc-embedding-paper": 0.2, "otc-embedding": 0.04}
    for sampler, gain in gains.items():
        for seed in range(3):
            first = 1000.0 + seed if seed else 50.0  # the first seed's is below a hundredth of the range: no percent
            for deployment, value in ((0, first), (1, first * (1 + gain) + seed)):
                lines.append(f"{claim.cell},halfcheetah-2x3,BCQ,{sampler},{seed},{deployment},{value}")
    (tmp_path / "paper-table-1.csv").write_text("\n".join(lines) + "\n", "utf-8")
    told = "\n".join(table.item_table(tmp_path, item))
    row = "25.7 ± 1.2 / 9.0 ± 2.4: +16.7 | 22.1 ± 0.0 / 5.1 ± 0.0 | 20.1 ± 0.0 | 2 | +17.0 in every seed"
    assert f"| {claim.cell} | `otc-embedding-paper` | `uniform` | {row} |" in told
    assert f"| {claim.cell} | `otc-embedding` | `uniform` |" in told and told.count("not run") == 33
    assert "table-1" in "\n".join(table.summary_table(tmp_path)) and "fig-7" in "\n".join(table.price_table(tmp_path))


def test_paper_figures_are_as_wide_as_a_phone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Table 2's, from the published numbers: one panel fills it, its axis begins at 0, and no label is cut."""
    monkeypatch.syspath_prepend(EXPERIMENTS)
    table = script("paper_table")
    figure = table.draw(EXPERIMENTS.parent / "results", table.ITEMS["table-2"])
    assert 'viewBox="0 0 430 ' in figure and "…" not in figure and ">0</text>" in figure
    assert ">d_q</text>" in figure and "H378" in figure  # the grid, from 20 on, ends 12 before the margin


def test_violins_hold_their_values_and_are_as_wide_as_they_are_dense(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(EXPERIMENTS)
    table = script("paper_table")
    assert table.violin([1.0, 1.0, 1.0], 2.0) is None and table.violin([1.0], 2.0) is None
    x, y = table.violin([1.0, 1.1, 0.9, 3.0], 2.0)
    assert min(y) < 0.9 and max(y) > 3.0 and min(x) == pytest.approx(1.6) and max(x) == pytest.approx(2.4)
    rows = [
        {"cell": "c", "agent": agent, "seed": str(seed), "deployment": str(k), "value": str(1 + 0.1 * seed * k)}
        for agent in ("a", "b")
        for seed in range(3)
        for k in range(1, 4)
    ]
    marks = table.violins(rows, "alpha").marks
    assert [mark.shape for mark in marks] == 2 * (3 * ["band"] + ["line"]) and marks[3].y == pytest.approx(
        [1.1, 1.2, 1.3]
    )


def test_theory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Acceptance by rank as in a world of two outcomes, .5 and .5 in the logs, .9 and .1 today: .9 becomes .8188."""
    module = script("theory")
    near, far = (float(one) for one in module.accepted(jnp.float32(0.5)))
    assert (0.9 * near + 0.1 * far) / (near + far) == pytest.approx(0.818765, abs=1e-4)
    module.main(["--quick", "--out", str(tmp_path)])
    printed = capsys.readouterr().out
    assert "Theorem 1: it held in 40 of 40" in printed and "| 1.0 | oracle | 0.000 | 0.000 | 0.000 | 100 % |" in printed
    assert (tmp_path / "theory.svg").read_text("utf-8").count("bound of Theorem 1") >= 1


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


@pytest.mark.slow
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


@pytest.mark.slow
def test_parity(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    module = script("parity")
    for name, value in {"NUM_ROWS": 600, "LOOKS": 2, "EPISODES": 2, "SCORED": 100}.items():
        monkeypatch.setattr(module, name, value)
    small = ["parity.py", "--seeds", "1", "--updates", "4", "--csv", str(tmp_path / "curves.csv")]
    monkeypatch.setattr("sys.argv", [*small, "iql"])
    module.main()
    header, *rows = (tmp_path / "curves.csv").read_text("utf-8").splitlines()
    assert header == "side,algorithm,seed,updates,return,mean_q1"
    assert [row.rsplit(",", 2)[0] for row in rows] == ["marline,iql,0,2", "marline,iql,0,4"]
    monkeypatch.setattr("sys.argv", [*small, "iql", "--table-3"])
    with pytest.raises(ConfigError, match="'iql'.*bcq"):
        module.main()
    monkeypatch.setattr("sys.argv", [*small, "bcq", "--logs", "medium"])
    with pytest.raises(ConfigError, match="take --task hopper"):
        module.main()


@pytest.mark.slow
def test_parity_on_a_robot(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """BCQ and AWAC by Table 3, on logs of the medium policy, which are kept for the other side."""
    pytest.importorskip("mujoco")
    module = script("parity")
    for name, value in {"NUM_ROWS": 600, "LOOKS": 2, "EPISODES": 1, "SCORED": 100}.items():
        monkeypatch.setattr(module, name, value)
    curves, logs = tmp_path / "curves.csv", tmp_path / "logs"
    command = "parity.py bcq awac --task hopper --logs medium --table-3 --seeds 1 --updates 4"
    monkeypatch.setattr("sys.argv", [*command.split(), "--csv", str(curves), "--keep-logs", str(logs)])
    module.main()
    rows = curves.read_text("utf-8").splitlines()[1:]
    assert [row.rsplit(",", 2)[0] for row in rows] == [
        f"marline,{name},0,{n}" for name in ("bcq", "awac") for n in (2, 4)
    ]
    (log,) = dataset.load(logs).values()
    assert len(log.rewards) == 600


def test_equality_is_asked_within_a_margin_of_their_mean() -> None:
    """+-1 around 100 on either side: the 90 % interval of the difference is +-1.9, within 5 % and not within 1 %."""
    table = script("parity_table")
    sample = [99.0, 100.0, 101.0]
    assert table.equal(sample, sample, 0.05) == "within 5, a direction"
    assert table.equal(sample, sample, 0.01) == "not shown within 1"


def test_parity_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["parity_table.py", str(EXPERIMENTS.parent / "results" / "parity.csv")])
    script("parity_table").main()
    printed = capsys.readouterr().out
    assert "Return, by number of updates" in printed and "| `td3-bc`, marline | " in printed


def test_advantages_of_the_team_of_smax() -> None:
    """gamma .5 and lambda .5 by hand: an end between the second and the third step, and V = 4 behind the last."""
    module = script("smax_team")
    blank = np.zeros((3, 1))
    steps = module.Step(
        observation=blank,
        mask=blank,
        action=blank,
        log_probability=blank,
        value=jnp.array([[2.0], [1.0], [3.0]]),
        reward=jnp.array([[1.0], [2.0], [0.0]]),
        goes_on=jnp.array([[1.0], [0.0], [1.0]]),
    )
    # errors: 1 + .5 * 1 - 2, 2 - 1, .5 * 4 - 3; the first hears of the second by .25
    advantages = module.advantages(steps, jnp.array([4.0]), 0.5, 0.5)
    np.testing.assert_allclose(advantages[:, 0], [-0.25, 1.0, -1.0])


@pytest.mark.slow
def test_a_team_of_smax_is_taught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("jaxmarl")
    with jax.numpy_rank_promotion("allow"):  # JaxMARL broadcasts where we would not
        small = ["--quick", "--evaluate-every", "1", "--max-steps", "1"]
        assert script("smax_team").main([*small, "--out", str(tmp_path / "policy")]) == 0
    assert read_manifest(tmp_path / "policy")["evaluation"]["num_steps"] == 4


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
