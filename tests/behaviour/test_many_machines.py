"""Studies and campaigns over a Ray cluster: here one of two workers, with real processes that are really killed."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import socket
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from processes import wait_until

from marline.algorithms import TD3BC
from marline.campaign.campaign import Campaign
from marline.campaign.distributed import DistributedCampaign, Site
from marline.configuration.run_config import RunConfig
from marline.data import dataset
from marline.data.dataset import Dataset
from marline.envs import make_task
from marline.errors import ConfigError
from marline.policy import NumpyPolicy
from marline.rollouts.collection import collect_random
from marline.runs.creation import start_run
from marline.samplers import OTC, OnlineMatched
from marline.study import ray_cluster as cluster
from marline.study import ray_engine
from marline.study.engines import make_engine

try:
    ray = cluster.require_ray()
except ConfigError as error:
    pytest.skip(str(error), allow_module_level=True)

TASK = "cooperative-navigation-2"
AGENTS = ("agent_0", "agent_1")
NUM_ROWS = 400
ALGORITHM = TD3BC(hidden=(8,))
SAMPLER = OTC("value", num_candidates=16, num_references=8, batch_size=16, num_estimate=32)
STUDY = RunConfig(
    task=TASK,
    algorithm=ALGORITHM,
    samplers={"otc-value": SAMPLER, "control": OnlineMatched(batch_size=16)},
    matches={"control": "otc-value"},
    seeds=(0, 1),
    dataset_size=NUM_ROWS,
    rows_per_deployment=40,
    offline_updates=20,
    deployments=2,
    updates=10,
    evaluation_episodes=2,
)


@pytest.fixture(scope="module", autouse=True)
def two_workers() -> Iterator[str]:
    """The address of a cluster of this machine alone."""
    os.environ.setdefault("RAY_worker_niceness", "0")  # or its workers would yield to all that the machine does
    try:
        yield cluster.start(num_cpus=2).address_info["address"]
    finally:
        ray.shutdown()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study by the local engine, in this process."""
    run = tmp_path_factory.mktemp("whole") / "run"
    start_run(run, STUDY)
    make_engine("local").run(run, STUDY, [[0, 1]], lambda *_: None)
    return run


