"""The rival of weights: every logged row stays, and tells what today's law foretells of it."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from marline.data.experience import Experience
from marline.errors import require_name
from marline.inputs.arguments import checked
from marline.nn.batched_cond import batched_cond
from marline.nn.outcome_law import OutcomeLaw
from marline.ops.law_ratio import agreed_prediction
from marline.samplers import dynamics_ratio
from marline.samplers.dynamics_ratio import DynamicsRatio, standardised
from marline.samplers.folds import NUM_FOLDS
from marline.types import Critic, KnownReward, Metrics, Spec, Transition

NUM_MEASURED = 4096  # offline rows, at most, of which it is measured how far targets moved


class Range(NamedTuple):
    """The least and the greatest that was logged; what is foretold stays within.

    Attributes:
        observation: [2, obs], of s and s'.
        reward: [2].
    """

    observation: Float[Array, "2 obs"]
    reward: Float[Array, " 2"]


class State(NamedTuple):
    """Memory of the gate, and what the last deployment told.

    Attributes:
        gate: P_logs as it was fitted to B^0, with its units.
        today: members of P_today, [folds].
        logs: P_logs trained on for as long, [folds].
        logged: how far what is foretold may go.
        is_open: whether rows are told anew.
    """

    gate: dynamics_ratio.State
    today: OutcomeLaw
    logs: OutcomeLaw
    logged: Range
    is_open: Bool[Array, ""]


@dataclasses.dataclass(frozen=True)
@checked
class Retarget:
    """Draws as uniform replay does; of offline rows (s, a), s' and r become what today's law foretells.

    s' := s + E[s' - s | s, a], and r := r(s, a, s') where the task knows it, else E[r | s, a], under P_today of
    `DynamicsRatio`, where its gate finds that the law changed. While the gate is shut, the very rows are learned from,
    unchanged, that uniform replay draws. Online rows and ends of episodes stay what they are; so do masks.

    Of each number that is foretold, the members of P_today count as far as they agree: it is the one nearest to what
    P_logs foretells, and that itself where they lie on both sides of it. Nothing that is foretold leaves the range of
    what was logged.

    Its control is the same with `law="logs"`: outcomes are foretold by P_logs, trained on for as long, under the same
    gate. The two differ in today's law and in nothing else. No rows are preferred, so a shuffled control tells nothing.

    Attributes:
        law: by which outcomes are foretold.
        known_reward: gives the reward of a step; None takes that which the law foretells, or leaves the logged one if
            the gate's laws do not learn it.
        gate: whose laws, test, batches and `online_share` are used.
    """

    law: Literal["today", "logs"] = "today"
    known_reward: KnownReward | None = None
    gate: DynamicsRatio = DynamicsRatio()
    prefers_rows: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require_name(self.law, ("today", "logs"), "law")

    @property
    def batch_size(self) -> int:
        return self.gate.batch_size

    def informed_by(self, task: object) -> Retarget:
        """The same, told the reward of the task where that can be computed from what an agent sees."""
        return dataclasses.replace(self, known_reward=task) if isinstance(task, KnownReward) else self

    def init(self, experience: Experience, *, key: PRNGKeyArray) -> State:
        """The law of the logs; until a deployment begins, rows are learned from as they are."""
        gate = self.gate.init(experience, key=key)
        laws = jax.tree.map(lambda leaf: jnp.stack([leaf] * NUM_FOLDS), gate.logs_law)
        return State(gate, laws, laws, _range_of(experience), jnp.bool_(False))

    def begin_deployment(
        self, state: State, experience: Experience, critic: Critic | None, *, key: PRNGKeyArray
    ) -> tuple[State, Metrics]:
        """Learn today's law, and ask whether it is another one."""
        judged = self.gate.judge(state.gate, experience, key=key)
        state = State(state.gate, judged.members, judged.logs, _range_of(experience), judged.is_open)
        num = experience.num_offline
        rows = experience[jnp.linspace(0, num - 1, min(num, NUM_MEASURED)).astype(jnp.int32)]
        inputs, _, _ = standardised(state.gate.scales, rows, experience.spec)
        moved = jax.vmap(lambda inputs: jnp.mean(jnp.abs(jnp.subtract(*_foretold(state, inputs)))))(inputs)
        return state, {**judged.metrics, "target_shift": jnp.where(judged.is_open, jnp.mean(moved), 0.0)}

    def sample(
        self, state: State, experience: Experience, critic: Critic | None, *, key: PRNGKeyArray
    ) -> tuple[Int[Array, " batch"], State, Metrics]:
        """One batch, of the rows that uniform replay draws."""
        rows, _, metrics = self.gate.sample(state.gate, experience, critic, key=key)
        return rows, state, metrics

    def rewrite(
        self, state: State, rows: Int[Array, " batch"], batch: Transition, experience: Experience, *, key: PRNGKeyArray
    ) -> Transition:
        """What the law foretells of offline rows after which their episode went on."""

        def retargeted(batch: Transition, rows: Array, state: State) -> Transition:
            # that an episode ended, and with what, no law of s' - s tells
            is_told_anew = (rows < experience.num_offline) & (batch.discount > 0)
            following, reward = jax.vmap(self._outcome, (None, 0, None))(state, batch, experience.spec)
            return batch._replace(
                next_observation=jnp.where(is_told_anew[:, None], following, batch.next_observation),
                reward=jnp.where(is_told_anew, reward, batch.reward),
            )

        return batched_cond(state.is_open, retargeted, batch, rows, state)

    def _outcome(self, state: State, row: Transition, spec: Spec) -> tuple[Float[Array, " obs"], Float[Array, ""]]:
        """s' and r of one row, as the law foretells them."""
        scales, (low, high) = state.gate.scales, state.logged.observation
        inputs, _, _ = standardised(scales, row, spec)
        today, logs = _foretold(state, inputs)
        outcome = scales.outcome.mean + scales.outcome.scale * (today if self.law == "today" else logs)
        following = jnp.clip(row.observation + outcome[: low.size], low, high)
        if self.known_reward is not None:
            return following, self.known_reward.reward_of(row.observation, row.action, following)
        return following, jnp.clip(outcome[-1], *state.logged.reward) if scales.learn_reward else row.reward


def _foretold(state: State, inputs: Float[Array, " in"]) -> tuple[Float[Array, " out"], Float[Array, " out"]]:
    """y under today's law, as far as its members agree, and under the law of the logs; standardised."""
    today, logs = (jax.vmap(lambda law: law(inputs)[0])(laws) for laws in (state.today, state.logs))
    of_logs = jnp.mean(logs, axis=0)
    return agreed_prediction(of_logs, today), of_logs


def _range_of(experience: Experience) -> Range:
    """Of all rows that are there."""
    num = experience.online_rows.shape[0]
    place = experience.num_offline + jnp.arange(num)
    parts = [experience.offline()]
    if num:  # in place of a row that is not logged yet, the first of all
        parts.append(experience[jnp.where(place < experience.size, place, 0)])
    seen = jnp.concatenate([leaf for rows in parts for leaf in (rows.observation, rows.next_observation)])
    reward = jnp.concatenate([rows.reward for rows in parts])
    return Range(
        jnp.stack([jnp.min(seen, axis=0), jnp.max(seen, axis=0)]), jnp.stack([jnp.min(reward), jnp.max(reward)])
    )
