"""Soft actor-critic learns to drive a whole robot; its policy on the way, and what it played, are others' logs."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from marline.behaviour_policy.sac import SAC, Policy, State
from marline.data.dataset import Dataset
from marline.data.experience import pack, row_width, unpack
from marline.envs import MultiAgentMujoco, Robot
from marline.errors import require
from marline.ops.row_draws import rows_with_replacement
from marline.policy import RandomPolicy
from marline.rollouts import simulation
from marline.rollouts.collection import evaluate
from marline.types import Spec, Transition

JOINT = "agent_0"  # who drives all joints


@dataclasses.dataclass(frozen=True)
class Training:
    """How a robot is taught: after each episode as many updates as it had steps, so one per step.

    Episodes are what is repeated after a kill: between two of them nothing is under way, and each depends on its
    number, the seed and the learner alone.

    Attributes:
        robot: which one.
        version: of Gymnasium's environment.
        seed: of networks, episodes and batches.
        sac: what learns.
        warm_up: steps of uniformly random actions before the first update.
        batch_size: rows per update, drawn uniformly from all so far.
        evaluate_every: steps between two evaluations.
        evaluation_episodes: whose mean return decides; actions are drawn as they are for the logs.
        horizon: steps of an episode.
    """

    robot: Robot
    version: int = 4
    seed: int = 0
    sac: SAC = dataclasses.field(default_factory=SAC)
    warm_up: int = 1000
    batch_size: int = 256
    evaluate_every: int = 5000
    evaluation_episodes: int = 10
    horizon: int = 1000

    def __post_init__(self) -> None:
        for name in ("warm_up", "batch_size", "evaluate_every", "evaluation_episodes", "horizon"):
            require(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}, but must be at least 1")
        require(0 <= self.seed < 2**31, f"seed is {self.seed}, but must lie in [0, 2^31)")

    @property
    def task(self) -> MultiAgentMujoco:
        """The robot, all of whose joints one agent drives."""
        return MultiAgentMujoco(self.robot, 1, self.version, self.horizon, num_environments=1)

    @property
    def spec(self) -> Spec:
        return self.task.specs[JOINT]


class Played(NamedTuple):
    """Steps of the training, in their order.

    Attributes:
        rows: with the actions of all joints.
        ends: whether a row is the last of its episode.
    """

    rows: Transition
    ends: np.ndarray

    @staticmethod
    def join(parts: Sequence[Played]) -> Played:
        return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)

    def log(self, spec: Spec, first_joint: int = 0) -> Dataset:
        """The log of an agent that drives as many joints as its spec has, from the given one on."""
        rows, joints = self.rows, slice(first_joint, first_joint + spec.action_size)
        terminals = np.asarray(rows.discount == 0.0)
        return Dataset(
            spec=spec,
            observations=np.asarray(rows.observation),
            actions=np.asarray(rows.action)[:, joints],
            rewards=np.asarray(rows.reward),
            terminals=terminals,
            timeouts=self.ends & ~terminals,
            next_observations=np.asarray(rows.next_observation),
        )


class Evaluation(NamedTuple):
    """How well the policy did after so many steps and episodes of training."""

    num_steps: int
    num_episodes: int
    mean_return: float


class Lesson(NamedTuple):
    """Where a training stands when its policy has just been evaluated.

    Attributes:
        learner: networks and optimizers.
        evaluations: all so far.
        played: the steps since the evaluation before.
    """

    learner: State
    evaluations: tuple[Evaluation, ...]
    played: Played


def teach(training: Training, max_steps: int, last: Lesson | None = None) -> Iterator[Lesson]:
    """Train, evaluation by evaluation, as long as there is room for another step.

    Args:
        training: who learns what.
        max_steps: room in the replay buffer.
        last: the lesson to go on from, with all steps so far; what follows is the same, bit for bit, as if there had
            been no interruption.
    """
    network_key, play_key, update_key, evaluation_key = jax.random.split(jax.random.key(training.seed), 4)
    task, sac, spec = training.task, training.sac, training.spec
    # room for one more episode: what is written behind its last row is overwritten by the next
    buffer = jnp.zeros((max_steps + training.horizon, row_width(spec)))
    if last is None:
        learner, evaluations = jax.jit(sac.init, static_argnums=0)(spec, key=network_key), ()
        num_steps = num_episodes = 0
    else:
        learner, evaluations = last.learner, last.evaluations
        num_steps, num_episodes, _ = evaluations[-1]
        buffer = _append(buffer, pack(last.played.rows, spec), jnp.int32(0))
    played: list[Played] = []
    while num_steps < max_steps:
        warming_up = num_steps < training.warm_up
        policy = RandomPolicy(spec) if warming_up else sac.policy(learner)
        rollout = simulation.play(task, {JOINT: policy}, 1, key=play_key, first_episode=num_episodes)
        episode = Played(rollout.transitions[JOINT], rollout.ends[JOINT])
        played.append(episode)
        length = len(episode.ends)
        packed = np.pad(pack(episode.rows, spec), ((0, training.horizon - length), (0, 0)))  # of one shape for all
        buffer = _append(buffer, packed, jnp.int32(num_steps))
        if not warming_up:
            learner = _learn(learner, buffer, jnp.int32(num_steps), jnp.int32(length), update_key, training=training)
            jax.block_until_ready(learner)  # an interrupted Python crashes on leaving what still computes
        due = (num_steps + length) // training.evaluate_every > num_steps // training.evaluate_every
        num_steps, num_episodes = num_steps + length, num_episodes + 1
        if due:
            mean_return = _evaluate(training, sac.policy(learner), evaluation_key)
            evaluations = (*evaluations, Evaluation(num_steps, num_episodes, mean_return))
            yield Lesson(learner, evaluations, Played.join(played))
            played = []


def _evaluate(training: Training, policy: Policy, key: PRNGKeyArray) -> float:
    """Mean return over episodes that are the same every time."""
    seats = dataclasses.replace(training.task, num_environments=min(training.evaluation_episodes, 16))
    return float(evaluate(seats, {JOINT: policy}, training.evaluation_episodes, key=key).returns.mean())


@functools.partial(jax.jit, donate_argnums=0)
def _append(
    buffer: Float[Array, "capacity width"], packed: Float[Array, "n width"], start: Int[Array, ""]
) -> Float[Array, "capacity width"]:
    return jax.lax.dynamic_update_slice(buffer, packed, (start, jnp.int32(0)))


@functools.partial(jax.jit, static_argnames="training")
def _learn(
    learner: State,
    buffer: Float[Array, "capacity width"],
    num_before: Int[Array, ""],
    num_updates: Int[Array, ""],
    key: PRNGKeyArray,
    *,
    training: Training,
) -> State:
    """`num_updates` updates on `num_before` + `num_updates` rows; the update of step t has the t-th key."""

    def step(number: Array, learner: State) -> State:
        row_key, learner_key = jax.random.split(jax.random.fold_in(key, num_before + number))
        drawn = rows_with_replacement(0, num_before + num_updates, training.batch_size, key=row_key)
        learner, _ = training.sac.update(learner, unpack(buffer[drawn], training.spec), key=learner_key)
        return learner

    return jax.lax.fori_loop(0, num_updates, step, learner)
