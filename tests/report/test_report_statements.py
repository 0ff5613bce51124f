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
from marline.report.records import read_run
from marline.report.statements import caution, headline, overview, statements

WriteRun = Callable[..., Path]
UNIFORM = {"type": "Uniform", "rows": "merged"}
OTC = {"type": "OTC", "distance": "value"}
CONTROL = {"type": "OnlineMatched", "matches": "otc-value"}
THREE = {"uniform": UNIFORM, "otc-value": OTC, "online-matched-otc-value": CONTROL}


def said(path: Path) -> str:
    run = read_run(path)
    return headline(run, outcomes(run), looks([run]))


def gains(otc: float, control: float) -> dict[str, Any]:
    return {"samplers": THREE, "gains": {"uniform": 0.0, "otc-value": otc, "online-matched-otc-value": control}}


@pytest.mark.parametrize(
    ("otc", "control", "starts", "holds", "ends"),
    [
        (4, 1, "OTC (value) ended ", ", and ", "so choosing rows by their transitions helped beyond fresh data."),
        (4, 4, "OTC (value) ended ", ", but cannot be told from its control", "so most of the gain is fresh data."),
        (4, 8, "OTC (value) ended ", "below its control", "and the correction cost some of it."),
        (0, -4, "OTC (value) cannot be told from uniform replay (", "but ended ", "but not uniform replay."),
        (
            0,
            0,
            "OTC (value) cannot be told from uniform replay (",
            "nor from its control",
            "nothing here sets it apart.",
        ),
        (0, 4, "OTC (value) cannot be told from uniform replay (", "but ended ", "the correction itself did harm."),
        (-4, -8, "OTC (value) ended ", "below uniform replay over 5 seeds, but ", "made up for part of it."),
        (-4, -4, "OTC (value) ended ", "cannot be told from its control", "the loss comes with the fresh data."),
        (-4, -1, "OTC (value) ended ", "below uniform replay over 5 seeds, and ", "the correction itself did harm."),
    ],
)
def test_gain_tie_and_loss(
    write_run: WriteRun, tmp_path: Path, otc: float, control: float, starts: str, holds: str, ends: str
) -> None:
    text = said(write_run(tmp_path / "run", **gains(otc, control)))
    assert text.startswith(starts)
    assert holds in text
    assert re.search(f"{re.escape(ends)} The return went from −.* to −.*\\.$", text)
    assert "its control, which replays equally many fresh rows" in text


def test_the_numbers_said_are_those_of_the_seeds(
    write_run: WriteRun, change_line: Callable[..., None], tmp_path: Path
) -> None:
    path = write_run(tmp_path / "run", **gains(0, 0), seeds=(0, 1), deployments=1)
    for seed, otc, control in ((0, -8.0, -9.0), (1, -6.0, -9.0)):
        change_line(path, seed, "uniform", 1, **{"return": -10.0})
        change_line(path, seed, "otc-value", 1, **{"return": otc})
        change_line(path, seed, "online-matched-otc-value", 1, **{"return": control})
    assert said(path).startswith(
        "OTC (value) ended 3.0 [2.0, 4.0] above uniform replay over 2 seeds, and 2.0 [1.0, 3.0]"
    )


