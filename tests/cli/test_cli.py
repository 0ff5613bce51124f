"""The command line: what it refuses, and that it leaves nothing behind when it does."""

from __future__ import annotations

import gc
import json
import signal
import sys
import time
from pathlib import Path

import pytest
from processes import finished

from marline import cli
from marline.cli import entry
from marline.cli.commands import installation
from marline.cli.options.study import Run
from marline.configuration import planning
from marline.data.locking import locked
from marline.envs import TASKS
from marline.errors import DAMAGED, INTERRUPTED, USAGE_ERROR
from marline.population import stacked
from marline.runs.creation import start_run


@pytest.fixture
def nothing_is_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where configurations are what matters; that they can be run is shown elsewhere."""
    monkeypatch.setattr(planning, "check_compatible", lambda config, sizes: [])


def refuse(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = USAGE_ERROR) -> str:
    """Run a command that must exit with this status; returns what it wrote to standard error."""
    with pytest.raises(SystemExit) as stop:
        cli.main(list(arguments))
    assert stop.value.code == status
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return captured.err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--task", "cooperative-navigaton-4"], "did you mean 'cooperative-navigation-4'?"),
        (["--algorithm", "td3bc"], "did you mean 'td3-bc'?"),
        (["--sampler", "otc-valu"], "did you mean 'otc-value'?"),
        (["--sampler", "uniform", "online-matched"], "add one of otc-value"),
        (["--deployments", "-1"], "deployments is -1, but must be at least 1"),
        (["--updates", "0"], "updates is 0, but must be at least 1"),
        (["--seeds", "0"], "seeds is 0"),
        (["--clip-actions"], "--clip-actions is for the logs of --data"),
        (["--dataset-size", "-5"], "dataset_size is -5"),
        (["--offline-updates", "-1"], "offline_updates is -1, but cannot be negative"),
        (["--hidden", "64", "0"], "every layer needs at least 1 unit"),
        (["--deployment-fraction", "0"], "deployment_fraction is 0"),
        (["--sampler", "otc-value", "--sampler-option", "alpha=-1"], "alpha is -1"),
        (
            ["--sampler", "otc-value", "--sampler-option", "alpha=nan"],
            "alpha of otc-value is nan, but must be a finite number",
        ),
        (["--sampler", "otc-value", "--sampler-option", "alpah=1"], "did you mean 'alpha'?"),
        (["--sampler-option", "alpha"], "is not NAME=VALUE"),
        (["--algorithm-option", "alpha_b=1"], "did you mean 'alpha_bc'?"),
        (["--algorithm-option", "gamma=1.5"], "gamma is 1.5"),
        (["--sampler", "uniform", "--sampler-option", "alpha=1"], "none is named"),
        (["--algorithm", "cql", "--sampler", "uniform"], "CQL needs discrete actions"),
        (["--algorithm", "agent_0=bcq"], "no algorithm for agent_1, agent_2, agent_3"),
        (["--algorithm", "bremen", "--offline-updates", "100"], "BREMEN needs 84000 before it has anything to deploy"),
        (["--algorithm", "bremen", "--sampler", "uniform", "otc-value"], "otc-value with BREMEN: d_q compares values"),
    ],
)
def test_a_wrong_option_is_named_and_nothing_is_written(
    arguments: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = refuse(capsys, "run", "--run", str(tmp_path / "run"), *arguments)
    assert told in error
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_flag_is_refused_with_the_nearest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    error = refuse(capsys, "run", "--run", str(tmp_path / "run"), "--deploymnts", "3")
    assert "--deployments" in error


def test_an_engine_that_cannot_be_had_is_told_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # as if it were not installed
    run = ("run", "--run", str(tmp_path / "run"))
    assert "pip install 'marline[ray]'" in refuse(capsys, *run, "--engine", "ray")
    assert "add --engine ray" in refuse(capsys, *run, "--address", "10.0.0.1:6379")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("nothing_is_traced")
def test_another_run_in_the_directory_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from marline.cli.commands.study import configure

    run = tmp_path / "run"
    start_run(run, configure(Run(run=run)))
    before = (run / "run.json").read_bytes()
    error = refuse(capsys, "run", "--run", str(run), "--updates", "3")
    assert "updates: 2000 there, 3 here" in error and "marline resume" in error
    assert (run / "run.json").read_bytes() == before
    assert [path.name for path in run.iterdir()] == ["run.json"]


THEIRS = """
import numpy as np
from gymnasium.spaces import Box
from marline.errors import ConfigError
from pettingzoo import ParallelEnv

