"""One agent's bundle: its policy as ONNX, what it expects and promises, golden vectors, and a script that runs it.

    policy.onnx      observation (and noise, or action_mask) in, action out, both on the scale of the logs
    contract.json    names, units, shapes, bounds, stamps; lists the other files' SHA-256, vouches for itself
    golden.json      inputs, and the actions that must come out
    run_policy.py    serves the policy and writes logs

The same policy in the same versions of everything makes the same bytes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import onnxruntime
from jaxtyping import Array

from marline.data.bundle_names import CONTRACT, POLICY
from marline.data.channels import Channels
from marline.data.files import publish_directory, require_replaceable, require_writable
from marline.data.manifest import require_file_name, write_sealed
from marline.data.migrations import BUNDLE
from marline.errors import DataError, MarlineError, require
from marline.export.graph import BATCH, OPSET, Graph
from marline.export.policies import ACTION, ACTION_MASK, NOISE, OBSERVATION, to_graph
from marline.types import AgentID, Policy, Spec

FILES = (CONTRACT, POLICY, "golden.json", "run_policy.py")
TOLERANCE = 1e-5  # of half the range of an action: of one in [-1, 1], the difference itself
CHECKED_ROWS = 64
GOLDEN_ROWS = 16
# A policy is judged on rows where rounding cannot decide its action: float32 is off by 6e-8 of a number at a time, and
# rows whose action does not survive thirty times as much everywhere are left out. A tie survives a trial half the time.
ROUNDING, TRIALS = 2e-6, 32

Arrays = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True, eq=False)
class Experienced:
    """What an agent saw in its logs: rows to check a policy on, and the range of all of them.

    Attributes:
        observations: [n, obs] float32, at least one row.
        action_masks: [n, act] bool, when discrete; all actions are allowed if None.
        low: [obs] the smallest value of each feature in all logged rows.
        high: [obs] the largest.
    """

    observations: np.ndarray
    action_masks: np.ndarray | None
    low: np.ndarray
    high: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Bundle:
    """A bundle that may leave: onnxruntime has computed what JAX does.

    Attributes:
        agent: whose policy it is.
        policy_sha256: of policy.onnx; logs are stamped with it.
        files: content by name, all but the contract.
        contract: its entries.
        num_checked: rows on which both were compared.
        worst: the largest difference of an action there, for actions scaled to [-1, 1].
    """

    agent: AgentID
    policy_sha256: str
    files: Mapping[str, bytes]
    contract: Mapping[str, Any]
    num_checked: int
    worst: float


def make_bundle(
    agent: AgentID,
    policy: Policy,
    spec: Spec,
    seen: Experienced,
    *,
    tuned_on: int,
    logs_of: int,
    provenance: Mapping[str, object],
    channels: Channels | None = None,
) -> Bundle:
    """Translate a policy and check the translation.

    Args:
        agent: whose policy it is.
        policy: of a kind that `policies.to_graph` knows.
        spec: sizes of its observation and action.
        seen: of the agent's logs.
        tuned_on: the last deployment that the policy was tuned on; 0 is the offline policy.
        logs_of: the deployment in which it will act, which its logs are stamped with.
        provenance: entries of the contract: task, algorithm and the like.
        channels: names, units and ranges of its logs; actions in [-1, 1] if None.

    Raises:
        ConfigError: an unknown kind of policy, one with NaN or an infinity in it, or a range that float32 cannot hold.
        MarlineError: onnxruntime computes something else than JAX.
    """
    _require_finite(agent, policy)
    channels = channels or Channels()
    channels.require_resolution(f"agent {agent!r}")
    graph = to_graph(policy, spec, channels)
    model = graph.serialize()
    policy_sha256 = hashlib.sha256(model).hexdigest()
    given, wanted = _examples(policy, graph, seen)
    wanted = wanted if spec.discrete else channels.answers(wanted)
    tolerance = _tolerance(spec, channels)
    shaken = to_graph(policy, spec, channels, rounding=ROUNDING).serialize()
    settled = _settled(model, shaken, given, tolerance)
    require(
        bool(settled.any()),
        f"rounding decides what the policy of agent {agent!r} does on all {len(settled)} logged rows that were tried, "
        "so no copy of it can be told right from wrong; look for observations of very large size",
    )
    given, wanted = {name: array[settled] for name, array in given.items()}, wanted[settled]
    worst = TOLERANCE * _compare(agent, _run(model, given), given, wanted, tolerance)
    golden = np.linspace(0, len(wanted) - 1, min(len(wanted), GOLDEN_ROWS)).astype(int)
    vectors = {name: array[golden].tolist() for name, array in {**given, ACTION: wanted}.items()}
    contract = {
        "agent": agent,
        **provenance,
        "tuned_on_deployment": tuned_on,
        "logs_of_deployment": logs_of,
        "policy_sha256": policy_sha256,
        "inputs": [_describe_input(graph, name, seen, channels) for name in graph.inputs],
        "outputs": [_describe_action(graph, spec, channels)],
        "golden": {"file": "golden.json", "rows": len(golden), "tolerance": _for_each_action(tolerance)},
        "serving": SERVING,
        "logs": _describe_logs(graph, agent, logs_of, policy_sha256, channels),
        "versions": _versions(),
    }
    files = {
        POLICY: model,
        "golden.json": (json.dumps(vectors) + "\n").encode(),
        "run_policy.py": Path(__file__).with_name("run_policy.py").read_bytes(),
    }
    return Bundle(agent, policy_sha256, files, contract, len(wanted), worst)


def require_place(folder: Path) -> None:
    """Raise `ConfigError` where a folder holds something else than a bundle, `StorageError` if it may not be made."""
    require_replaceable(folder, FILES)
    require_writable(folder / CONTRACT)


def write_bundle(folder: Path, bundle: Bundle) -> None:
    """Write a bundle, which appears as a whole or not at all; an earlier bundle there is replaced, anything else not.

    Raises:
        DataError: the agent's name cannot name a folder.
        ConfigError: the folder holds something else.
        StorageError: the disk is full or the folder may not be written.
    """
    require_file_name(bundle.agent, "agent", DataError)
    records = {
        name: {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
        for name, content in bundle.files.items()
    }
    num_bytes = sum(map(len, bundle.files.values()))
    with publish_directory(folder, replaces=FILES, num_bytes=num_bytes) as scratch:
        for name, content in bundle.files.items():
            (scratch / name).write_bytes(content)
        write_sealed(scratch / CONTRACT, BUNDLE.kind, BUNDLE.newest, bundle.contract, records)


def _require_finite(agent: AgentID, policy: Policy) -> None:
    require(
        all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(policy)),
        f"the policy of agent {agent!r} holds NaN or an infinity, so it cannot act; export an earlier --deployment",
    )


def _examples(policy: Policy, graph: Graph, seen: Experienced) -> tuple[Arrays, np.ndarray]:
    """Inputs by name, and the actions that JAX computes from them."""
    given: Arrays = {OBSERVATION: seen.observations}
    keys = jax.random.split(jax.random.key(0), len(seen.observations))
    if NOISE in graph.inputs:
        shape = graph.inputs[NOISE].shape  # what a policy draws from its key
        given[NOISE] = np.asarray(jax.vmap(lambda key: jax.random.normal(key, shape))(keys))
    if ACTION_MASK in graph.inputs:
        everything = np.ones((len(seen.observations), *graph.inputs[ACTION_MASK].shape), bool)
        given[ACTION_MASK] = everything if seen.action_masks is None else seen.action_masks
    with jax.default_matmul_precision("highest"):
        return given, np.asarray(_act(policy, seen.observations, given.get(ACTION_MASK), keys))


@jax.jit
def _act(policy: Any, observations: Array, masks: Array | None, keys: Array) -> Array:
    def act(observation: Array, mask: Array | None, key: Array) -> Array:
        return policy(observation, key=key, action_mask=mask)

    return jax.vmap(act)(observations, masks, keys)


def _tolerance(spec: Spec, channels: Channels) -> np.ndarray:
    """[act] the largest difference of an action on the field's scale; of a choice there may be none worth the name."""
    if spec.discrete:
        return np.array([TOLERANCE])
    low, high = channels.bounds(spec.action_size)
    # beside a large offset the rounding of the answer itself is more
    return np.maximum(TOLERANCE * (high - low) / 2, 2 * channels.rounding(spec.action_size))


