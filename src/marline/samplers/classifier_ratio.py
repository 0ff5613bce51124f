"""Importance weights from domain classifiers (after DARC, Eysenbach et al. 2020, 2006.13916)."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from marline.data.experience import Experience
from marline.data.normalization import Normalizer
from marline.errors import require
from marline.inputs.arguments import checked
from marline.nn.cvae import state_action
from marline.nn.density_ratio import DynamicsClassifier
from marline.nn.train_state import TrainState
from marline.ops.density_ratio import classification_loss, dynamics_log_ratio
from marline.ops.known_rows import mean_of_known
from marline.ops.prioritization import draw, effective_sample_size
from marline.ops.row_draws import Count, rows_with_replacement
from marline.types import Critic, Metrics

HELD_OUT_EVERY = 10  # each tenth row is one that the classifiers never see and are scored on
NUM_SCORED = 512  # held-out rows per class
NUM_AVERAGED = 100  # last training steps whose mean loss is reported
NOT_YET = 0


class Inputs(NamedTuple):
    """What the classifiers see, standardised: (s, a), and (s, a, s' - s); and whether s' is known."""

    state_action: Float[Array, "n sa"]
    transition: Float[Array, "n sas"]
    known: Bool[Array, " n"]


class State(NamedTuple):
    """The classifiers, standardisers frozen at B^0, and how many deployments have begun."""

    classifier: TrainState[DynamicsClassifier]
    state_action: Normalizer
    change: Normalizer
    deployment: Int[Array, ""]


@dataclasses.dataclass(frozen=True)
@checked
class ClassifierRatio:
    """Draws candidates uniformly and keeps a few in proportion to P_online(s' | s, a) / P_offline(s' | s, a).

    Two classifiers learn to tell rows of D^k from rows of B^0, by (s, a, s') and by (s, a); the
    difference of their logits is the log ratio of the dynamics. They are trained when a deployment
    begins, from where the last one left them, and rest until the next.

    Where DARC adds the log ratio to rewards, it weighs rows here, for the rewards of logged rows
    are as true as ever. Inputs are standardised, and s' enters as the change s' - s: the ratio is
    the same, and dynamics that move the state a little at a time are not lost next to its spread.
    Rows whose s' is not known are not learned from, and weigh 1.

    Attributes:
        num_candidates: rows of B^k per update, drawn with replacement.
        batch_size: rows kept per update, with replacement.
        weight_bounds: lowest and highest weight of a candidate.
        num_updates: training steps per deployment.
        hidden: widths of the hidden layers of both classifiers.
        learning_rate: of Adam.
        classifier_batch_size: offline rows, and online rows, per training step.
        input_noise: standard deviation of the Gaussian noise on inputs during training, in
            standard deviations of each input. It keeps the classifiers from remembering rows, and
            blurs what differs by less. DARC's is 1, on inputs that are not standardised.
    """

    num_candidates: int = 512
    batch_size: int = 128
    weight_bounds: tuple[float, float] = (0.1, 10.0)
    num_updates: int = 2000
    hidden: tuple[int, ...] = (256, 256)
    learning_rate: float = 3e-4
    classifier_batch_size: int = 128
    input_noise: float = 0.3
    prefers_rows: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name in ("num_candidates", "batch_size", "num_updates", "classifier_batch_size"):
            require(getattr(self, name) > 0, f"{name} is {getattr(self, name)}, but must be at least 1")
        low, high = self.weight_bounds
        require(
            0 < low <= 1 <= high < math.inf,
            f"weight_bounds are {self.weight_bounds}, but need 0 < low <= 1 <= high < inf: 1 is the weight of a row "
            "that is as likely online as offline",
        )
        require(all(width >= 1 for width in self.hidden), f"hidden is {self.hidden}; every layer needs at least 1 unit")
        require(self.learning_rate > 0, f"learning_rate is {self.learning_rate}, but must be positive")
        noise = self.input_noise
        require(0 <= noise < math.inf, f"input_noise is {noise}, but must be finite and at least 0, which is none")

    def init(self, experience: Experience, *, key: PRNGKeyArray) -> State:
        """Fresh classifiers, and the standardisers of B^0."""
        spec, offline = experience.spec, experience.offline()
        classifier = DynamicsClassifier.create(spec, self.hidden, key=key)
        return State(
            classifier=TrainState.create(classifier, self._optimizer),
            state_action=Normalizer.fit(state_action(offline, spec)),
            change=Normalizer.fit(offline.next_observation - offline.observation, offline.next_is_known),
            deployment=jnp.int32(NOT_YET),
        )

    def begin_deployment(
        self, state: State, experience: Experience, critic: Critic | None, *, key: PRNGKeyArray
    ) -> tuple[State, Metrics]:
        """Train both classifiers on B^0 against D^k, and score them on rows held out of both."""
        train_key, score_key = jax.random.split(key)
        num = self.classifier_batch_size

        def step(
            classifier: TrainState[DynamicsClassifier], key: PRNGKeyArray
        ) -> tuple[TrainState[DynamicsClassifier], Float[Array, ""]]:
            offline_key, online_key, noise_key = jax.random.split(key, 3)
            offline_rows = _training_rows(0, experience.num_offline, num, key=offline_key)
            online_rows = _training_rows(experience.online_start, experience.size, num, key=online_key)
            offline, online = (self._inputs(state, experience, rows) for rows in (offline_rows, online_rows))
            loss, gradient = jax.value_and_grad(self.loss)(classifier.model, offline, online, key=noise_key)
            return classifier.step(gradient, self._optimizer), loss

        classifier, losses = jax.lax.scan(step, state.classifier, jax.random.split(train_key, self.num_updates))
        state = state._replace(classifier=classifier, deployment=state.deployment + 1)
        by_state_action, by_transition = self._accuracies(state, experience, key=score_key)
        return state, {
            "classifier_loss": jnp.mean(losses[-NUM_AVERAGED:]),
            "state_action_accuracy": by_state_action,
            "transition_accuracy": by_transition,
        }

    def sample(
        self, state: State, experience: Experience, critic: Critic | None, *, key: PRNGKeyArray
    ) -> tuple[Int[Array, " batch"], State, Metrics]:
        """One batch; before the first deployment, a uniform one."""
        candidate_key, draw_key = jax.random.split(key)
        candidates = rows_with_replacement(0, experience.size, self.num_candidates, key=candidate_key)
        log_ratio = self._log_ratio(state, experience, candidates)
        log_ratio = jnp.where(state.deployment == NOT_YET, 0.0, log_ratio)
        low, high = (math.log(bound) for bound in self.weight_bounds)
        probabilities = jax.nn.softmax(jnp.clip(log_ratio, low, high))
        return (
            candidates[draw(probabilities, self.batch_size, key=draw_key)],
            state,
            {
                "mean_log_ratio": jnp.mean(log_ratio),
                "clipped": jnp.mean((log_ratio < low) | (log_ratio > high)),
                "effective_sample_size": effective_sample_size(probabilities),
            },
        )

    def loss(
        self, classifier: DynamicsClassifier, offline: Inputs, online: Inputs, *, key: PRNGKeyArray
    ) -> Float[Array, ""]:
        """Sum of both classifiers' cross-entropies, on noisy inputs."""
        num = offline.state_action.shape[0]
        first_key, second_key = jax.random.split(key)
        inputs = jax.tree.map(lambda first, second: jnp.concatenate([first, second]), offline, online)
        noisy = self._noisy(inputs.state_action, first_key), self._noisy(inputs.transition, second_key)
        known = inputs.known[:num], inputs.known[num:]
        return sum(
            (classification_loss(logit[:num], logit[num:], *known) for logit in jax.vmap(classifier)(*noisy)),
            jnp.float32(0.0),
        )

    def _noisy(self, x: Float[Array, "n features"], key: PRNGKeyArray) -> Float[Array, "n features"]:
        return x + self.input_noise * jax.random.normal(key, x.shape)

    def _inputs(self, state: State, experience: Experience, rows: Int[Array, " n"]) -> Inputs:
        batch = experience[rows]
        inputs = state.state_action(state_action(batch, experience.spec))
        change = state.change(batch.next_observation - batch.observation)
        return Inputs(inputs, jnp.concatenate([inputs, change], axis=-1), batch.next_is_known)

    def _log_ratio(self, state: State, experience: Experience, rows: Int[Array, " n"]) -> Float[Array, " n"]:
        inputs = self._inputs(state, experience, rows)
        prior, posterior = jax.vmap(state.classifier.model)(inputs.state_action, inputs.transition)
        return jnp.where(inputs.known, dynamics_log_ratio(posterior, prior), 0.0)

    def _accuracies(
        self, state: State, experience: Experience, *, key: PRNGKeyArray
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """Share of held-out rows whose logit, by (s, a) and by (s, a, s'), has the right sign; classes alike."""
        offline_key, online_key = jax.random.split(key)
        offline = _held_out_rows(0, experience.num_offline, key=offline_key)
        online = _held_out_rows(experience.online_start, experience.size, key=online_key)
        inputs = self._inputs(state, experience, jnp.concatenate([offline, online]))
        logits = jax.vmap(state.classifier.model)(inputs.state_action, inputs.transition)
        is_online = jnp.arange(2 * NUM_SCORED) >= NUM_SCORED
        right = (jnp.stack(logits, axis=1) > 0.0) == is_online[:, None]
        by_state_action, by_transition = mean_of_known(right.astype(jnp.float32), inputs.known)
        return by_state_action, by_transition

    @property
    def _optimizer(self) -> optax.GradientTransformation:
        return optax.adam(self.learning_rate)


def _training_rows(start: Count, stop: Count, num: int, *, key: PRNGKeyArray) -> Int[Array, " num"]:
    """Rows of [start, stop) drawn with replacement from all but each tenth."""
    size = stop - start
    place = rows_with_replacement(0, size - size // HELD_OUT_EVERY, num, key=key)
    return start + place + place // (HELD_OUT_EVERY - 1)


def _held_out_rows(start: Count, stop: Count, *, key: PRNGKeyArray) -> Int[Array, " num"]:
    """Rows of [start, stop) drawn with replacement from each tenth; of fewer than ten rows, the last."""
    place = rows_with_replacement(0, (stop - start) // HELD_OUT_EVERY, NUM_SCORED, key=key)
    return jnp.minimum(start + HELD_OUT_EVERY * place + HELD_OUT_EVERY - 1, stop - 1)