def test_one_seed_is_no_result(write_run: WriteRun, tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", **gains(4, 1), seeds=(0,))
    assert said(path).startswith("In the only seed, OTC (value) ended ")
    assert "; one seed cannot tell this from chance. The return went" in said(path)
    assert "[" not in said(path)


def test_few_seeds_are_a_direction(write_run: WriteRun, tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", **gains(4, 1), seeds=(0, 1, 2))
    assert "so, as far as 3 seeds can tell, choosing rows" in said(path)
    assert "With 3 seeds this is a direction" in (caution(outcomes(read_run(path))) or "")
    assert caution(outcomes(read_run(write_run(tmp_path / "five", **gains(4, 1))))) is None


def test_without_a_control_the_cause_is_open(write_run: WriteRun, tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", samplers={"uniform": UNIFORM, "otc-value": OTC})
    assert "; no control has been deployed, so how much of it is fresh data is open." in said(path)
    run = read_run(path)
    assert "There is no control for OTC (value)." in notes(run, looks([run]))


def test_without_uniform_replay_it_is_said(write_run: WriteRun, tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", samplers={"otc-value": OTC, "online-matched-otc-value": CONTROL})
    assert "above its control over 5 seeds, which replays equally many fresh rows; there is no uniform" in said(path)
    alone = write_run(tmp_path / "alone", samplers={"otc-value": OTC})
    assert said(alone).endswith("there is neither uniform replay nor a control to compare it with.")


def test_without_otc_the_change_is_said(write_run: WriteRun, tmp_path: Path) -> None:
    text = said(write_run(tmp_path / "run", samplers={"uniform": UNIFORM}))
    assert text.startswith("Uniform replay went from −") and text.endswith("no OTC sampler was run.")


def test_nothing_deployed_or_measured_yet(write_run: WriteRun, tmp_path: Path) -> None:
    offline = write_run(tmp_path / "offline", reached=lambda sampler, seed: 0)
    assert said(offline).startswith("Nothing has been deployed yet: the offline team returns −")
    empty = write_run(tmp_path / "empty", reached=lambda sampler, seed: -1)
    assert said(empty) == "Nothing has been measured yet."


def test_an_unfinished_run_is_compared_where_all_have_been(write_run: WriteRun, tmp_path: Path) -> None:
    last = {"uniform": 10, "otc-value": 8, "online-matched-otc-value": 6}
    path = write_run(tmp_path / "run", **gains(8, 2), reached=lambda sampler, seed: last[sampler] if seed < 4 else -1)
    run = read_run(path)
    assert "over 4 seeds of 5, after 6 of 10 deployments, and " in said(path)
    assert notes(run, looks([run])) == [
        "Unfinished: of 10 deployments, uniform replay stands at 0 to 10 (4 of 5 seeds finished); OTC (value) stands "
        "at 0 to 8; control of OTC (value) stands at 0 to 6. Every mean is over the seeds that got there."
    ]


@pytest.mark.parametrize("value", [math.nan, math.inf, None])
def test_a_return_that_is_not_finite_is_left_out_aloud(
    write_run: WriteRun, change_line: Callable[..., None], tmp_path: Path, value: float | None
) -> None:
    path = write_run(tmp_path / "run", **gains(4, 1))
    change_line(path, 2, "otc-value", 10, **{"return": value})
    run = read_run(path)
    assert "over 4 seeds of 5" in said(path)
    assert said(path).endswith("1 seed left out: not finite.")
    assert notes(run, looks([run]))[0].startswith(
        "OTC (value): the return stops being finite in seed 2 at deployment 10;"
    )


def test_several_otc_samplers_are_told_apart(write_run: WriteRun, tmp_path: Path) -> None:
    samplers = THREE | {"otc-embedding": OTC, "online-matched-otc-embedding": CONTROL | {"matches": "otc-embedding"}}
    effects = {"otc-value": 4.0, "online-matched-otc-value": 1.0, "otc-embedding": -4.0, "uniform": 0.0}
    path = write_run(tmp_path / "run", samplers=samplers, gains=effects)
    run = read_run(path)
    assert said(path) == (
        "OTC (value) ended above uniform replay; OTC (embedding) ended below it. Only OTC (value) ended above its "
        "control, which replays equally many fresh rows, and OTC (embedding) ended below. OTC (embedding) ended below "
        "the offline team."
    )
    told = statements(run, outcomes(run), looks([run]))
    assert [(one.sampler, one.verdict) for one in told] == [("otc-value", 1), ("otc-embedding", -1)]


def test_runs_are_counted(write_run: WriteRun, tmp_path: Path) -> None:
    runs = [read_run(write_run(tmp_path / str(otc), **gains(otc, 1))) for otc in (4, -4)]
    assert overview([(run, outcomes(run)) for run in runs], looks(runs)) == [
        "OTC (value) ended above uniform replay in 1 of 2 runs (below in 1) and above its control in 1 of 2 runs "
        "(below in 1)."
    ]


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