class World(ParallelEnv):
    metadata = {"name": "world"}

    def __init__(self, agent, fails):
        self.possible_agents, self.fails = [agent], fails

    def observation_space(self, agent):
        return Box(-1, 1, (1,), np.float32)

    action_space = observation_space

    def reset(self, seed=None, options=None):
        self.agents = list(self.possible_agents)
        return {agent: np.zeros(1, np.float32) for agent in self.agents}, {agent: {} for agent in self.agents}

    def step(self, actions):
        if self.fails:
            raise ConfigError("the motor is stuck")
        ended, self.agents = list(self.agents), []
        seen, flags = np.zeros(1, np.float32), {agent: True for agent in ended}
        return {agent: seen for agent in ended}, {agent: 1.0 for agent in ended}, flags, flags, {a: {} for a in ended}

def strange_name():
    return World("team/a", False)

def stuck():
    return World("arm", True)
"""


@pytest.mark.parametrize(("name", "told"), [("strange_name", "agent 'team/a' cannot name a file"), ("stuck", "stuck")])
def test_a_run_that_its_world_refuses_leaves_nothing(
    name: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pettingzoo")
    (tmp_path / "stranger_than.py").write_text(THEIRS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    options = "--seeds 1 --dataset-size 20 --offline-updates 5 --updates 5 --deployments 1 --hidden 4".split()
    command = ["run", "--task", f"stranger_than:{name}", "--trust", "--run", "runs/first", *options]
    try:
        assert told in refuse(capsys, *command, "--evaluation-episodes", "1", "--sampler", "uniform")
    finally:
        sys.modules.pop("stranger_than", None)
    assert [path.name for path in tmp_path.iterdir()] == ["stranger_than.py"]


@pytest.mark.usefixtures("nothing_is_traced")
def test_a_report_that_cannot_be_written_whole_is_not_begun(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from marline.cli.commands.study import configure

    run, page = tmp_path / "run", tmp_path / "page.html"
    start_run(run, configure(Run(run=run)))
    for arguments, told in (
        (["--figure", "figure.png"], "does not end in .svg"),
        (["--figure", "figure.svg", "--sampler", "unifrom"], "did you mean 'uniform'"),
        (["--sampler", "uniform"], "add --figure"),
        (["--csv", str(run)], "it is a folder"),
        (["--csv", str(run / "run.json" / "table.csv")], "run.json is no folder"),
    ):
        assert told in refuse(capsys, "report", str(run), "-o", str(page), *arguments)
        assert not page.exists()
    assert [path.name for path in run.iterdir()] == ["run.json"]


@pytest.mark.usefixtures("nothing_is_traced")
def test_a_folder_of_other_things_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    assert "is not empty" in refuse(capsys, "run", "--run", str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_what_is_no_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "is not a run directory" in refuse(capsys, "resume", str(tmp_path))
    (tmp_path / "run.json").write_text("{}")
    assert "is not the configuration of a run" in refuse(capsys, "resume", str(tmp_path), status=DAMAGED)
    (tmp_path / "run.json").write_text('{"schema": 1, "algorithm": {"type": "os.system"}}')
    assert "is not the configuration of a run" in refuse(capsys, "resume", str(tmp_path), status=DAMAGED)


@pytest.mark.usefixtures("nothing_is_traced")
def test_a_second_writer_leaves_and_names_the_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from marline.cli.commands.study import configure

    start_run(tmp_path / "run", configure(Run(run=tmp_path / "run")))
    (tmp_path / "run" / "run.pid").write_text("4242")
    with locked(tmp_path / "run" / "run.lock"):
        assert "is being written by process 4242" in refuse(capsys, "resume", str(tmp_path / "run"))


def test_the_catalogue_for_scripts(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["list", "--json"])
    assert stop.value.code == 0
    catalogue = json.loads(capsys.readouterr().out)
    assert "cooperative-navigation-4" in catalogue["tasks"]
    assert catalogue["algorithms"].keys() == catalogue["pairs"].keys() >= {"td3-bc", "bcq"}
    assert set(catalogue["pairs"]["bcq"]) == catalogue["samplers"].keys()
    assert catalogue["samplers"].keys() - set(catalogue["pairs"]["bremen"]) == {
        "otc-value",
        "otc-value-literal",
        "otc-value-paper",
        "otc-value-refresh",
    }
    assert {"uniform", "otc-value", "online-matched"} <= catalogue["samplers"].keys()


def test_every_task_is_described(capsys: pytest.CaptureFixture[str]) -> None:
    def shown(*arguments: str) -> str:
        with pytest.raises(SystemExit) as stop:
            cli.main(["list", *arguments])
        assert stop.value.code == 0
        return capsys.readouterr().out

    tasks = json.loads(shown("tasks", "--json"))["tasks"]
    assert tasks.keys() == TASKS.keys()
    for facts in tasks.values():
        assert list(facts) == ["what", "agents", "horizon", "reward", "source", "our decisions", "needs"]
        assert all(facts.values())
    assert tasks["hopper-3x1"]["agents"] == "3: each sees 11 numbers, acts by 1 in [-1, 1]"
    assert tasks["smax-5m_vs_6m"]["agents"] == "5: each sees 140 numbers, acts by 11 choices"
    assert "is not comparable" in tasks["smax-5m_vs_6m"]["source"]
    assert "smax-5m_vs_6m" in shown("tasks")
    assert json.loads(shown("samplers", "--json")).keys() == {"samplers"}


def test_playing_at_random_and_recording(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("PIL", reason="moving pictures need: pip install 'marline[video]'")
    task = ["--task", "cooperative-navigation-2", "--episodes", "2", "--json"]
    found = []
    for video in ([], ["--video", str(tmp_path / "video.webp")]):
        with pytest.raises(SystemExit) as stop:
            cli.main(["play", *task, *video])
        assert stop.value.code == 0
        found.append(json.loads(capsys.readouterr().out))
    plain, recorded = found
    assert plain["returns"] == recorded["returns"] and len(plain["returns"]) == 2
    assert (tmp_path / "video.webp").stat().st_size > 1000
    assert "either a run directory or a --task" in refuse(capsys, "play")
    assert "--episodes is 0" in refuse(capsys, "play", "--task", "predator-prey", "--episodes", "0")


def test_the_doctor_finds_this_installation_well(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["doctor", "--json"])
    assert stop.value.code == 0
    found = json.loads(capsys.readouterr().out)
    assert found["a compiled product"] == "ok"
    assert "one learner after another, a process for each of" in found["device"]
    with stacked(True):
        assert "stacked" in installation.devices()["device"]


def test_a_device_is_chosen_or_said_not_to_be_there() -> None:
    script = "import sys; from marline import cli; cli.main(['doctor', '--json', '--device', sys.argv[1]])"
    done = finished([sys.executable, "-c", script, "cpu"])
    assert done.returncode == 0 and json.loads(done.stdout)["device"].startswith("cpu")
    if not any(Path("/dev").glob("nvidia[0-9]*")):
        done = finished([sys.executable, "-c", script, "gpu"])
        assert done.returncode == 2 and "--device gpu: JAX sees no GPU on this machine" in done.stderr


def test_each_of_several_tasks_has_a_run_directory_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    from marline.cli.commands.study import _of_each_task

    options = Run(run=Path("runs"), tasks=("matrix", "mine.tasks:make"))
    its = _of_each_task(options)
    assert [(one.task, one.tasks, one.run) for one in its] == [
        ("matrix", (), Path("runs/matrix")),
        ("mine.tasks:make", (), Path("runs/mine.tasks-make")),
    ]
    assert _of_each_task(Run(run=Path("a"))) == [Run(run=Path("a"))]
    assert "names matrix twice" in refuse(capsys, "run", "--run", "runs", "--tasks", "matrix", "matrix")
    assert "logs of one task" in refuse(capsys, "run", "--run", "runs", "--tasks", "matrix", "--data", "logs")


def test_a_closed_terminal_stops_a_command_as_a_signal_does() -> None:
    script = """