def _for_each_action(values: np.ndarray) -> float | list[float]:
    """One number where it is that of every action, else a list."""
    numbers = values.tolist()
    return numbers[0] if len(set(numbers)) == 1 else numbers


def _settled(model: bytes, shaken: bytes, given: Arrays, tolerance: np.ndarray) -> np.ndarray:
    """[n] whether a graph that is off by a little everywhere acts as the exact one does."""
    wanted, session = _run(model, given), _load(shaken)
    trials = [np.asarray(session.run([ACTION], given)[0]) for _ in range(TRIALS)]
    return np.logical_and.reduce([_difference(actions, wanted, tolerance) <= 1 for actions in trials])


def _compare(agent: AgentID, actions: np.ndarray, given: Arrays, wanted: np.ndarray, tolerance: np.ndarray) -> float:
    """The largest difference between the actions by onnxruntime and those by JAX, in tolerances."""
    difference = _difference(actions, wanted, tolerance)
    worst = int(np.argmax(difference))
    if not difference[worst] <= 1:
        raise MarlineError(
            f"policy.onnx of agent {agent!r} acts otherwise than the policy does: {actions[worst]} instead of "
            f"{wanted[worst]} on {given[OBSERVATION][worst]}. This is a fault of marline; nothing was written"
        )
    return float(difference[worst])


