"""Names in a run directory: read back as they are given out, and the same as others know them by."""

from __future__ import annotations

from pathlib import Path

from marline.configuration import run_config
from marline.data import dataset, provenance
from marline.runs.layout import (
    DATASET,
    OFFLINE,
    OWN,
    RunDirectory,
    checkpoint_folder,
    checkpoint_steps,
    deployment_folder,
    deployment_numbers,
    known_places,
)


def test_numbers_come_back_from_the_names_that_they_gave_and_from_no_others(tmp_path: Path) -> None:
    for number in (1, 12, 103):
        deployment_folder(tmp_path, number).mkdir()
        checkpoint_folder(tmp_path, number).mkdir()
    for strange in ("deployment-1", "deployment-007", "deployment-x", "checkpoint-1", ".deployment-02.partial"):
        (tmp_path / strange).mkdir()
    assert deployment_numbers(tmp_path) == checkpoint_steps(tmp_path) == [1, 12, 103]
    assert deployment_numbers(tmp_path / "nowhere") == checkpoint_steps(tmp_path / "nowhere") == []


def test_what_lies_below_knows_the_same_names(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    assert (OFFLINE, DATASET) == (run_config.OFFLINE, dataset.MANIFEST)
    assert run.configuration.name == provenance.CONFIGURATION
    named = [run.configuration, run.data, run.report, run.seed(0)]
    assert all(any(path.match(pattern) for pattern in OWN) for path in named)


def test_teams_lie_where_a_configuration_says(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.configuration.write_text('{"seeds": [0, 3], "samplers": {"otc": {}}}')
    for seed in (0, 3):
        for name in (None, "otc"):
            run.team(seed, name).mkdir(parents=True)
    assert {str(team.relative_to(tmp_path)) for team in run.teams()} == known_places(run.configuration)
