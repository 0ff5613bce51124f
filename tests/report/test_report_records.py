"""What is missing is told, what is damaged is named, and nothing is read from outside the run."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

from marline import plugins
from marline.configuration.run_config import describe
from marline.errors import ConfigError, CorruptionError
from marline.report import headlines, write_report
from marline.report.records import read_run, sampler_record
from marline.samplers import SAMPLERS, Shuffled, prefers_rows

WriteRun = Callable[..., Path]


def rewrite(path: Path, **changes: Any) -> None:
    settings = json.loads((path / "run.json").read_text("utf-8"))
    (path / "run.json").write_text(json.dumps(settings | changes), "utf-8")


def test_a_run_is_read_in_full(write_run: WriteRun, tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "run", seeds=(0, 3), deployments=4))
    assert (run.task, run.algorithm, run.baseline) == ("made-up-navigation", "TD3BC", "uniform")
    assert [sampler.kind for sampler in run.samplers] == ["uniform", "other", "otc", "matched"]
    assert run.matched_of("otc-value") == "online-matched-otc-value"
    assert run.matched_of("uniform") is None and run.shuffled_of("otc-value") is None
    assert run.methods == ["otc-value"]
    assert set(run.returns("otc-value", 4)) == {0, 3}
    assert set(run.diagnostic("otc-value", 3, "alpha")) == {1, 2, 3, 4}
    assert run.diagnostic("uniform", 3, "alpha") == {}
    assert set(run.diagnostic("uniform", 0, "mean_abs_action")[0]) == {"agent_0", "agent_1"}
    assert len(run.policies["uniform", 0]) == 2
    assert run.torn == ()


@dataclasses.dataclass(frozen=True)
class Plain:
    """A sampler of the user's that makes all rows equally likely."""

    prefers_rows: ClassVar[bool] = False


def test_what_prefers_rows_is_told_of_every_sampler() -> None:
    for name, sampler in {**SAMPLERS, "shuffled": Shuffled(SAMPLERS["oracle"])}.items():
        kind = sampler_record(name, describe(sampler), {}).kind
        assert (kind in ("otc", "preferring")) == prefers_rows(sampler), name
    theirs = {"type": "never_imported:Mine"}
    assert sampler_record("mine", theirs, {}).kind == "preferring", "as of every sampler that does not deny it"
    assert sampler_record("mine", theirs | {"prefers_rows": False}, {}).kind == "other"
    plugins.register(Plain)
    assert sampler_record("plain", describe(Plain()), {}).kind == "other"
    assert sampler_record("later", {"type": "OfALaterMarline"}, {}).kind == "other"


