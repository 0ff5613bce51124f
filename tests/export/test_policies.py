"""Every algorithm's policy as ONNX: the same actions, the same bytes, and what is refused."""

from __future__ import annotations

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import onnxruntime
import pytest
from random_policies import CONTINUOUS, DISCRETE, policy_of, seen

from marline.algorithms import ALGORITHMS, td3_bc
from marline.errors import ConfigError, MarlineError
from marline.export import policies
from marline.export.bundle import make_bundle
from marline.export.graph import Graph
from marline.export.policies import to_graph
from marline.policy import RandomPolicy


def run(graph: Graph, **given: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(graph.serialize(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["action"], given)[0])


@pytest.mark.parametrize("name", ALGORITHMS)
def test_onnx_acts_as_jax_does_and_the_same_policy_makes_the_same_bytes(name: str) -> None:
    spec = DISCRETE if name == "cql" else CONTINUOUS
    bundles = [
        make_bundle("a", policy_of(name, spec), spec, seen(spec), tuned_on=3, logs_of=4, provenance={"task": None})
        for _ in range(2)
    ]
    bundle = bundles[0]
    assert bundle.num_checked > 20 and bundle.worst <= 1e-5
    assert bundle.files == bundles[1].files and bundle.contract == bundles[1].contract
    names = [tensor["name"] for tensor in bundle.contract["inputs"]]
    extra = {"cql": ["action_mask"], "bcq": ["noise"], "mabcq": ["noise"]}
    assert names == ["observation", *extra.get(name, [])]
    other = policy_of(name, spec, seed=2)
    assert to_graph(other, spec).serialize() != bundle.files["policy.onnx"]


def test_a_mask_and_ties_are_decided_as_in_jax() -> None:
    graph = to_graph(jax.tree.map(jnp.zeros_like, policy_of("cql", DISCRETE)), DISCRETE)
    masks = np.array([[1, 1, 1, 1], [0, 0, 1, 1], [0, 0, 0, 1]], bool)
    assert run(graph, observation=np.zeros((3, 5), np.float32), action_mask=masks).tolist() == [0, 2, 3]


def test_bounds_are_inside_whatever_is_fed() -> None:
    observation = 1e6 * seen(CONTINUOUS).observations
    noise = 1e6 * np.random.default_rng(0).normal(size=(len(observation), 3, 4)).astype(np.float32)
    actions = run(to_graph(policy_of("bcq", CONTINUOUS), CONTINUOUS), observation=observation, noise=noise)
    assert actions.shape == (len(observation), 2) and np.abs(actions).max() <= 1.0


class Negated(eqx.Module):
    """A policy whose translation below is wrong."""

    policy: td3_bc.Policy

    def __call__(self, observation: Any, *, key: Any, action_mask: Any = None) -> Any:
        return -self.policy(observation, key=key)


@policies.emit.register(Negated)
def _(policy: Negated, graph: Graph, observation: str) -> str:
    return policies.emit(policy.policy, graph, observation)


def test_a_wrong_translation_never_leaves() -> None:
    policy = Negated(policy_of("td3-bc", CONTINUOUS))
    with pytest.raises(MarlineError, match="policy.onnx of agent 'a' acts otherwise than the policy does"):
        make_bundle("a", policy, CONTINUOUS, seen(CONTINUOUS), tuned_on=0, logs_of=1, provenance={})


def test_rows_on_which_rounding_decides_are_left_out() -> None:
    policy = policy_of("cql", DISCRETE)
    last = policy.network.mlp.layers[-1]
    tied = eqx.tree_at(
        lambda policy: (policy.network.mlp.layers[-1].weight, policy.network.mlp.layers[-1].bias),
        policy,
        (last.weight.at[:, 1:].set(last.weight[:, :1]), last.bias.at[1:].set(last.bias[0])),
    )
    rows = seen(DISCRETE)
    with pytest.raises(ConfigError, match="rounding decides what the policy of agent 'a' does on all 40"):
        make_bundle(
            "a", tied, DISCRETE, dataclasses.replace(rows, action_masks=None), tuned_on=0, logs_of=1, provenance={}
        )
    forced = rows.observations[:, 0] > 0  # one action is left there, so nothing hangs on the tie
    masks = np.where(forced[:, None], np.arange(4) == 3, True)
    alone = dataclasses.replace(rows, action_masks=masks)
    assert make_bundle("a", tied, DISCRETE, alone, tuned_on=0, logs_of=1, provenance={}).num_checked == forced.sum()


def test_unknown_and_broken_policies_are_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"type marline\.policy\.RandomPolicy cannot be exported; known .*bcq.Policy, "
    ):
        to_graph(RandomPolicy(CONTINUOUS), CONTINUOUS)
    policy = policy_of("iql", CONTINUOUS)
    broken = eqx.tree_at(lambda policy: policy.actor.mlp.layers[0].bias, policy, jnp.full(6, jnp.nan))
    with pytest.raises(ConfigError, match="agent 'a' holds NaN or an infinity"):
        make_bundle("a", broken, CONTINUOUS, seen(CONTINUOUS), tuned_on=0, logs_of=1, provenance={})