import os, signal, sys
from marline import cli
from marline.cli import entry
signal.signal(signal.SIGHUP, signal.SIG_IGN if sys.argv[1] == "nohup" else signal.SIG_DFL)
entry._run = lambda arguments: os.kill(os.getpid(), signal.SIGHUP) or 7
cli.main([])
"""
    assert finished([sys.executable, "-c", script, "terminal"]).returncode == 129
    assert finished([sys.executable, "-c", script, "nohup"]).returncode == 7


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is full")
def test_output_that_cannot_be_written_is_told_in_a_sentence() -> None:
    done = finished(["bash", "-c", f"{sys.executable} -m marline --help > /dev/full"])
    assert done.returncode == USAGE_ERROR
    assert done.stderr == "marline: cannot write standard output: No space left on device; all else was done\n"
    assert finished(["bash", "-c", f"set -o pipefail; {sys.executable} -m marline --help | head -1"]).returncode == 0


def test_help_does_not_import_jax() -> None:
    script = """
import sys
import marline.cli
try:
    marline.cli.main(["--help"])
finally:
    assert "jax" not in sys.modules
"""
    done = finished([sys.executable, "-c", script])
    assert done.returncode == 0, done.stderr
    for command in ("demo", "run", "resume", "report", "data", "list", "doctor"):
        assert command in done.stdout


@pytest.mark.usefixtures("nothing_is_traced")
def test_updates_and_widths_are_those_of_the_paper_unless_given() -> None:
    from marline.algorithms import AWAC, BCQ, BREMEN, MABCQ
    from marline.cli.commands.study import configure
    from marline.envs import CooperativeNavigation

    def of(*names: str) -> tuple[object, int]:
        task, sampler = "cooperative-navigation-2", ("uniform",)
        config = configure(Run(run=Path("unused"), task=task, algorithm=names, sampler=sampler))
        return config.algorithm, config.updates

    assert of("bcq") == (BCQ(hidden=(64, 64)), 4000)
    assert of("mabcq") == (MABCQ(BCQ(hidden=(64, 64))), 4000)
    assert of("awac") == (AWAC(hidden=(256, 256)), 2000)
    assert of("bremen") == (BREMEN(known_reward=CooperativeNavigation(2)), 2000)
    assert of("agent_0=awac", "agent_1=bcq") == ({"agent_0": AWAC(), "agent_1": BCQ()}, 4000)


@pytest.mark.usefixtures("nothing_is_traced")
def test_an_option_reaches_every_sampler_that_has_it() -> None:
    from marline.cli.commands.study import configure
    from marline.samplers import OTC, EmbeddingDistance, TwoStageDistance, Uniform

    options = Run(
        run=Path("unused"),
        sampler=("uniform", "otc-value", "otc-embedding", "otc-two-stage"),
        sampler_option=("alpha=2", "exclude_self=true", "compare=next", "kl_weight=0.5"),
        hidden=(32, 16),
    )
    fields = {"alpha": 2.0, "exclude_self": True}
    assert configure(options).samplers == {
        "uniform": Uniform(),
        "otc-value": OTC("value", **fields),
        "otc-embedding": OTC(EmbeddingDistance(hidden=(32, 16), kl_weight=0.5), **fields),
        "otc-two-stage": OTC(TwoStageDistance(compare="next"), **fields),
    }


def test_ctrl_c_is_no_traceback_where_nothing_can_be_resumed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(installation, "doctor", lambda options: signal.raise_signal(signal.SIGINT))
    assert refuse(capsys, "doctor", status=INTERRUPTED) == "\nmarline: interrupted\n"


class Finalized:
    """Whose end a signal comes upon."""

    def __init__(self, number: signal.Signals) -> None:
        self.number, self.mine = number, self  # which the garbage collector alone can take apart

    def __del__(self) -> None:
        signal.raise_signal(self.number)


@pytest.mark.parametrize("during", ["callback", "finalizer"])
@pytest.mark.parametrize(
    ("number", "kind"), [(signal.SIGTERM, SystemExit), (signal.SIGINT, KeyboardInterrupt)], ids=["TERM", "INT"]
)
def test_a_signal_during_garbage_collection_is_not_lost(
    number: signal.Signals, kind: type[BaseException], during: str
) -> None:
    """Python prints an exception that is raised there, and goes on as if nothing had been."""
    before = {which: signal.signal(which, entry._stop) for which in (number, signal.SIGALRM)}
    seen = []

    def callback(phase: str, info: dict[str, int]) -> None:
        if not seen:
            seen.append(phase)
            signal.raise_signal(number)

    if during == "callback":
        gc.callbacks.append(callback)
    else:
        Finalized(number)
    try:
        with entry._stopping_surely(), pytest.raises(kind):
            gc.collect()
            time.sleep(100)  # until it comes again
    finally:
        if during == "callback":
            gc.callbacks.remove(callback)
        for which, handler in before.items():
            signal.signal(which, handler)
