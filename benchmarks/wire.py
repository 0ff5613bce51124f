"""What travels in a distributed campaign, read off the wire: bytes by step, and whether a row is among them.

Two machines made of network namespaces, with a cable between them whose every frame is read: on one the head of a Ray
cluster and the process that was called, on the other an agent with its logs. Payloads of TCP are put together stream by
stream and searched for the observations of logged rows, those of the offline logs and, to see that the search finds
what is there, those of a simulated deployment, which do travel to their own agent. Linux, with `unshare`, `nsenter`
and `ip`; no root where users may make namespaces.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import runpy
import secrets
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import interleave
import numpy as np

from marline.algorithms import TD3BC
from marline.campaign.distributed import DistributedCampaign, Site
from marline.campaign.read_logs import read_logs
from marline.data import dataset
from marline.data.dataset import Dataset
from marline.envs import make_task
from marline.rollouts.collection import collect_random
from marline.runtime import set_up_jax
from marline.samplers import OTC

HERE, THERE, PORT = "10.77.0.1", "10.77.0.2", 6379
PORTS = ("--node-manager-port=6380", "--object-manager-port=6381", "--min-worker-port=10002", "--max-worker-port=10101")
ALL_FRAMES = 3  # ETH_P_ALL
INSIDE = "MARLINE_BENCHMARK_INSIDE"
TASK = "cooperative-navigation-2"


class Moved(NamedTuple):
    """Payload of TCP in a step: bytes from here to there and back, and all of it for a search."""

    sent: int
    received: int
    content: bytes
    seconds: float


class Wire:
    """Reads every frame of an interface."""

    def __init__(self, interface: str) -> None:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL_FRAMES))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 28)
        self._socket.bind((interface, 0))
        self._streams: dict[bytes, bytearray] = {}
        self._lock = threading.Lock()
        self.ports: set[tuple[str, int]] = set()  # of who was called
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        while True:
            try:
                frame = self._socket.recv(1 << 17)
            except OSError:  # the cable is gone, and with it the other machine
                return
            if frame[12:14] != b"\x08\x00" or frame[23] != socket.IPPROTO_TCP:
                continue
            packet = frame[14 : 14 + int.from_bytes(frame[16:18])] if frame[16:18] != b"\0\0" else frame[14:]
            header = 4 * (packet[0] & 15)
            ends, segment = packet[12:20], packet[header:]
            if segment[13] & 0x12 == 0x12:  # SYN and ACK: the answer of who was called
                self.ports.add((socket.inet_ntoa(ends[:4]), int.from_bytes(segment[:2])))
            payload = segment[4 * (segment[12] >> 4) :]
            with self._lock:
                self._streams.setdefault(ends + segment[:4], bytearray()).extend(payload)

    def take(self) -> tuple[int, int, bytes]:
        """What moved since the last call."""
        with self._lock:
            streams, self._streams = self._streams, {}
        here = socket.inet_aton(HERE)
        sent = sum(len(stream) for ends, stream in streams.items() if ends.startswith(here))
        return sent, sum(map(len, streams.values())) - sent, b"\n".join(bytes(stream) for stream in streams.values())


@contextlib.contextmanager
def two_machines() -> Iterator[tuple[Wire, Sequence[str]]]:
    """The wire between this namespace and another, and what to put before a command that is to run there."""
    run = subprocess.check_call
    run(["ip", "link", "set", "lo", "up"])
    other = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
    there = ["nsenter", f"--net=/proc/{other.pid}/ns/net", "--"]
    try:
        own = os.readlink("/proc/self/ns/net")
        while os.readlink(f"/proc/{other.pid}/ns/net") == own:
            time.sleep(0.05)
        run(["ip", "link", "add", "here", "type", "veth", "peer", "name", "there", "netns", str(other.pid)])
        for where, name, address in (([], "here", HERE), (there, "there", THERE)):
            run([*where, "ip", "link", "set", "lo", "up"])
            run([*where, "ip", "address", "add", f"{address}/24", "dev", name])
            run([*where, "ip", "link", "set", name, "up"])
        yield Wire("here"), there
    finally:
        other.kill()
        other.wait()


@contextlib.contextmanager
def cluster(there: Sequence[str], folder: Path) -> Iterator[None]:
    """A head here and a machine there, with a token."""
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0"}
    os.environ["RAY_worker_niceness"] = "0"  # or workers would yield to all that the machine does
    ray = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", *PORTS]
    head = ["--head", f"--port={PORT}", f"--node-ip-address={HERE}", "--num-cpus=0", "--include-dashboard=false"]
    worker = [f"--address={HERE}:{PORT}", f"--node-ip-address={THERE}", "--num-cpus=2"]
    with (folder / "ray.log").open("w") as log, contextlib.ExitStack() as stack:
        for command in ([*ray, *head, f"--temp-dir={folder / 'ray'}"], [*there, *ray, *worker]):
            process = subprocess.Popen(command, stdout=log, stderr=log)
            stack.callback(process.wait)
            stack.callback(process.terminate)
            wait_for_machines(1 if "--head" in command else 2, log_of=folder)
        yield


def wait_for_machines(number: int, log_of: Path) -> None:
    """Until as many are in the cluster."""
    told = [
        sys.executable,
        "-c",
        f"import ray; ray.init('{HERE}:{PORT}', log_to_driver=False); print(len(ray.nodes()))",
    ]
    for _ in range(30):
        found = subprocess.run(told, capture_output=True, text=True)
        if found.returncode == 0 and int(found.stdout.split()[-1]) >= number:
            return
        time.sleep(2)
    raise SystemExit(f"the cluster did not start:\n{(log_of / 'ray.log').read_text()}")


def rows_in(content: bytes, log: Dataset) -> int:
    """How many of some hundred rows are in what moved, by the bytes of their observations."""
    rows = np.linspace(0, len(log) - 1, min(300, len(log))).astype(int)
    return sum(log.observations[row].astype(np.float32).tobytes() in content for row in rows)


def measure(options: argparse.Namespace, wire: Wire, folder: Path) -> list[list[str]]:
    task = make_task(TASK)
    logs = collect_random(task, options.rows, seed=0)
    sites = {agent: Site(THERE, folder / agent / "logs", folder / agent / "run") for agent in logs}
    for agent, log in logs.items():
        dataset.save(Path(sites[agent].logs), {agent: log})
    hidden = (options.hidden, options.hidden)
    plan: dict[str, Any] = {"algorithm": TD3BC(hidden=hidden), "sampler": OTC("value"), "deployments": 2}
    plan |= {"offline_updates": options.updates, "updates": options.updates}
    table = []

    def step(name: str, work: Callable[[], Any]) -> Any:
        wire.take()
        began = time.perf_counter()
        result = work()
        time.sleep(0.3)  # for the last frames
        moved = Moved(*wire.take(), time.perf_counter() - began)
        offline = sum(rows_in(moved.content, log) for log in logs.values())
        online = sum(rows_in(moved.content, log) for log in played.values())
        kib = [f"{size / 1024:.1f}" for size in (moved.sent, moved.received)]
        table.append([name, *kib, f"{moved.seconds:.1f}", str(offline), str(online)])
        print(table[-1], flush=True)
        return result

    played: dict[str, Dataset] = {}
    with DistributedCampaign.connect(
        sites, address=f"{HERE}:{PORT}", rows_per_deployment=options.rows_per_deployment, **plan
    ) as team:
        step("`number`: actors start", lambda: team.number)
        step("nothing, 10 s", lambda: time.sleep(10))
        step("`number`", lambda: team.number)
        step("`train`", team.train)
        played |= step("`deploy(task)`", lambda: team.deploy(task))
        step("`tune(logs)` of a simulation", lambda: team.tune(played))
        bundles = step("`export()`", team.export)
        paths = {agent: folder / agent / "back" for agent in sites}
        for agent, path in paths.items():
            act(Path(bundles[agent]) / agent, path, logs[agent].spec.observation_size, options.rows_per_deployment)
        played = {agent: read_logs(path).logs[agent] for agent, path in paths.items()}
        step("`tune(paths)`", lambda: team.tune({agent: str(path) for agent, path in paths.items()}))
    return table


def act(bundle: Path, out: Path, observation_size: int, num_rows: int, steps: int = 25) -> None:
    """Let the script of a bundle log episodes, as it would on a robot."""
    server = runpy.run_path(str(bundle / "run_policy.py"))["Agent"](out, bundle)
    random = np.random.default_rng(0)
    for _ in range(num_rows // steps):
        server.step({"observation": random.random(observation_size)})
        for number in range(steps):
            came = {"reward": random.random(), "terminal": False, "timeout": number == steps - 1}
            server.step({"observation": random.random(observation_size), **came})


def inside(options: argparse.Namespace) -> None:
    set_up_jax()
    with tempfile.TemporaryDirectory(prefix="wire") as scratch, two_machines() as (wire, there):
        with cluster(there, Path(scratch)):
            table = measure(options, wire, Path(scratch))
        size = options.rows * dataset_width()
        print(f"\n{options.rows:,} offline rows of {dataset_width()} bytes of an agent: {size / 1024:.0f} KiB\n")
        header = ["step", "KiB to the sites", "KiB from the sites", "s", "offline rows found", "deployed rows found"]
        interleave.print_table(header, table)
        print("ports that were called:", ", ".join(f"{host}:{port}" for host, port in sorted(wire.ports)))


def dataset_width() -> int:
    """Bytes of the observation, action and reward of one agent of the task."""
    spec = next(iter(make_task(TASK).specs.values()))
    return 4 * (spec.observation_size + spec.action_size + 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--rows-per-deployment", type=int, default=1000)
    parser.add_argument("--updates", type=int, default=500)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--quick", action="store_true", help="a small version")
    options = parser.parse_args()
    if options.quick:
        options.rows, options.rows_per_deployment, options.updates, options.hidden = 1000, 100, 5, 8
    if INSIDE in os.environ:
        inside(options)
        return
    users = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    command = ["unshare", *users, "--net", "--kill-child", "--fork", sys.executable, *sys.argv]
    raise SystemExit(subprocess.call(command, env=os.environ | {INSIDE: "1"}))


if __name__ == "__main__":
    main()
