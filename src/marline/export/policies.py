"""Each kind of policy as an ONNX graph: one observation per row, and everything between it and the action inside."""

from __future__ import annotations

import functools
from typing import Any

from marline.algorithms import bcq, cql, td3_bc
from marline.data.channels import Channels
from marline.errors import ConfigError
from marline.export.graph import Graph
from marline.nn.actors import MeanPolicy, SquashedGaussianActor
from marline.ops.conservative import FORBIDDEN
from marline.types import Policy, Spec

OBSERVATION, NOISE, ACTION_MASK, ACTION = "observation", "noise", "action_mask", "action"


def to_graph(policy: Policy, spec: Spec, channels: Channels | None = None, *, rounding: float = 0.0) -> Graph:
    """A policy whose inputs are `observation` and, where it needs them, `noise` and `action_mask`.

    Observations are fed as they are logged, and actions come out on the scale of the logs: a normalizer is part of
    the graph, and so are bounds and the way from [-1, 1] to the range of the field.
    Noise is standard normal, drawn anew for every observation; random numbers made inside a graph
    could not be checked against anything.

    Args:
        policy: what to translate.
        spec: sizes of its observation and action.
        channels: the range of its actions; [-1, 1] if None.
        rounding: see `Graph`.

    Raises:
        ConfigError: nothing here knows this kind of policy.
    """
    graph = Graph(rounding=rounding)
    action = emit(policy, graph, graph.input(OBSERVATION, "float32", spec.observation_size))
    if spec.discrete:
        graph.output(action, ACTION, "int64")
    else:
        graph.output(_scaled(graph, action, channels or Channels(), spec), ACTION, "float32", spec.action_size)
    return graph


def _scaled(graph: Graph, action: str, channels: Channels, spec: Spec) -> str:
    """An action in [-1, 1] on the field's scale."""
    if not channels.has_scale:
        return action
    low, high = channels.bounds(spec.action_size)
    least, most = channels.float32_bounds(spec.action_size)
    scaled = graph.node("Mul", action, graph.constant((high - low) / 2))
    scaled = graph.node("Add", scaled, graph.constant((low + high) / 2))
    return graph.node("Min", graph.node("Max", scaled, graph.constant(least)), graph.constant(most))


@functools.singledispatch
def emit(policy: Any, graph: Graph, observation: str) -> str:
    """Add what a policy computes from the value `observation`; returns the name of its action."""
    known = ", ".join(sorted(_name(kind) for kind in emit.registry if kind is not object))
    raise ConfigError(
        f"policies of type {_name(type(policy))} cannot be exported; known are {known}: register a function for it "
        "with marline.export.policies.emit"
    )


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


@emit.register(td3_bc.Policy)
def _(policy: td3_bc.Policy, graph: Graph, observation: str) -> str:
    return graph.node("Tanh", graph.mlp(policy.actor.mlp, graph.normalize(policy.normalizer, observation)))


@emit.register(MeanPolicy)
def _(policy: MeanPolicy, graph: Graph, observation: str) -> str:
    output = graph.mlp(policy.actor.mlp, observation)
    if isinstance(policy.actor, SquashedGaussianActor):  # the log-std is behind the mean
        start, stop, axis = (graph.constant([bound]) for bound in (0, policy.actor.action_size, -1))
        output = graph.node("Slice", output, start, stop, axis)
    return graph.node("Tanh", output)


@emit.register(cql.Policy)
def _(policy: cql.Policy, graph: Graph, observation: str) -> str:
    num_actions = policy.network.mlp.layers[-1].bias.shape[0]
    mask = graph.input(ACTION_MASK, "bool", num_actions)
    q_values = graph.mlp(policy.network.mlp, observation)
    return graph.argmax(graph.node("Where", mask, q_values, graph.constant(FORBIDDEN)), axis=-1)


@emit.register(bcq.Policy)
def _(policy: bcq.Policy, graph: Graph, observation: str) -> str:
    actor, num = policy.proposal.actor, policy.num_candidates
    noise = graph.input(NOISE, "float32", num, 2 * actor.action_size)
    every = graph.node("Unsqueeze", observation, graph.constant([1]))
    every = graph.node("Expand", every, graph.constant([1, num, 1]))  # the observation, once for each candidate
    latent = graph.clip(noise, -bcq.LATENT_CLIP, bcq.LATENT_CLIP)
    likely = graph.node("Tanh", graph.mlp(policy.proposal.vae.decoder, graph.concatenate(every, latent)))
    direction = graph.node("Tanh", graph.mlp(actor.mlp, graph.concatenate(every, likely)))
    step = graph.node("Mul", graph.constant(actor.max_perturbation), direction)
    candidates = graph.clip(graph.node("Add", likely, step), -1.0, 1.0)
    q_values = graph.mlp(policy.critic.mlp, graph.concatenate(every, candidates))  # [batch, candidates, 1]
    return graph.node("GatherND", candidates, graph.argmax(q_values, axis=1), batch_dims=1)
