"""Bundles of a run directory: what they hold, who gets one, and that they run where there is no JAX."""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import runpy
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from field import ROWS, SETTINGS
from processes import finished
from random_policies import CONTINUOUS, DISCRETE, policy_of, seen

from marline import cli
from marline.campaign.campaign import Campaign
from marline.data.dataset import Dataset, from_arrays
from marline.data.manifest import RESERVED, read_sealed, verify_files, write_sealed
from marline.data.migrations import BUNDLE
from marline.errors import ConfigError, CorruptionError
from marline.export.bundle import FILES, make_bundle, write_bundle
from marline.policy import NumpyPolicy
from marline.runs.export import export
from marline.samplers import Uniform


def logs(num_rows: int) -> dict[str, Dataset]:
    random = np.random.default_rng(num_rows)
    shared = {
        "rewards": random.normal(size=num_rows),
        "terminals": np.zeros(num_rows, bool),
        "timeouts": np.arange(1, num_rows + 1) % 10 == 0,
    }
    arrays = {}
    for agent, (num_seen, num_done) in {"arm": (3, 2), "cart": (5, 1)}.items():
        arrays[agent] = {
            "observations": 10 * random.normal(size=(num_rows, num_seen)),
            "actions": random.uniform(-1, 1, (num_rows, num_done)),
            "next_observations": 10 * random.normal(size=(num_rows, num_seen)),
        }
    return {agent: from_arrays(agent, columns | shared) for agent, columns in arrays.items()}


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    """Trained, and tuned on one deployment."""
    run = Campaign.create(
        tmp_path_factory.mktemp("runs") / "site",
        logs(60),
        **{**SETTINGS, "sampler": Uniform(batch_size=4)},
    )
    with pytest.raises(ConfigError, match="is not trained yet; wait until"):
        export(run.folder)
    run.train()
    run.tune(logs(ROWS))
    return run


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_bundle_per_agent_that_says_what_it_is(campaign: Campaign) -> None:
    folders = campaign.export().folders
    home = campaign.folder / "seed-0" / campaign.sampler_name / "deployment-01" / "bundles"
    assert folders == {"arm": home / "arm", "cart": home / "cart"}
    for agent, sizes in {"arm": (3, 2), "cart": (5, 1)}.items():
        assert sorted(path.name for path in folders[agent].iterdir()) == sorted(FILES)
        contract = read_sealed(folders[agent] / "contract.json", BUNDLE)
        verify_files(folders[agent], contract)
        observations = logs(60)[agent].observations
        (observation,), (action,) = contract["inputs"], contract["outputs"]
        assert (observation["shape"], action["shape"]) == (["batch", sizes[0]], ["batch", sizes[1]])
        assert observation["seen"] == {
            "low": observations.min(axis=0).tolist(),
            "high": observations.max(axis=0).tolist(),
        }
        assert (action["low"], action["high"]) == (-1.0, 1.0)
        model = (folders[agent] / "policy.onnx").read_bytes()
        stamp = {"agent": agent, "deployment": 2, "policy_sha256": hashlib.sha256(model).hexdigest()}
        assert contract["logs"]["stamp"] == stamp and contract["policy_sha256"] == stamp["policy_sha256"]
        assert (contract["tuned_on_deployment"], contract["algorithm"], contract["task"]) == (1, "TD3BC", None)
        golden = json.loads((folders[agent] / "golden.json").read_text())
        wanted = campaign.policies[agent](np.array(golden["observation"]))
        np.testing.assert_allclose(golden["action"], wanted, rtol=0, atol=1e-6)
    before = contents(home)
    campaign.export()
    assert contents(home) == before