def fingerprints(run: Path) -> dict[str, str]:
    """What must not depend on where it was computed."""
    patterns = ("*.safetensors", "*.h5", "trajectories.json")
    paths = [path for pattern in patterns for path in sorted(run.rglob(pattern))]
    return {str(path.relative_to(run)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def workers_about(title: str) -> list[int]:
    """Workers of our own cluster that say of themselves that they do this."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            process = int(path.parent.name)
            if path.read_bytes().startswith(f"ray::{title}".encode()) and parent(parent(process)) == os.getpid():
                found.append(process)
    return found


def parent(process: int) -> int:
    return int(Path("/proc", str(process), "stat").read_text().rpartition(")")[2].split()[1])


@pytest.mark.slow
def test_ray_goes_on_for_the_local_engine_and_a_killed_worker_changes_no_byte(whole: Path, tmp_path: Path) -> None:
    """The local engine stops within the first seed; Ray finishes that, and does all of the second."""
    run = tmp_path / "run"
    start_run(run, STUDY)

    def stop(_: int, text: str, __: int) -> None:
        if text.startswith("otc-value: deployment 1 of 2, return"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_engine("local").run(run, STUDY, [[0, 1]], stop)
    assert not (run / "seed-1").exists()
    told: list[tuple[int, str, int]] = []

    def kill_once(share: int, text: str, updates: int) -> None:
        if text.startswith("otc-value: deployment 1 of 2, return"):
            for worker in workers_about(f"seed-{share}/otc-value"):
                os.kill(worker, signal.SIGKILL)
        told.append((share, text, updates))

    engine = make_engine("ray")
    engine.run(run, STUDY, engine.plan(STUDY.seeds), kill_once)
    assert [(share, text) for share, text, _ in told if "lost" in text] == [
        (1, "seed-1/otc-value: its worker was lost, starting again")
    ]
    each = STUDY.offline_updates + len(STUDY.samplers) * STUDY.deployments * STUDY.updates
    assert [sum(updates for share, _, updates in told if share == number) for number in (0, 1)] == [each, each]
    assert fingerprints(run) == fingerprints(whole)
    assert sorted(path.name for path in (run / "seed-1" / "otc-value").iterdir()) == [
        "checkpoint-0000001",
        "checkpoint-0000002",
        "deployment-01",
        "deployment-02",
        "metrics.jsonl",
        "trajectories.json",
    ]


@pytest.mark.slow
def test_a_machine_with_another_version_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start_run(tmp_path / "run", STUDY)
    monkeypatch.setattr(ray_engine, "versions", lambda: {"marline": "0.0.1", "jax": "0.0.2"})
    with pytest.raises(ConfigError, match=r"not 0\.0\.1 and jax .* not 0\.0\.2; install the same versions"):
        make_engine("ray").run(tmp_path / "run", STUDY, [[0], [1]], lambda *_: None)


@pytest.mark.slow
def test_agents_on_machines_of_their_own_learn_what_one_machine_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = make_task(TASK)
    logs = collect_random(task, NUM_ROWS, seed=0)
    plan: dict[str, Any] = {
        "algorithm": ALGORITHM,
        "sampler": SAMPLER,
        "deployments": 2,
        "offline_updates": STUDY.offline_updates,
        "updates": STUDY.updates,
        "rows_per_deployment": STUDY.rows_per_deployment,
    }
    together = Campaign.create(tmp_path / "together", logs, **plan)
    together.train()
    for _ in range(2):
        together.tune(together.deploy(task))

    sites = {}
    for agent, log in logs.items():
        home = tmp_path / f"home-of-{agent}"
        dataset.save(home / "logs", {agent: log})
        sites[agent] = Site(ray.util.get_node_ip_address(), home / "logs", home / "run")
    sent, answers = record_requests(monkeypatch), record_answers(monkeypatch)
    with DistributedCampaign.connect(sites, **plan) as team:
        team.train()
        assert team.number == 0
        played = team.deploy(task)
        killer = kill_when_there(sites["agent_1"], "seed-0/otc/deployment-01/logs")
        team.tune(played)
        killer.join()
        assert team.number == 1
        reports = team.tune(team.deploy(task))
        policies = team.policies
    for agent, site in sites.items():
        assert last_policy(site.run, agent) == last_policy(together.folder, agent)
        assert reports[agent] == {**together.records[2]["agents"][agent]} | {"return": together.returns[1]}
        assert isinstance(policies[agent], NumpyPolicy)
    # what came here are policies and numbers: less than a quarter of an agent's rows, and nothing as long as they are
    rows = sum(column.nbytes for column in logs["agent_0"].columns().values())
    assert max(len(ray.cloudpickle.dumps(answer)) for answer in answers) < rows / 4
    lengths = {size for answer in answers for leaf in jax.tree.leaves(answer) for size in np.shape(leaf)}
    assert max(lengths) < STUDY.rows_per_deployment < NUM_ROWS
    # by content: no logged row is in a message, but what an agent itself saw in a simulation, on the way to its machine
    offline = {agent: rows_in(logs[agent], *answers, *sent[agent]) for agent in logs}
    assert offline == {"agent_0": 0, "agent_1": 0}
    own, other = (
        [rows_in(played[agent], *(sent[agent] if its else sent[another])) for agent, another in (AGENTS, AGENTS[::-1])]
        for its in (True, False)
    )
    assert own == [STUDY.rows_per_deployment] * 2 and other == [0, 0]
    assert sum(rows_in(played[agent], *answers) for agent in AGENTS) == 0


def rows_in(log: object, *messages: Any) -> int:
    """How many rows of a log are in messages, by the bytes of their observations."""
    assert isinstance(log, Dataset)
    content = b"".join(ray.cloudpickle.dumps(message) for message in messages)
    return sum(row.tobytes() in content for row in log.observations)


def record_requests(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Any]]:
    """Gets everything that goes to the machine of each agent from now on."""
    sent: dict[str, list[Any]] = {agent: [] for agent in AGENTS}
    ask = DistributedCampaign._ask  # pyright: ignore[reportPrivateUsage]

    def noted(team: DistributedCampaign, what: str, arguments: Any = None) -> Any:
        for agent, given in (arguments or {}).items():
            sent[agent].append((what, given))
        return ask(team, what, arguments)

    monkeypatch.setattr(DistributedCampaign, "_ask", noted)
    return sent


def record_answers(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Gets everything that comes here from an actor from now on."""
    answers: list[Any] = []
    get = ray.get

    def noted(reference: Any) -> Any:
        answers.append(get(reference))
        return answers[-1]

    monkeypatch.setattr(ray, "get", noted)
    return answers


def kill_when_there(site: Site, place: str) -> threading.Thread:
    """Kill the actor of a site as soon as it has published something."""

    def wait() -> None:
        wait_until(Path(site.run, place).exists)
        os.kill(int(Path(site.run, "run.pid").read_text()), signal.SIGKILL)

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def last_policy(run: str | Path, agent: str) -> str:
    file = Path(run, "seed-0", "otc", "deployment-02", "policies", f"{agent}.safetensors")
    return hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.mark.parametrize("address", ["10.0.0.1", "ray://10.0.0.1:10001", ":6379", "10.0.0.1:redis"])
def test_an_address_of_another_kind_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match=r"is not HOST:PORT"):
        make_engine("ray", address)


def test_an_address_where_nobody_listens_is_refused_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(ConfigError, match=f"no Ray cluster answers at 127.0.0.1:{port} .*ray start --head"):
        make_engine("ray", f"127.0.0.1:{port}")


def test_a_machine_that_is_not_in_the_cluster_is_named(tmp_path: Path) -> None:
    sites: Mapping[str, Site] = {"arm": Site("10.1.2.3", tmp_path / "logs", tmp_path / "run")}
    with pytest.raises(ConfigError, match=r"unknown machine of the cluster '10\.1\.2\.3'"):
        with DistributedCampaign.connect(sites, rows_per_deployment=10):
            pass


def test_a_token_is_looked_for_where_ray_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    assert not cluster.has_token()
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("0" * 32)
    assert cluster.has_token()
    (tmp_path / ".ray" / "auth_token").unlink()
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "elsewhere")
    assert cluster.has_token()
