"""Run directories that 0.1.0 left are read, resumed, reported, verified and exported; their bytes stay.

They were made by that version's own code, see `fixtures/make_runs.py`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import lzma
import shutil
import tarfile
from pathlib import Path
from typing import Any

import jax
import pytest
from field import contents

from marline import cli
from marline.algorithms import ALGORITHMS
from marline.campaign.campaign import Campaign
from marline.campaign.status import status
from marline.configuration.run_config import BUILT_IN, RunConfig
from marline.data import checkpoints, migrations
from marline.data.experience import Experience
from marline.data.migrations import CHECKPOINT, Schema
from marline.errors import CorruptionError, NewerError
from marline.report.records import read_run
from marline.runs.events import Gated, RolledBack, Tuned, of_kind
from marline.runs.history import History, identity
from marline.runs.integrity import read_configuration, require_belonging
from marline.runs.ledger import Ledger
from marline.runs.verify import verify
from marline.samplers import OTC, SAMPLERS
from marline.study.study import Study
from marline.types import Spec

ARCHIVE = Path(__file__).parents[1] / "fixtures" / "runs-0.1.0.tar.xz"


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`study`, `campaign` and `leaves.json`, as 0.1.0 left them."""
    folder = tmp_path_factory.mktemp("old")
    with tarfile.open(fileobj=io.BytesIO(lzma.decompress(ARCHIVE.read_bytes()))) as tar:
        tar.extractall(folder, filter="data")
    return folder


@pytest.fixture
def study(old: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(old / "study", tmp_path / "study"))


@pytest.fixture
def campaign(old: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(old / "campaign", tmp_path / "campaign"))


def require_kept(before: dict[str, str], folder: Path, changed: set[str] = frozenset()) -> None:  # pyright: ignore[reportArgumentType]
    after = contents(folder)
    assert {name for name, its in before.items() if after.get(name) != its} == changed


def test_a_study_is_read_as_it_was_meant_and_nothing_is_written(study: Path) -> None:
    before = contents(study)
    config = RunConfig.read(study / "run.json")
    assert config.evaluation_seed is None and config.seeds == (0, 1) and config.deployments == 2
    assert config.matches == {"online-matched-otc-value": "otc-value"}
    assert config.samplers["otc-value"] == OTC("value")
    found = verify(study)
    assert found.problems == () and found.num_files == 64
    assert "of 6 parts, 4 did not reach the last deployment" in found.notes[-1]
    require_belonging(study)
    run = read_run(study)
    assert run.returns("uniform", 1).keys() == {0} and run.returns("otc-value", 2).keys() == {0}
    assert contents(study) == before


@pytest.mark.slow
def test_a_study_is_resumed_to_the_end_and_grows(study: Path, tmp_path: Path) -> None:
    before = contents(study)
    run = Study.open(study)
    run.run(progress=False)
    # a checkpoint that is older than the last two went, and lines of measurements came
    gone = {name for name in before if not (study / name).exists()}
    changed = {"seed-0/uniform/metrics.jsonl"}
    require_kept(before, study, gone | changed)
    assert not gone
    returns = read_run(study)
    for sampler in ("otc-value", "online-matched-otc-value", "uniform"):
        for deployment in range(3):
            values = returns.returns(sampler, deployment)
            assert values.keys() == {0, 1} and all(-200 < value < 0 for value in values.values())
    config, there = (study / "run.json").read_bytes(), json.loads((study / "run.json").read_text())
    for command in (["report", str(study)], ["verify", str(study)]):
        with pytest.raises(SystemExit) as stop:
            cli.main(command)
        assert stop.value.code == 0
    assert (study / "run.json").read_bytes() == config
    Study.open(study).extend(samplers=("offline-only",))  # and what was there stays as it was written
    grown = json.loads((study / "run.json").read_text())
    assert {**grown, "samplers": there["samplers"]} == there and "offline-only" in grown["samplers"]
    assert RunConfig.read(study / "run.json").evaluation_seed is None
    assert not verify(study).problems


@pytest.mark.slow
def test_a_study_is_exported(study: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["export", str(study), "--sampler", "otc-value", "--seed", "0", "--out", str(tmp_path / "out")])
    assert stop.value.code == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"agent_0", "agent_1"}