def _difference(actions: np.ndarray, others: np.ndarray, tolerance: np.ndarray) -> np.ndarray:
    """[n] the largest over dimensions, in tolerances."""
    apart = np.abs(actions.astype(np.float64) - others).reshape(len(actions), -1)
    # the range of an action may be a point
    return (apart / np.maximum(tolerance, np.finfo(np.float64).tiny)).max(axis=1)


def _load(model: bytes) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])


def _run(model: bytes, given: Arrays) -> np.ndarray:
    return np.asarray(_load(model).run([ACTION], given)[0])


def _describe_input(graph: Graph, name: str, seen: Experienced, channels: Channels) -> dict[str, Any]:
    dtype, shape = graph.inputs[name]
    described = {"name": name, "dtype": dtype, "shape": [BATCH, *shape], "units": None}
    if name == OBSERVATION:
        described |= {"names": channels.observation_names, "units": channels.observation_units}
        described["scaling"] = "as logged; where the policy standardises, policy.onnx does"
        described["seen"] = {"low": seen.low.tolist(), "high": seen.high.tolist()}
    elif name == NOISE:
        described["meaning"] = "standard normal numbers, drawn anew for every observation"
    else:
        described["meaning"] = "true where an action is allowed, at least one; all true where nothing is forbidden"
    return described


def _describe_action(graph: Graph, spec: Spec, channels: Channels) -> dict[str, Any]:
    dtype, shape = graph.outputs[ACTION]
    described = {"name": ACTION, "dtype": dtype, "shape": [BATCH, *shape]}
    described |= {"names": channels.action_names, "units": channels.action_units}
    if spec.discrete:
        scaling = "the number of an action; names, where there are any, are in their order"
        return {**described, "low": 0, "high": spec.action_size - 1, "scaling": scaling}
    low, high = map(_for_each_action, channels.bounds(spec.action_size))
    scaling = "that of the logs; nothing needs to be clipped. One bound is for every number of the action"
    return {**described, "low": low, "high": high, "scaling": scaling}


def _describe_logs(
    graph: Graph, agent: AgentID, deployment: int, policy_sha256: str, channels: Channels
) -> dict[str, Any]:
    vector = {"dtype": "float32", "shape": ["steps", *graph.inputs[OBSERVATION].shape]}
    action = graph.outputs[ACTION]
    flag = {"dtype": "bool", "shape": ["steps"]}
    arrays = {
        "observations": vector,
        "actions": {"dtype": action.dtype, "shape": ["steps", *action.shape]},
        "rewards": {"dtype": "float32", "shape": ["steps"]},
        "terminals": flag,
        "timeouts": flag,
        "next_observations": vector,
    }
    if ACTION_MASK in graph.inputs:
        mask = {"dtype": "bool", "shape": ["steps", *graph.inputs[ACTION_MASK].shape]}
        arrays |= {"action_masks": mask, "next_action_masks": mask}
    stamp: dict[str, object] = {"agent": agent, "deployment": deployment, "policy_sha256": policy_sha256}
    if channels.to_json():
        stamp["channels"] = json.dumps(channels.to_json())
    return {"format": LOG_FORMAT, "arrays": arrays, "stamp": stamp}


def _versions() -> dict[str, str]:
    packages = ("marline", "jax", "numpy", "onnx", "onnxruntime")
    versions = {name: importlib.metadata.version(name) for name in packages}
    return {**versions, "python": platform.python_version(), "opset": str(OPSET)}


SERVING = {
    "command": "python run_policy.py LOGS",
    "first step of an episode": '{"observation": [...]}',
    "every later step": '{"observation": [...], "reward": 0.5, "terminal": false, "timeout": false}: what came of the '
    "last action; terminal if the episode ended for good, timeout if it was cut",
    "answer": '{"action": ...}, or {"log": FILE} to the step that ends the episode; the next line starts another',
    "discrete actions": 'every step also has "action_mask": [true, ...]',
}
LOG_FORMAT = (
    "one NumPy .npz file per episode, named in order; D4RL's keys, one row per step and a scalar for each stamp. "
    "It is not HDF5 because that would need a package more on the machine"
)