def test_the_later_line_of_a_deployment_counts(write_run: WriteRun, tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", seeds=(0,), deployments=1)
    with (path / "seed-0" / "uniform" / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"deployment": 1, "return": 7}\n')
    assert read_run(path).returns("uniform", 1) == {0: 7.0}


def test_a_cut_last_line_is_left_out(write_run: WriteRun, tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", seeds=(0,), deployments=3)
    file = path / "seed-0" / "uniform" / "metrics.jsonl"
    file.write_text(file.read_text("utf-8")[:-40], "utf-8")
    run = read_run(path)
    assert run.torn == (file,)
    assert max(run.lines["uniform", 0]) == 2


@pytest.mark.parametrize(
    "line", ["{no", '"text"', '{"return": 1}', '{"deployment": "1"}', '{"deployment": 1, "return": "x"}', "[" * 9999]
)
def test_a_damaged_line_is_named(write_run: WriteRun, tmp_path: Path, line: str) -> None:
    path = write_run(tmp_path / "run", seeds=(0,), deployments=3)
    file = path / "seed-0" / "uniform" / "metrics.jsonl"
    lines = file.read_text("utf-8").splitlines()
    file.write_text("\n".join([lines[0], line, *lines[2:]]) + "\n", "utf-8")
    with pytest.raises(CorruptionError, match=r"uniform/metrics\.jsonl, line 2 is damaged .* move its folder out"):
        read_run(path)


@pytest.mark.parametrize(
    "file", ["run.json", "data/dataset.json", "seed-0/uniform/trajectories.json", "seed-0/uniform/metrics.jsonl"]
)
def test_a_file_that_is_not_text_is_named(write_run: WriteRun, tmp_path: Path, file: str) -> None:
    path = write_run(tmp_path / "run", seeds=(0,), deployments=1)
    (path / file).write_bytes(b"\xff\xfe\x00{")
    with pytest.raises(CorruptionError, match=Path(file).name):
        read_run(path)


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no run\.json; give a directory that marline wrote"):
        write_report([tmp_path], tmp_path / "report.html")
    with pytest.raises(ConfigError, match="does not exist"):
        write_report([tmp_path / "missing"], tmp_path / "report.html")
    with pytest.raises(ConfigError, match="at least one run"):
        write_report([], tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("task", 3),
        ("task", ["x"]),
        ("samplers", {}),
        ("samplers", {"uniform": "Uniform"}),
        ("seeds", ["../../x"]),
        ("seeds", 3),
        ("deployments", "10"),
        ("deployments", 0),
        ("algorithm", "TD3BC"),
    ],
)
def test_settings_of_the_wrong_kind_are_named(write_run: WriteRun, tmp_path: Path, name: str, value: object) -> None:
    path = write_run(tmp_path / "run", seeds=(0,), deployments=1)
    rewrite(path, **{name: value})
    with pytest.raises(CorruptionError, match=f"run.json: '{name}'"):
        read_run(path)


def test_a_newer_run_is_refused(write_run: WriteRun, tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", seeds=(0,), deployments=1)
    rewrite(path, schema=3)
    with pytest.raises(ConfigError, match="has schema 3, and marline .* reads those up to 2"):
        read_run(path)


def test_names_never_lead_out_of_the_run(write_run: WriteRun, tmp_path: Path) -> None:
    outside = write_run(tmp_path / "outside", seeds=(0,), deployments=1)
    path = write_run(tmp_path / "run", seeds=(0,), deployments=1)
    rewrite(path, samplers={f"../../{outside.name}/seed-0/uniform": {"type": "Uniform"}, "x" * 10_000: {"type": "OTC"}})
    assert read_run(path).lines == {}


def test_the_offline_team_is_shown_before_any_deployment(write_run: WriteRun, tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", seeds=(0,), deployments=1, reached=lambda sampler, seed: -1)
    (path / "seed-0" / "offline").mkdir(parents=True)
    (path / "seed-0" / "offline" / "metrics.jsonl").write_text('{"deployment": 0, "return": -3.5}\n', "utf-8")
    assert read_run(path).returns("otc-value", 0) == {0: -3.5}


def test_a_team_deployed_outside_has_returns_where_they_are_known(write_run: WriteRun, tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", seeds=(0,), deployments=2, samplers={"otc-value": {"type": "OTC"}})
    rewrite(path, task=None, dataset_size=None)
    lines = ['{"deployment": 0, "return": -3, "agents": {}}', '{"deployment": 1, "agents": {"a": {"alpha": 1.5}}}']
    (path / "seed-0" / "otc-value" / "metrics.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    run = read_run(path)
    assert run.task == "own logs"
    assert run.curve("otc-value", 0) == {0: -3.0}
    assert run.diagnostic("otc-value", 0, "alpha") == {1: {"a": 1.5}}
    assert any(
        "without a team tuned by uniform replay beside it, nobody can say what OTC" in line
        for line in headlines([path])
    )
    assert headlines([path])[0] == "own logs: Only the offline team was out so far: it returned −3.0 per episode."
    write_report([path], tmp_path / "report.html")


def test_hashes_are_those_of_the_last_policies_that_were_measured(write_run: WriteRun, tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", seeds=(0,), deployments=3)
    before = read_run(path).policies["uniform", 0]
    later = path / "seed-0" / "uniform" / "deployment-04" / "policies"
    later.mkdir(parents=True)
    (later / "manifest.json").write_text('{"files": {"agent_0.safetensors": {"sha256": "abc"}}}', "utf-8")
    assert read_run(path).policies["uniform", 0] == before  # a kill may have come before the checkpoint
    with (later.parents[1] / "metrics.jsonl").open("a") as file:
        file.write('{"deployment": 4, "agents": {}}\n')
    assert read_run(path).policies["uniform", 0] == {"agent_0.safetensors": "abc"}


def test_seeds_that_are_still_to_come_are_not_counted(tmp_path: Path, write_run: Callable[..., Path]) -> None:
    folder = write_run(tmp_path / "run", seeds=(0, 1, 2), deployments=2)
    assert read_run(folder).seeds_text == "3 seeds"
    for history in (folder / "seed-2").iterdir():
        if history.name != "offline":
            (history / "metrics.jsonl").unlink(missing_ok=True)
    run = read_run(folder)
    assert run.deployed_seeds == (0, 1) and run.seeds_text == "2 of 3 seeds"