@pytest.mark.slow
def test_the_chosen_policy_leaves_and_nothing_is_written_otherwise(
    campaign: Campaign, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = str(campaign.folder), tmp_path / "out"

    def command(*arguments: str) -> tuple[Any, str, str]:
        with pytest.raises(SystemExit) as stop:
            cli.main(["export", folder, "--out", str(out), *arguments])
        printed, error = capsys.readouterr()
        return stop.value.code, printed, error

    for arguments, told in [
        (["--deployment", "2"], "was tuned on deployments up to 1, not on 2"),
        (["--deployment", "-1"], "up to 1, not on -1"),
        (["--agent", "amr"], "did you mean 'arm'?"),
        (["--seed", "1"], "the run has no seed 1; choose one with --seed: 0"),
        (["--sampler", "uniform"], "choose one with --sampler: otc"),
    ]:
        status, _, error = command(*arguments)
        assert status == 2 and told in error
    assert not out.exists()

    status, printed, _ = command("--deployment", "0", "--agent", "arm", "--json")
    assert status == 0
    exported = json.loads(printed)
    assert exported["tuned_on_deployment"] == 0 and list(exported["bundles"]) == ["arm"]
    assert [path.name for path in out.iterdir()] == ["arm"]
    offline = (out / "arm" / "policy.onnx").read_bytes()
    known = [event for event in Campaign.open(folder).ledger.events("exported") if event.deployment == 1]
    assert known[-1].body["policies"] == {"arm": exported["bundles"]["arm"]["policy_sha256"]}
    status, printed, _ = command("--deployment", "0")
    assert status == 0 and "these policies acted in deployment 1, whose logs are in" in printed
    status, printed, _ = command()
    assert status == 0 and "arm: " in printed and "waiting for the logs of deployment 2 (team " in printed
    assert (out / "arm" / "policy.onnx").read_bytes() != offline
    (out / "cart" / "notes.txt").write_text("precious")
    with pytest.raises(ConfigError, match=r"holds .*notes\.txt"):
        export(campaign.folder, out)


def test_a_flipped_byte_in_the_run_is_found_before_anything_leaves(campaign: Campaign, tmp_path: Path) -> None:
    for file in (f"seed-0/{campaign.sampler_name}/deployment-01/policies/cart.safetensors", "data/cart.h5"):
        path = campaign.folder / file
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(CorruptionError, match="cart"):
            export(campaign.folder, tmp_path / "out")
        path.write_bytes(content)
    assert not (tmp_path / "out").exists()


NEEDED = ("numpy", "numpy.libs", "onnxruntime", "flatbuffers", "packaging", "google")


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A Python that finds nothing but its own library, numpy, onnxruntime and their needs."""
    folder, packages = tmp_path_factory.mktemp("robot"), Path(np.__file__).parents[1]
    for name in NEEDED:
        if (packages / name).exists():
            os.symlink(packages / name, folder / name)
    script = (
        f"import sys, runpy, importlib.util; sys.path.append({str(folder)!r}); sys.argv.pop(0); "
        "assert not any(map(importlib.util.find_spec, ['jax', 'equinox', 'h5py', 'marline'])); "
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    return [sys.executable, "-I", "-S", "-c", script]


def serve(python: list[str], bundle: Path, folder: Path, steps: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    lines = "".join(json.dumps(step) + "\n" for step in steps)
    command = [*python, str(bundle / "run_policy.py"), str(folder)]
    done = finished(command, input=lines)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_script_serves_and_logs_without_jax(campaign: Campaign, python: list[str], tmp_path: Path) -> None:
    bundle = Campaign.open(campaign.folder).export(tmp_path / "out").folders["arm"]
    assert len((bundle / "run_policy.py").read_text().splitlines()) < 80
    observations = logs(60)["arm"].observations.tolist()

    def later(number: int, *, terminal: bool = False, timeout: bool = False) -> dict[str, Any]:
        return {"observation": observations[number], "reward": 0.5 * number, "terminal": terminal, "timeout": timeout}

    steps = [
        {"observation": observations[0]},
        later(1),
        later(2, terminal=True),
        {"observation": observations[3]},
        later(4, timeout=True),
        {"observation": observations[5]},
        later(6),  # and then the line goes dead
    ]
    folder = tmp_path / "logs"
    answers = serve(python, bundle, folder, steps)
    files = [folder / f"{number:06d}.npz" for number in range(3)]
    assert sorted(folder.iterdir()) == files
    assert [answer.get("log") for answer in answers] == [None, None, str(files[0]), None, str(files[1]), None, None]
    acting = [number for number, answer in enumerate(answers) if "action" in answer]
    actions = np.array([answers[number]["action"] for number in acting])
    assert acting == [0, 1, 3, 5, 6]
    policy = NumpyPolicy(campaign.policies["arm"]._policy)
    np.testing.assert_allclose(actions, policy(np.array(observations)[acting]), rtol=0, atol=1e-5)

    contract = json.loads((bundle / "contract.json").read_text())
    rows = ([0, 1], [3], [5])
    for path, taken, terminal in zip(files, rows, (True, False, False), strict=True):
        arrays = dict(np.load(path))
        stamp = {key: arrays.pop(key).item() for key in contract["logs"]["stamp"]}
        assert stamp == contract["logs"]["stamp"]
        for key, column in arrays.items():
            wanted = contract["logs"]["arrays"][key]
            assert (str(column.dtype), list(column.shape[1:])) == (wanted["dtype"], wanted["shape"][1:])
        log = from_arrays("arm", arrays)
        assert log.notes == () and log.spec == logs(60)["arm"].spec
        assert log.observations.tolist() == [observations[number] for number in taken]
        assert log.next_observations.tolist() == [observations[number + 1] for number in taken]
        assert log.rewards.tolist() == [0.5 * (number + 1) for number in taken]
        assert log.terminals.tolist() == [False] * (len(taken) - 1) + [terminal]
        assert log.timeouts.tolist() == [False] * (len(taken) - 1) + [not terminal]
        np.testing.assert_array_equal(log.actions, actions[[acting.index(number) for number in taken]])
    serve(python, bundle, folder, steps[:2])
    assert sorted(folder.iterdir()) == [*files, folder / "000003.npz"]


@pytest.fixture(scope="module")
def script(campaign: Campaign, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That of a bundle which takes three numbers."""
    return Campaign.open(campaign.folder).export(tmp_path_factory.mktemp("sent")).folders["arm"] / "run_policy.py"


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ('{"observation": [NaN, 1, 2]}', "line 3: 'observation' must be 3 finite numbers, but is [nan, 1, 2]"),
        ('{"observation": [null, 1, 2]}', "line 3: 'observation' must be 3 finite numbers, but is [None, 1, 2]"),
        ('{"observation": [[1], 2, 3]}', "line 3: 'observation' must be 3 finite numbers, but is [[1], 2, 3]"),
        ('{"observation": [1, 2]}', "line 3: 'observation' must be 3 finite numbers, but is [1, 2]"),
        ("{}", "line 3: 'observation' must be 3 finite numbers, but is missing"),
        ('{"observation": [1, 2, 3]}', "line 3: 'reward' must be a finite number, true or false, but is missing"),
        ('{"observation": [1, 2, 3], "reward": NaN}', "'reward' must be a finite number, true or false, but is nan"),
        ("[1, 2, 3]", 'line 3: a step is an object such as {"observation": [...]}, and not [1, 2, 3]'),
        ("{observation}", "line 3 is not JSON: "),
    ],
)
def test_a_step_that_cannot_be_answered_stops_the_script_in_a_sentence(
    script: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    wrong: str,
    told: str,
) -> None:
    came = '"reward": 1, "terminal": false, "timeout": false'
    steps = ['{"observation": [1, 2, 3]}', f'{{"observation": [2, 3, 4], {came}}}', wrong]
    monkeypatch.setattr(sys, "argv", [str(script), str(tmp_path)])
    monkeypatch.setattr(sys, "stdin", steps)
    monkeypatch.setattr(atexit, "register", lambda _: None)
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(script), run_name="__main__")
    assert isinstance(stop.value.code, str) and told in stop.value.code and "\n" not in stop.value.code
    assert capsys.readouterr().out.count('"action"') == 2