def test_a_campaign_is_read_as_it_was_meant_and_nothing_is_written(campaign: Path) -> None:
    before = contents(campaign)
    found = verify(campaign)
    assert found.problems == () and found.num_events == 12
    assert [note for note in found.notes if "no ledger.head" in note]
    now = status(campaign)
    assert (now.stage, now.deployment, now.deployments) == ("ingested", 2, 3)
    assert now.agents["arm"].tuned_on == 0 and now.agents["arm"].rows == 10
    events = Ledger(campaign).events()
    ((_, gate),) = of_kind(Gated, events)
    assert gate.num_now is None and not gate.change.is_regression
    assert [its.agents for _, its in of_kind(RolledBack, events)] == [("arm",)]
    assert [its.frozen for _, its in of_kind(Tuned, events)] == [("cart",)]
    assert contents(campaign) == before


def test_a_campaign_goes_on_to_its_end(campaign: Path, tmp_path: Path) -> None:
    before, events = contents(campaign), Ledger(campaign).events()
    run = Campaign.open(campaign)
    record = run.tune()
    assert record["deployment"] == 2 and record["agents"].keys() == {"arm", "cart"}
    require_kept(before, campaign, {"ledger.sqlite", "seed-0/otc/metrics.jsonl"})
    assert Ledger(campaign).events()[: len(events)] == events, "sealed as they were"
    exported = run.export(tmp_path / "bundles")
    assert exported.deployment == 3 and exported.bundles.keys() == {"arm", "cart"}
    run.off_policy_evaluation()
    assert run.report().exists() and run.replay() == {"arm": True, "cart": True}
    found = verify(campaign)
    assert found.problems == () and not [note for note in found.notes if "ledger.head" in note]
    assert Campaign.open(campaign).tuned_on == {"arm": 2, "cart": 2}


@pytest.mark.parametrize("discrete", [False, True])
@pytest.mark.slow
def test_checkpoints_of_every_algorithm_and_sampler_fit(discrete: bool, old: Path) -> None:
    kind = "discrete" if discrete else "continuous"
    known = json.loads((old / "leaves.json").read_text())["leaves"]
    rows = Experience.outline(Spec(3, 2, discrete), num_offline=20, num_deployments=2, rows_per_deployment=5)
    names = [name.removesuffix(f" {kind}") for name in known if name.endswith(f" {kind}")]
    assert len(names) > 10
    for name in names:
        made: Any = ALGORITHMS[name]() if name in ALGORITHMS else SAMPLERS[name]
        tree = jax.eval_shape(lambda rows, key, made=made: made.init(rows, key=key), rows, jax.random.key(0))
        leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
        told = [f"{jax.tree_util.keystr(p, simple=True, separator='.')} {x.dtype}{list(x.shape)}" for p, x in leaves]
        assert told == known[f"{name} {kind}"], name


def test_every_field_that_0_1_0_wrote_has_its_place_and_every_newer_one_its_former_meaning(old: Path) -> None:
    known: dict[str, list[str]] = json.loads((old / "leaves.json").read_text())["fields"]
    kinds = {**BUILT_IN, "RunConfig": RunConfig}
    since = {"RunConfig": {"evaluation_seed"}}  # by a step of `migrations.RUN`
    for former, names in known.items():
        name = migrations.TYPES.get(former, former)
        fields = {migrations.FIELDS.get(name, {}).get(field, field) for field in names}
        fields |= since.get(name, set()) | set(migrations.SINCE.get(name, {}))
        assert fields == {field.name for field in dataclasses.fields(kinds[name])}, name


def test_a_field_that_is_no_more_is_overlooked() -> None:
    inside = {"type": "Shuffled", "of": {"type": "TwoSided", "pooled": True, "powers": [], "gamma": 0.99}}
    read = migrations.migrated_configuration(
        {"schema": migrations.RUN.newest, "samplers": {"control": inside}}, Path("run.json")
    )
    assert read["samplers"]["control"]["of"] == {"type": "TwoSided", "pooled": True, "powers": []}


