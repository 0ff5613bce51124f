"""A share of fresh rows that each agent finds for itself: the smallest that its TD errors ask for."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from marline.data.experience import Experience
from marline.data.normalization import Normalizer
from marline.errors import require
from marline.inputs.arguments import checked
from marline.nn.cvae import state_action
from marline.ops.law_ratio import ClusteredMean, clustered_mean
from marline.ops.row_draws import rows_without_replacement
from marline.ops.share_choice import smallest_share_that_does
from marline.samplers.draw_plan import DrawPlan
from marline.samplers.folds import deal_out
from marline.samplers.fresh_share import fresh_plan, fresh_rows
from marline.samplers.td_errors import NUM_DRAWN, Mixtures, Regression
from marline.samplers.weighted_offline import natural_share
from marline.types import Critic, Metrics


class State(NamedTuple):
    """The share that was found, and the units of (s, a), frozen at B^0."""

    share: Float[Array, ""]
    inputs: Normalizer


@dataclasses.dataclass(frozen=True)
@checked
class AdaptiveShare:
    """Like `FreshShare`, with a share that is found anew at each deployment, from the agent's own rows and critic.

    Fresh rows are few, and narrow; the only reason to replay them more often than others is that they tell the critic
    something which the offline rows do not. Whether they do is a question of held-out data: for each of some shares, a
    small network learns the critic's TD errors r + gamma V(s') - Q(s, a) of a mixture of fresh and offline rows, and is
    judged by how well it foretells those of episodes of the current deployment that it has not seen. The smallest share
    wins that is within one standard error, over episodes, of the best (the rule of Breiman et al. 1984 for the simplest
    model that will do). Where the critic errs by nothing but noise, or offline rows tell as much, it is the share that
    uniform replay has; where fresh rows lie where the logs have never been, or contradict them, it is a large one.

    Attributes:
        shares: that are tried beside that of uniform replay, which is also the least.
        hidden: widths of the hidden layers of the networks.
        learning_rate: of AdamW.
        weight_decay: of AdamW.
        error_batch_size: fresh rows, and offline rows, per training step.
        num_updates: training steps per deployment.
        batch_size: rows per update.
    """

    shares: tuple[float, ...] = (0.05, 0.1, 0.25, 0.5, 0.75)
    hidden: tuple[int, ...] = (64, 64)
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    error_batch_size: int = 128
    num_updates: int = 1000
    batch_size: int = 128
    prefers_rows: ClassVar[bool] = False
    draws_by_plan: ClassVar[bool] = True

    def __post_init__(self) -> None:
        shares = self.shares
        require(
            len(shares) > 0 and all(0 < share <= 1 for share in shares) and list(shares) == sorted(set(shares)),
            f"shares are {shares}, but need one or more numbers in (0, 1], each larger than the one before",
        )
        require(all(width >= 1 for width in self.hidden), f"hidden is {self.hidden}; every layer needs at least 1 unit")
        require(self.learning_rate > 0, f"learning_rate is {self.learning_rate}, but must be positive")
        decay = self.weight_decay
        require(0 <= decay < math.inf, f"weight_decay is {decay}, but must be finite and at least 0, which is none")
        for name in ("error_batch_size", "num_updates", "batch_size"):
            require(getattr(self, name) > 0, f"{name} is {getattr(self, name)}, but must be at least 1")

    def init(self, experience: Experience, *, key: PRNGKeyArray) -> State:
        """No fresh rows yet."""
        return State(jnp.float32(0.0), Normalizer.fit(state_action(experience.offline(), experience.spec)))

    def begin_deployment(
        self, state: State, experience: Experience, critic: Critic | None, *, key: PRNGKeyArray
    ) -> tuple[State, Metrics]:
        """Find the share; an algorithm without values gets that of uniform replay."""
        natural = natural_share(experience)
        if critic is None:
            return state._replace(share=natural), {"fresh_share": natural}
        shares = jnp.maximum(jnp.concatenate([natural[None], jnp.array(self.shares)]), natural)
        folds = deal_out(experience)
        regression = Regression(
            self.hidden, self.learning_rate, self.weight_decay, self.error_batch_size, self.num_updates
        )

        row_key, judge_key = jax.random.split(key)
        first = experience.num_offline
        drawn = rows_without_replacement(0, first, min(NUM_DRAWN, first), key=row_key)
        ways = Mixtures(shares, drawn[None])
        errors, means = regression.held_out(state.inputs, experience, critic, folds, ways, key=judge_key)
        count = folds.is_logged.astype(jnp.float32)

        def excess(number: Int[Array, ""], best: Int[Array, ""]) -> ClusteredMean:
            return clustered_mean(errors[number] - errors[best], count, folds.cluster)

        chosen = smallest_share_that_does(means, excess)
        share = shares[chosen]
        return state._replace(share=share), {
            "fresh_share": share,
            "td_error_by_share": means,
            "fresh_share_best": shares[jnp.argmin(means)],
        }

    def sample(
        self, state: State, experience: Experience, critic: Critic | None, *, key: PRNGKeyArray
    ) -> tuple[Int[Array, " batch"], State, Metrics]:
        """One batch."""
        return fresh_rows(experience, state.share, self.batch_size, key=key), state, {}

    def plan(self, state: State, experience: Experience) -> DrawPlan:
        return fresh_plan(experience, state.share, self.batch_size)