def test_the_script_wants_a_folder_for_its_logs(script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    for words, told in [
        ((), "say where the logs go: python run_policy.py LOGS"),
        ((tmp_path / "file",), "File exists"),
    ]:
        monkeypatch.setattr(sys, "argv", [str(script), *map(str, words)])
        with pytest.raises(SystemExit, match=told):
            runpy.run_path(str(script), run_name="__main__")


@pytest.mark.slow
def test_the_script_draws_noise_and_takes_masks(python: list[str], tmp_path: Path) -> None:
    step = {"observation": [0.0] * 5}
    write_bundle(
        tmp_path / "bcq",
        make_bundle(
            "a", policy_of("bcq", CONTINUOUS), CONTINUOUS, seen(CONTINUOUS), tuned_on=0, logs_of=1, provenance={}
        ),
    )
    end = {"reward": 1, "terminal": True, "timeout": False}
    drawn = serve(python, tmp_path / "bcq", tmp_path / "logs", [step, step | end] * 20)
    assert len({str(answer["action"]) for answer in drawn[::2]}) > 1

    write_bundle(
        tmp_path / "cql",
        make_bundle("a", policy_of("cql", DISCRETE), DISCRETE, seen(DISCRETE), tuned_on=0, logs_of=1, provenance={}),
    )
    masked = [step | {"action_mask": (np.arange(4) == only).tolist()} for only in range(4)]
    steps = [masked[0], *(later | end | {"terminal": False} for later in masked[1:]), masked[0] | end]
    answers = serve(python, tmp_path / "cql", tmp_path / "masked", steps)
    assert [answer.get("action") for answer in answers] == [0, 1, 2, 3, None]
    log = from_arrays("a", dict(np.load(tmp_path / "masked" / "000000.npz")))
    assert log.spec == DISCRETE and log.notes == ()
    assert log.action_masks is not None and log.next_action_masks is not None
    assert log.action_masks.argmax(axis=1).tolist() == log.actions.tolist() == [0, 1, 2, 3]
    assert log.next_action_masks.argmax(axis=1).tolist() == [1, 2, 3, 0]


def seal_again(folder: Path, name: str) -> None:
    """What somebody does who alters a file of a bundle and knows how it is sealed."""
    contract = read_sealed(folder / "contract.json", BUNDLE)
    content = (folder / name).read_bytes()
    files = contract["files"] | {name: {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}}
    entries = {key: value for key, value in contract.items() if key not in RESERVED}
    write_sealed(folder / "contract.json", BUNDLE.kind, 1, entries, files)


def test_the_script_refuses_what_is_not_what_was_exported(python: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "a"
    bundle = make_bundle(
        "a", policy_of("iql", CONTINUOUS), CONTINUOUS, seen(CONTINUOUS), tuned_on=0, logs_of=1, provenance={}
    )
    for what, told in [
        ("another byte", "policy.onnx is not what was exported"),
        ("another script", "run_policy.py is not what was exported"),
        ("another bound", "contract.json is not what was exported; copy the bundle again"),
        ("no JSON", "contract.json is not what was exported; copy the bundle again"),
        ("no seal", "contract.json is not what was exported; copy the bundle again"),
        ("another machine", "the actions of golden.json come out otherwise"),
    ]:
        write_bundle(folder, bundle)
        if what == "another byte":
            model = bundle.files["policy.onnx"]
            (folder / "policy.onnx").write_bytes(model[:-1] + bytes([model[-1] ^ 1]))
        elif what == "another script":
            with open(folder / "run_policy.py", "a") as script:
                script.write("# and one line more\n")
        elif what in ("another bound", "no JSON", "no seal"):
            path = folder / "contract.json"
            text = path.read_text()
            changed = {
                "another bound": text.replace('"high": 1.0', '"high": 2.0'),
                "no JSON": text[: len(text) // 2],
                "no seal": json.dumps({**json.loads(text), "seal": ""}),
            }
            assert changed[what] != text
            path.write_text(changed[what])
        else:  # as if it computed something else; what seals the rest is put right
            golden = json.loads(bundle.files["golden.json"])
            golden["action"][0][0] += 1e-3
            (folder / "golden.json").write_text(json.dumps(golden))
            seal_again(folder, "golden.json")
        command = [*python, str(folder / "run_policy.py"), str(tmp_path / "logs")]
        done = finished(command, input="")
        assert done.returncode == 1 and told in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "logs").exists()


def test_without_onnx_the_command_says_what_to_install(campaign: Campaign) -> None:
    script = f"""
import sys
sys.modules["onnx"] = None
import marline.cli
marline.cli.main(["export", {str(campaign.folder)!r}])
"""
    done = finished([sys.executable, "-c", script])
    assert done.returncode == 2
    assert done.stderr == (
        "marline: exporting needs the package onnx, which is not installed: pip install 'marline[export]'\n"
    )
