"""What OTC matches on and what it compares: a family of feature maps.

Each distance gives two feature vectors per row. The L1 distance of the first picks the
best match of a row among the online rows (Eq. 1); the L1 distance of the second, between a
row and its match, is how far the row is from what the last deployment saw.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, NamedTuple, Protocol, TypeVar, runtime_checkable

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from marline.data.experience import Experience
from marline.data.normalization import Normalizer
from marline.errors import ConfigError, require, require_name
from marline.inputs.arguments import checked
from marline.nn.cvae import ConditionalVAE, one_hot_action
from marline.nn.train_state import TrainState
from marline.ops.conservative import masked_q
from marline.ops.known_rows import mean_of_known
from marline.ops.row_draws import rows_with_replacement
from marline.ops.value_deviation import common_mean_and_std, floor_binds, value_deviation, value_ratio
from marline.ops.value_targets import next_values
from marline.ops.variational import active_units, gaussian_kl
from marline.types import Critic, Metrics, Spec, Transition

S = TypeVar("S")
Rows = Int[Array, " n"]
References = Int[Array, " m"]
Floors = Float[Array, ""]

VALUED_AT_ONCE = 4096
WIDEST_VECTOR = 16  # numbers: rows beyond the last full vector are rounded otherwise than those before


class Features(NamedTuple):
    """Of each row: what is matched, and what is compared; None where that is the same."""

    state_action: Float[Array, "n e"]
    next_state: Float[Array, "n f"] | None = None

    @property
    def compared(self) -> Float[Array, "n f"]:
        """What is compared, under its name or that of what is matched."""
        return self.state_action if self.next_state is None else self.next_state


@runtime_checkable
class Distance(Protocol[S]):
    """A frozen dataclass, like a sampler; its state holds what is frozen at B^0."""

    def init(self, experience: Experience, *, key: PRNGKeyArray) -> S:
        """Fit what the distance needs on B^0."""
        ...

    def begin_deployment(self, state: S, experience: Experience) -> tuple[S, Metrics]:
        """Take in the rows that the deployment added."""
        ...

    def features(
        self,
        state: S,
        experience: Experience,
        critic: Critic | None,
        candidates: Rows,
        references: References,
        *,
        key: PRNGKeyArray,
    ) -> tuple[Features, Features, Floors]:
        """Features of the rows to be drawn from and of the online rows they are matched with.

        Last, how many divisors were too small and were floored.
        """
        ...


@dataclasses.dataclass(frozen=True)
@checked
class ValueDistance:
    """d_q (section 3.3): match on Q(s, a), compare V(s') as deviations from its mean.

    Where V samples actions, all rows of a comparison are valued with the same random numbers.

    Attributes:
        mean: "common" measures all deviations from one mean, so that a row matched with itself is at
            distance 0. Candidates and references count for half of it each: were it a mean over rows,
            distances would depend on how many of either are compared. "separate" has one mean for the
            candidates and one for the references, as the paper's formula. "ratio" is that formula as it
            stands, V / E V of either side: no floor, and where a mean has another sign or is 0, whatever
            comes of it.
    """

    mean: Literal["common", "separate", "ratio"] = "common"

    def __post_init__(self) -> None:
        require_name(self.mean, ("common", "separate", "ratio"), "mean")

    def init(self, experience: Experience, *, key: PRNGKeyArray) -> tuple[()]:
        return ()

    def begin_deployment(self, state: tuple[()], experience: Experience) -> tuple[tuple[()], Metrics]:
        return (), {}

    def features(
        self,
        state: tuple[()],
        experience: Experience,
        critic: Critic | None,
        candidates: Rows,
        references: References,
        *,
        key: PRNGKeyArray,
    ) -> tuple[Features, Features, Floors]:
        if critic is None:
            raise ConfigError("d_q compares values, and this algorithm learns none; use otc-embedding or otc-two-stage")
        q_values, values = _values(critic, experience, jnp.concatenate([candidates, references]), key=key)
        split = candidates.shape[0]
        sides = [values[:split], values[split:]]
        if self.mean == "ratio":
            first, second = (
                Features(q[:, None], value_ratio(side)[:, None])
                for q, side in zip((q_values[:split], q_values[split:]), sides, strict=True)
            )
            return first, second, jnp.float32(0.0)
        if self.mean == "common":
            scales = [common_mean_and_std(*sides)] * 2
        else:
            scales = [(jnp.mean(side), jnp.std(side)) for side in sides]
        first, second = (
            Features(q[:, None], value_deviation(side, *scale)[:, None])
            for q, side, scale in zip((q_values[:split], q_values[split:]), sides, scales, strict=True)
        )
        floors = sum(floor_binds(*scale) for scale in scales)
        return first, second, jnp.asarray(floors, jnp.float32)


def _values(
    critic: Critic, experience: Experience, rows: Rows, *, key: PRNGKeyArray
) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
    """Q(s, a) and V(s') of rows, the same of a row wherever it stands.

    Many are valued a block at a time, for V may take several actions of each.
    """

    def block(rows: Rows) -> tuple[Array, Array]:
        batch = experience[rows]
        return jax.vmap(critic.q)(batch.observation, batch.action), next_values(critic, batch, key=key, one_draw=True)

    num_rows = rows.shape[0]
    size = min(VALUED_AT_ONCE, -(-num_rows // WIDEST_VECTOR) * WIDEST_VECTOR)
    num_blocks = -(-num_rows // size)
    blocks = jnp.pad(rows, (0, num_blocks * size - num_rows)).reshape(num_blocks, size)
    q_values, values = block(blocks[0]) if num_blocks == 1 else jax.lax.map(block, blocks)
    return q_values.reshape(-1)[:num_rows], values.reshape(-1)[:num_rows]


class EmbeddingState(NamedTuple):
    """A frozen encoder with its standardiser, and the embedding of every row so far."""

    encoder: ConditionalVAE
    normalizer: Normalizer
    embeddings: Float[Array, "capacity z"]
    loss: Float[Array, ""]


@dataclasses.dataclass(frozen=True)
@checked
class EmbeddingDistance:
    """d_e as in section 3.5: one embedding mu(s, a, s') is both matched and compared.

    A conditional VAE is trained on B^0 to reconstruct a from (s, s', z) and then frozen, so the
    distance of a row is that to its nearest neighbour among the online rows. Rows whose s' is not known
    are not trained on, and embedded as if the state had stayed.

    Attributes:
        size: dimensions of the embedding.
        hidden: widths of encoder and decoder; of a sampler chosen by name they are those of the algorithm's networks.
        kl_weight: weight of the KL term; at BCQ's 0.5 every dimension collapses.
        num_updates: training steps on B^0.
        learning_rate: of Adam.
        batch_size: rows per training step.
    """

    size: int = 10
    hidden: tuple[int, ...] = (64, 64)
    kl_weight: float = 0.005
    num_updates: int = 50_000
    learning_rate: float = 1e-3
    batch_size: int = 128

    def __post_init__(self) -> None:
        require(self.size > 0, f"the embedding has size {self.size}, but needs at least 1 dimension")
        require(all(width >= 1 for width in self.hidden), f"hidden is {self.hidden}; every layer needs at least 1 unit")
        require(self.kl_weight >= 0, f"kl_weight is {self.kl_weight}, but cannot be negative")
        require(self.num_updates > 0, f"the encoder has {self.num_updates} training steps, but needs at least 1")
        require(self.learning_rate > 0, f"learning_rate is {self.learning_rate}, but must be positive")
        require(self.batch_size > 0, f"batch_size is {self.batch_size}, but a training step needs at least 1 row")

    def init(self, experience: Experience, *, key: PRNGKeyArray) -> EmbeddingState:
        """Train the encoder on B^0 and embed B^0."""
        spec = experience.spec
        network_key, train_key = jax.random.split(key)
        normalizer = Normalizer.fit(experience.offline().observation)
        optimizer = optax.adam(self.learning_rate)
        network = ConditionalVAE.create(
            2 * spec.observation_size, spec.action_size, self.size, self.hidden, key=network_key
        )
        model = TrainState.create(network, optimizer)

        def step(model: TrainState[ConditionalVAE], key: PRNGKeyArray) -> tuple[TrainState[ConditionalVAE], Array]:
            row_key, noise_key = jax.random.split(key)
            rows = rows_with_replacement(0, experience.num_offline, self.batch_size, key=row_key)
            batch = experience[rows]
            states, action = _standardised(batch, normalizer, spec)
            loss, gradient = jax.value_and_grad(self.loss)(
                model.model, states, action, batch.action_mask, batch.next_is_known, spec=spec, key=noise_key
            )
            return model.step(gradient, optimizer), loss

        model, losses = jax.lax.scan(step, model, jax.random.split(train_key, self.num_updates))
        embeddings = jnp.zeros((experience.capacity, self.size))
        state = EmbeddingState(model.model, normalizer, embeddings, jnp.mean(losses[-1000:]))
        return self._embed(state, experience, 0, experience.num_offline)

    def loss(
        self,
        model: ConditionalVAE,
        states: Float[Array, "batch c"],
        action: Float[Array, "batch act"],
        action_mask: Bool[Array, "batch act"] | None = None,
        known: Bool[Array, " batch"] | None = None,
        *,
        spec: Spec,
        key: PRNGKeyArray,
    ) -> Float[Array, ""]:
        """Reconstruction error of the action given s and s', plus `kl_weight` times the mean KL; of known s' alone.

        Of discrete actions it is the cross-entropy among those allowed: what a mask forbids need not
        be told apart, and a row in which one action is left has nothing to encode.
        """
        noise = jax.random.normal(key, (action.shape[0], self.size))
        output, mean, log_std = jax.vmap(model.reconstruct)(states, action, noise)
        if spec.discrete:
            logits = jax.vmap(masked_q)(output, action_mask)
            reconstruction = optax.softmax_cross_entropy(logits, action)
        else:
            reconstruction = jnp.mean(jnp.square(jnp.tanh(output) - action), axis=1)
        divergence = jnp.mean(gaussian_kl(mean, log_std), axis=1)
        return mean_of_known(reconstruction + self.kl_weight * divergence, known)

    def begin_deployment(self, state: EmbeddingState, experience: Experience) -> tuple[EmbeddingState, Metrics]:
        state = self._embed(state, experience, experience.online_start, experience.max_online)
        units = active_units(state.embeddings[: experience.num_offline])
        return state, {"active_units": units.astype(jnp.float32), "encoder_loss": state.loss}

    def features(
        self,
        state: EmbeddingState,
        experience: Experience,
        critic: Critic | None,
        candidates: Rows,
        references: References,
        *,
        key: PRNGKeyArray,
    ) -> tuple[Features, Features, Floors]:
        first, second = state.embeddings[candidates], state.embeddings[references]
        return Features(first), Features(second), jnp.float32(0.0)

    def _embed(
        self, state: EmbeddingState, experience: Experience, start: Int[Array, ""] | int, num: int
    ) -> EmbeddingState:
        def embed(row: Int[Array, ""]) -> Float[Array, " z"]:
            states, action = _standardised(experience[row], state.normalizer, experience.spec)
            return state.encoder.encode(states, action)[0]

        embeddings = jax.lax.map(embed, start + jnp.arange(num), batch_size=min(num, 8192))
        rows = start + jnp.arange(num)
        return state._replace(embeddings=state.embeddings.at[rows].set(embeddings, mode="drop"))


class TwoStageState(NamedTuple):
    """Standardisers of what is matched and of what is compared."""

    state_action: Normalizer
    next_state: Normalizer


@dataclasses.dataclass(frozen=True)
@checked
class TwoStageDistance:
    """The definition of section 3.2 in the original space: match on (s, a), compare next states.

    A next state that is not known counts as the mean one of B^0.

    Attributes:
        compare: "delta" compares the change s' - s, "next" the next observation s' itself. The
            change tells dynamics apart even where the matched states differ.
    """

    compare: Literal["delta", "next"] = "delta"

    def __post_init__(self) -> None:
        require_name(self.compare, ("delta", "next"), "comparison")

    def init(self, experience: Experience, *, key: PRNGKeyArray) -> TwoStageState:
        """Standardise both with the statistics of B^0."""
        offline = experience.offline()
        state_action, next_state = self._raw(offline, experience.spec)
        return TwoStageState(Normalizer.fit(state_action), Normalizer.fit(next_state, offline.next_is_known))

    def begin_deployment(self, state: TwoStageState, experience: Experience) -> tuple[TwoStageState, Metrics]:
        return state, {}

    def features(
        self,
        state: TwoStageState,
        experience: Experience,
        critic: Critic | None,
        candidates: Rows,
        references: References,
        *,
        key: PRNGKeyArray,
    ) -> tuple[Features, Features, Floors]:
        def of(batch: Transition) -> Features:
            state_action, next_state = self._raw(batch, experience.spec)
            known = batch.next_is_known[:, None]
            # 0 is the mean, once standardised
            return Features(state.state_action(state_action), jnp.where(known, state.next_state(next_state), 0.0))

        return of(experience[candidates]), of(experience[references]), jnp.float32(0.0)

    def _raw(self, batch: Transition, spec: Spec) -> tuple[Float[Array, "n e"], Float[Array, "n f"]]:
        action = one_hot_action(batch.action, spec)
        change = batch.next_observation - batch.observation
        next_state = change if self.compare == "delta" else batch.next_observation
        return jnp.concatenate([batch.observation, action], axis=-1), next_state


def _standardised(batch: Transition, normalizer: Normalizer, spec: Spec) -> tuple[Array, Array]:
    """(s, s') and a as the encoder takes them."""
    states = [normalizer(batch.observation), normalizer(batch.next_observation)]
    return jnp.concatenate(states, axis=-1), one_hot_action(batch.action, spec)


DISTANCES: dict[str, Distance[Any]] = {
    "value": ValueDistance(),
    "value-literal": ValueDistance(mean="separate"),
    "value-paper": ValueDistance(mean="ratio"),
    "embedding": EmbeddingDistance(),
    "two-stage": TwoStageDistance(),
}