def test_a_type_and_its_fields_may_get_other_names(campaign: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = campaign / "run.json"
    document = json.loads(path.read_text())
    meant = RunConfig.read(path)
    sampler, algorithm = document["samplers"]["otc"], document["algorithm"]["arm"]
    sampler["type"] = "Corrected"
    sampler["exponent"] = sampler.pop("alpha")
    del sampler["num_groups"]  # as if it had come later
    algorithm["type"] = "MinimalRL"
    path.write_text(json.dumps(document))
    with pytest.raises(NewerError, match=r"run\.json: there is no type 'MinimalRL' in marline"):
        RunConfig.read(path)
    monkeypatch.setattr(migrations, "TYPES", {"Corrected": "OTC", "MinimalRL": "TD3BC"})
    with pytest.raises(NewerError, match=r"run\.json: OTC has no field 'exponent' in marline .*upgrade marline"):
        RunConfig.read(path)
    monkeypatch.setattr(migrations, "FIELDS", {"OTC": {"exponent": "alpha"}})
    with pytest.raises(CorruptionError, match="OTC does not tell its num_groups"):
        RunConfig.read(path)
    monkeypatch.setattr(migrations, "SINCE", {"OTC": {**migrations.SINCE["OTC"], "num_groups": 3}})
    renamed = RunConfig.read(path)
    (then,), (now,) = meant.samplers.values(), renamed.samplers.values()
    assert now == dataclasses.replace(then, num_groups=3), "what it meant then, not what is the default now"  # pyright: ignore[reportArgumentType]
    assert renamed.algorithm == meant.algorithm
    settings = read_run(campaign).settings
    assert settings["samplers"]["otc"]["type"] == "OTC" and read_run(campaign).algorithm == "TD3BC + IQL"


def test_what_this_marline_does_not_know_is_told_by_name(study: Path) -> None:
    path, sound = study / "run.json", json.loads((study / "run.json").read_text())
    for changed, told in (
        ({"schema": 9}, r"run\.json has schema 9, by which marline 9\.1 wrote it, and marline .* reads those up to 2"),
        ({"weather": "rain"}, r"a run has no field 'weather' in marline .*; marline 9\.1 wrote it: upgrade marline"),
        ({"algorithm": {**sound["algorithm"], "beta": 1}}, "TD3BC has no field 'beta'"),
    ):
        path.write_text(json.dumps(sound | changed))
        start = {"marline": "9.1", "run.json": hashlib.sha256(path.read_bytes()).hexdigest()}
        (study / "provenance.jsonl").write_text(json.dumps(start) + "\n")
        with pytest.raises(NewerError, match=told):
            RunConfig.read(path)
        with pytest.raises(NewerError):
            verify(study)
        # by none of the configurations that the run was started with: altered, and no other version's
        (study / "provenance.jsonl").write_text(json.dumps(start | {"run.json": "another"}) + "\n")
        if "schema" not in changed:
            with pytest.raises(CorruptionError, match="is none by which this run was ever started: it was altered"):
                read_configuration(study)
            assert len(verify(study).problems) == 2


def test_an_altered_configuration_of_a_campaign_is_no_newer_one(campaign: Path) -> None:
    path = campaign / "run.json"
    path.write_text(path.read_text().replace('"gamma"', '"gamna"', 1))
    problems = verify(campaign).problems
    assert [told for told in problems if "is not what the campaign was started with" in told]
    for read in (Campaign.open, read_configuration):
        with pytest.raises(CorruptionError, match="is not what the campaign was started with"):
            read(campaign)


def test_a_migrated_list_keeps_its_seal_and_its_hash(campaign: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    history = History(campaign / "seed-0" / "otc")
    before = identity(history.checkpoint(1))
    newer = Schema(CHECKPOINT.kind, (lambda document: {**document, "mood": "good"},))
    monkeypatch.setattr(checkpoints, "CHECKPOINT", newer)
    assert checkpoints.read_manifest(history.checkpoint(1))["mood"] == "good"
    assert "mood" not in checkpoints.read_manifest(history.checkpoint(1), as_written=True)
    assert identity(history.checkpoint(1)) == before and not verify(campaign).problems


def test_a_step_leaves_alone_what_has_the_new_form() -> None:
    """A run that grew holds parts of both."""
    for schema in (migrations.RUN, migrations.DATASET):
        document = {"schema": 1, "evaluation_seed": 3, "agents": [{"channels": {}}]}
        assert migrations.migrated(document, schema, Path("x")) == {**document, "schema": schema.newest}
    with pytest.raises(CorruptionError, match="does not say by which schema"):
        migrations.migrated({"schema": True}, CHECKPOINT, Path("x"))
