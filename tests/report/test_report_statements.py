"""The sentences follow from the numbers, in every case that a run can come out in."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from marline.report.appearance import looks
from marline.report.comparison import outcomes
from marline.report.coverage import notes, remarks
from marline.report.figures import returns_chart
from marline.report.records import read_run
from marline.report.statements import caution, headline, overview, statements
from marline.report.tables import standings_table

WriteRun = Callable[..., Path]
UNIFORM = {"type": "Uniform", "rows": "merged"}
OTC = {"type": "OTC", "distance": "value"}
SHUFFLED = {"type": "Shuffled", "of": OTC, "matches": "otc-value"}
MATCHED = {"type": "OnlineMatched", "matches": "otc-value"}
THREE = {"uniform": UNIFORM, "otc-value": OTC, "shuffled-otc-value": SHUFFLED}
TWELVE = range(12)


def said(path: Path) -> str:
    run = read_run(path)
    return headline(run, outcomes(run), looks([run]))


def gains(otc: float, control: float) -> dict[str, Any]:
    return {"samplers": THREE, "gains": {"uniform": 0.0, "otc-value": otc, "shuffled-otc-value": control}}


WAYS = {
    # gains of the sampler and of its control: what is said of the control, of the conclusion, of uniform replay
    (4, 1): ("ended # above its shuffled", ", so choosing these rows helped; ", "it ended # above uniform replay."),
    (4, 4): ("ended equal to its shuffled", ", so which rows are chosen makes no", "it ended # above uniform replay."),
    (4, 8): ("ended # below its shuffled", ", so choosing these rows did harm; ", "it ended # above uniform replay."),
    (0, -4): ("ended # above its shuffled", ", so choosing these rows helped; ", "it ended equal to uniform replay "),
    (0, 4): ("ended # below its shuffled", ", so choosing these rows did harm; ", "it ended equal to uniform replay "),
    (-4, -8): ("ended # above its shuffled", ", so choosing these rows helped; ", "it ended # below uniform replay."),
    (-4, -4): (
        "ended equal to its shuffled",
        ", so which rows are chosen makes no",
        "it ended # below uniform replay.",
    ),
}


@pytest.mark.parametrize(("otc", "control"), WAYS)
def test_gain_tie_and_loss(write_run: WriteRun, tmp_path: Path, otc: int, control: int) -> None:
    text = said(write_run(tmp_path / "run", **gains(otc, control), seeds=TWELVE))
    assert text.startswith("Over 12 seeds, OTC (value) ")
    for part in WAYS[otc, control]:
        assert part in re.sub(r"[0-9.]+ \[[0-9.]+, [0-9.]+\]", "#", text)
    assert re.search(r"The return went from −\S+ to −\S+\.$", text)


def test_what_is_neither_different_nor_equal_is_open(write_run: WriteRun, tmp_path: Path) -> None:
    text = said(write_run(tmp_path / "run", **gains(0, 0), seeds=TWELVE, noise=6.0))
    assert "cannot be told from its shuffled control, which draws other rows of the same sources as often (" in text
    assert "), so whether choosing these rows helps is open; it cannot be told from uniform replay (" in text


def test_few_seeds_are_a_direction_and_no_verdict(write_run: WriteRun, tmp_path: Path) -> None:
    for few in (2, 3, 5, 9):
        path = write_run(tmp_path / f"{few}", **gains(400, 100), seeds=range(few))
        text = said(path)
        assert f"Over {few} seeds, OTC (value) pointed " in text and text.count("(a direction, no verdict)") == 2
        assert not re.search("ended|helped|harm|so ", text)
        assert caution(outcomes(read_run(path))) == (
            f"With {few} seeds these are directions, not verdicts, which take at least 10 seeds."
        )
    scattered = write_run(tmp_path / "scattered", **gains(0, 0), seeds=range(3), noise=6.0)
    assert "showed no direction against its shuffled control" in said(scattered)
    assert caution(outcomes(read_run(write_run(tmp_path / "ten", **gains(4, 1), seeds=range(10))))) is None


def test_the_numbers_said_are_those_of_the_seeds(
    write_run: WriteRun, change_line: Callable[..., None], tmp_path: Path
) -> None:
    path = write_run(tmp_path / "run", **gains(0, 0), seeds=(0, 1), deployments=1)
    for seed, otc, control in ((0, -8.0, -9.0), (1, -6.0, -9.0)):
        change_line(path, seed, "uniform", 1, **{"return": -10.0})
        change_line(path, seed, "otc-value", 1, **{"return": otc})
        change_line(path, seed, "shuffled-otc-value", 1, **{"return": control})
    # differences 1 and 3, and 2 and 4: t of .975 and 1 is 12.7
    assert (
        "against its shuffled control, which draws other rows of the same sources as often (+2.0 [−10.7, +14.7])"
        in (said(path))
    )
    assert "against uniform replay (+3.0 [−9.7, +15.7])" in said(path)


def test_one_seed_is_no_result(write_run: WriteRun, tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", **gains(4, 1), seeds=(0,))
    assert said(path).startswith("In the only seed, OTC (value) ended ")
    assert "; one seed cannot tell this from chance. The return went" in said(path)
    assert "[" not in said(path) and "nan" not in said(path)
    assert caution(outcomes(read_run(path))) is None


def test_seeds_that_agree_to_the_last_digit(
    write_run: WriteRun, change_line: Callable[..., None], tmp_path: Path
) -> None:
    path = write_run(tmp_path / "run", **gains(0, 0), seeds=TWELVE, deployments=1)
    for seed in TWELVE:
        for name, value in (("uniform", -10.0), ("otc-value", -9.0), ("shuffled-otc-value", -9.0)):
            change_line(path, seed, name, 1, **{"return": value + seed})
    text = said(path)
    assert "ended equal to its shuffled control" in text and "(0.0 in every seed)" in text
    assert "ended 1.0 in every seed above uniform replay" in text


def test_without_a_shuffled_control_the_cause_is_open(write_run: WriteRun, tmp_path: Path) -> None:
    untold = "orrection cannot be told apart from freshness and diversity"
    path = write_run(tmp_path / "run", samplers={"uniform": UNIFORM, "otc-value": OTC}, seeds=TWELVE)
    assert f"above uniform replay. Without a shuffled control, c{untold}." in said(path)
    run = read_run(path)
    assert notes(run, looks([run])) == [
        f"There is no shuffled control for OTC (value), so c{untold}; "
        f"this adds it: marline resume {path} --sampler shuffled"
    ]
    samplers = {"uniform": UNIFORM, "otc-value": OTC, "online-matched-otc-value": MATCHED}
    effects = {"otc-value": 6.0}
    matched = said(write_run(tmp_path / "matched", samplers=samplers, seeds=TWELVE, gains=effects))
    assert "above its matched control, which replays equally many fresh rows. Without a shuffled control, c" in matched
    assert "helped" not in matched


def test_without_uniform_replay_it_is_said(write_run: WriteRun, tmp_path: Path) -> None:
    samplers = {"otc-value": OTC, "shuffled-otc-value": SHUFFLED}
    path = write_run(tmp_path / "run", samplers=samplers, seeds=TWELVE)
    assert "so choosing these rows helped. There is no uniform replay to compare it with. The return" in said(path)
    alone = write_run(tmp_path / "alone", samplers={"otc-value": OTC})
    assert said(alone).endswith("there is neither uniform replay nor a control to compare it with.")


def test_without_a_sampler_that_prefers_rows_the_change_is_said(write_run: WriteRun, tmp_path: Path) -> None:
    text = said(write_run(tmp_path / "run", samplers={"uniform": UNIFORM}))
    assert text.startswith("Uniform replay went from −") and text.endswith("over 5 seeds; it prefers no rows.")
    samplers = {"uniform": UNIFORM, "half-and-half": {"type": "FreshShare"}}
    text = said(write_run(tmp_path / "two", samplers=samplers, gains={"half-and-half": 8.0}))
    assert re.search(
        r"over 5 seeds; half-and-half pointed \S+ \[\S+ \S+\] above uniform replay .*; none of them pr", text
    )


def test_a_sampler_of_any_type_is_held_against_uniform_replay(write_run: WriteRun, tmp_path: Path) -> None:
    samplers = {"uniform": UNIFORM, "dynamics-ratio": {"type": "DynamicsRatio"}, "kernel-ratio": {"type": "TwoSided"}}
    path = write_run(tmp_path / "run", samplers=samplers, seeds=TWELVE, gains={"dynamics-ratio": 8.0})
    text = said(path)
    assert "Dynamics-ratio ended above uniform replay; kernel-ratio ended equal to it." in text
    one = {name: samplers[name] for name in ("uniform", "dynamics-ratio")}
    text = said(write_run(tmp_path / "one", samplers=one, seeds=TWELVE, gains={"dynamics-ratio": 8.0}))
    assert re.match(
        r"Over 12 seeds, dynamics-ratio ended \S+ \[\S+ \S+\] above uniform replay\. Without a shuffled", text
    )


def test_a_campaign_is_told_with_its_interval_and_in_the_numbers_of_its_commands(
    write_run: WriteRun, change_line: Callable[..., None], tmp_path: Path
) -> None:
    """Welch: means 2 and 4 of three episodes each with variance 1, so 2 +- 2.776 sqrt(2 / 3) with 4 degrees."""
    path = write_run(tmp_path / "run", samplers={"kernel-ratio": {"type": "TwoSided"}}, seeds=(0,), deployments=3)
    settings = json.loads((path / "run.json").read_text("utf-8"))
    (path / "run.json").write_text(json.dumps(settings | {"task": None}), "utf-8")
    for deployment, values in ((0, [1.0, 2.0, 3.0]), (1, [3.0, 4.0, 5.0])):
        change_line(path, 0, "kernel-ratio", deployment, **{"return": values[1], "returns": values})
    file = path / "seed-0" / "kernel-ratio" / "metrics.jsonl"
    file.write_text("".join(line + "\n" for line in file.read_text("utf-8").splitlines()[:2]), "utf-8")
    text = "The team returned 2.0 in deployment 1 and, tuned with kernel-ratio, 4.0 in deployment 2: +2.0"
    assert said(path) == f"{text} [−0.3, +4.3], so episodes do not tell the two apart."
    run = read_run(path)
    assert "| kernel-ratio | 1 | 2.0 | 4.0 (in 2) | +100.0 [−13.3, +213.3] |" in standings_table(run)
    chart = returns_chart(run, looks([run]))
    assert chart is not None and chart.title == "Return in each deployment"
    assert {x for mark in chart.marks for x in mark.x} == {1, 2}
    told = notes(run, looks([run]))
    assert told[0] == "Unfinished: 1 of 3 deployments done." and "nobody can say what kernel-ratio added" in told[1]
    change_line(path, 0, "kernel-ratio", 1, returns=[4.0])
    assert said(path) == f"{text}, of too few episodes for an interval."
    change_line(path, 0, "kernel-ratio", 1, returns=[3.99, 4.0, 4.01, 4.0])
    change_line(path, 0, "kernel-ratio", 0, returns=[2.0, 2.01, 1.99])
    assert said(path) == f"{text} [+2.0, +2.0], a direction, for a verdict takes 10 episodes of each."


def test_nothing_deployed_or_measured_yet(write_run: WriteRun, tmp_path: Path) -> None:
    offline = write_run(tmp_path / "offline", reached=lambda sampler, seed: 0)
    assert said(offline).startswith("Nothing has been deployed yet: the offline team returns −")
    empty = write_run(tmp_path / "empty", reached=lambda sampler, seed: -1)
    assert said(empty) == "Nothing has been measured yet."


def test_an_unfinished_run_is_compared_where_all_have_been_and_gives_a_direction(
    write_run: WriteRun, tmp_path: Path
) -> None:
    last = {"uniform": 10, "otc-value": 8, "shuffled-otc-value": 6}
    options: dict[str, Any] = {**gains(8, 2), "reached": lambda sampler, seed: last[sampler] if seed < 14 else -1}
    path = write_run(tmp_path / "run", **options, seeds=range(15))
    run = read_run(path)
    assert said(path).startswith("Over 14 seeds of 15, after 6 of 10 deployments, OTC (value) pointed ")
    assert "(a direction, no verdict)" in said(path)
    assert notes(run, looks([run]))[0] == (
        "Unfinished: of 10 deployments, uniform replay stands at 0 to 10 (14 of 15 seeds finished); OTC (value) stands "
        "at 0 to 8; shuffled control of OTC (value) stands at 0 to 6. Every mean is over the seeds that got there."
    )


@pytest.mark.parametrize("value", [math.nan, math.inf, None])
def test_a_return_that_is_not_finite_is_left_out_aloud_and_leaves_no_verdict(
    write_run: WriteRun, change_line: Callable[..., None], tmp_path: Path, value: float | None
) -> None:
    path = write_run(tmp_path / "run", **gains(4, 1), seeds=TWELVE)
    change_line(path, 2, "otc-value", 10, **{"return": value})
    run = read_run(path)
    assert said(path).startswith("Over 11 seeds of 12, OTC (value) pointed ")
    assert said(path).count("(a direction, no verdict) (1 seed left out: not finite)") == 2
    assert notes(run, looks([run]))[0].startswith(
        "OTC (value): the return stops being finite in seed 2 at deployment 10;"
    )


def test_a_control_that_is_not_finite_costs_its_own_comparison_alone(
    write_run: WriteRun, change_line: Callable[..., None], tmp_path: Path
) -> None:
    path = write_run(tmp_path / "run", **gains(8, 1), seeds=TWELVE)
    change_line(path, 2, "shuffled-otc-value", 10, **{"return": math.nan})
    assert said(path).startswith("Over 11 seeds of 12, OTC (value) pointed ")
    assert re.search(r"left out: not finite\); it ended \S+ \[\S+ \S+ above uniform replay over 12 seeds\.", said(path))
    for seed in TWELVE:
        change_line(path, seed, "shuffled-otc-value", 10, **{"return": math.nan})
    text = said(path)
    assert text.startswith("Over 12 seeds, OTC (value) ended ")
    assert "Its shuffled control has no finite return, so correction cannot be told apart" in text


def test_several_samplers_are_told_apart(write_run: WriteRun, tmp_path: Path) -> None:
    samplers = THREE | {"balanced": {"type": "BalancedReplay"}}
    samplers |= {"shuffled-balanced": {"type": "Shuffled", "matches": "balanced"}}
    effects = {"otc-value": 4.0, "shuffled-otc-value": 1.0, "balanced": -4.0, "uniform": 0.0}
    path = write_run(tmp_path / "run", samplers=samplers, gains=effects, seeds=TWELVE)
    run = read_run(path)
    assert said(path) == (
        "OTC (value) ended above its shuffled control, which draws other rows of the same sources as often; balanced "
        "ended below its own. OTC (value) ended above uniform replay; balanced ended below it. Balanced ended below "
        "the offline team."
    )
    assert [one.sampler for one in statements(run, outcomes(run), looks([run]))] == ["otc-value", "balanced"]


def test_p_is_adjusted_for_the_number_of_methods(
    write_run: WriteRun, change_line: Callable[..., None], tmp_path: Path
) -> None:
    samplers = {"uniform": UNIFORM} | {f"otc-{number}": OTC for number in range(5)}
    path = write_run(tmp_path / "run", samplers=samplers, seeds=TWELVE, deployments=1, noise=0.0, gains={}, start=-1.0)
    for seed in TWELVE:
        change_line(path, seed, "uniform", 1, **{"return": 0.0})
        for number in range(5):
            # p of about .02 for one, and of 1 for the others
            value = (0.8 if number == 0 else 0.0) + (1.0 if seed % 2 else -1.0)
            change_line(path, seed, f"otc-{number}", 1, **{"return": value})
    found = {one.sampler: one.to_baseline for one in outcomes(read_run(path))}
    best = found["otc-0"]
    assert best is not None and best.difference.verdict == 1
    assert best.p == pytest.approx(5 * best.difference.p) and 0.01 < best.difference.p < 0.05
    assert best.finding == "not told apart"


def test_runs_are_counted(write_run: WriteRun, tmp_path: Path) -> None:
    runs = [read_run(write_run(tmp_path / f"{otc}", **gains(otc, 1), seeds=TWELVE)) for otc in (4, -4)]
    runs.append(read_run(write_run(tmp_path / "few", **gains(4, 1))))
    told = overview([(run, outcomes(run)) for run in runs], looks(runs))
    beside = "(below in 1; a direction, no verdict, in 1)"
    assert told[0] == (
        f"OTC (value) ended above its shuffled control in 1 of 3 runs {beside}, ended above uniform replay in 1 of 3 "
        f"runs {beside}."
    )
    assert told[1] == "It beat uniform replay in 17 of the 29 seeds of these runs."
    again = [read_run(write_run(tmp_path / f"again{place}", **gains(0, 0), seeds=TWELVE)) for place in range(2)]
    chance = overview([(run, outcomes(run)) for run in again], looks(again))[1]
    assert re.search(
        r"of the 24 seeds of these runs \(probability of improvement 0\.\d\d \[0\.\d\d, \d\.\d\d\]\)\.$", chance
    )


def test_what_collecting_in_turns_cost_is_said(write_run: WriteRun, tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", samplers=THREE, seeds=(0,), deployments=3)
    settings = json.loads((path / "run.json").read_text("utf-8"))
    (path / "run.json").write_text(json.dumps({**settings, "sequential_exploration": 0.1}), "utf-8")
    run = read_run(path)
    assert notes(run, looks([run])) == [
        "Agents collected one after another, each acting at random with probability 0.1 in its own turn: a deployment "
        "cost 2 turns of 10,000 rows, 2 times what collecting at once costs; 3 deployments of a team cost 60,000."
    ]


def test_degenerate_draws_are_remarked(write_run: WriteRun, change_line: Callable[..., None], tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", samplers=THREE, seeds=(0,), deployments=2)
    agents = {"a": {"alpha": 4.0, "alpha_raw": 5.0, "effective_sample_size": 2.1, "active_units": 1, "floors": 1.0}}
    for deployment in (1, 2):
        change_line(path, 0, "otc-value", deployment, agents=agents)
    run = read_run(path)
    assert remarks(run, looks([run])) == [
        "OTC (value): an encoder uses only 1 of its dimensions, so its distances say little.",
        "OTC (value): its exponent left as few as 2.1 effective rows to draw from.",
        "OTC (value): the exponent was clipped in 2 of 2 adaptations.",
        "OTC (value): V was close to 0 and its scale floored in 100 % of the tunings.",
    ]
