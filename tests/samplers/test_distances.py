"""What each distance matches and compares, on rows whose distances are known by hand."""

from __future__ import annotations

import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.typing import ArrayLike
from readable_rows import CRITIC, Embedded, joined, random_rows, rows, taken_in

from marline.data.experience import Experience
from marline.errors import ConfigError
from marline.nn.cvae import ConditionalVAE
from marline.ops.matching import absolute_difference, best_match
from marline.samplers import EmbeddingDistance, TwoStageDistance, ValueDistance
from marline.samplers.distances import Distance, EmbeddingState, Features
from marline.types import Spec, Transition

KEY = jax.random.key(0)
COMMON, LITERAL = ValueDistance(), ValueDistance(mean="separate")
DELTA, NEXT = TwoStageDistance(), TwoStageDistance(compare="next")


@functools.partial(jax.jit, static_argnums=0)
def init(distance: Distance[Any], experience: Experience) -> Any:
    return distance.init(experience, key=KEY)


@functools.partial(jax.jit, static_argnums=0)
def features(
    distance: Distance[Any],
    experience: Experience,
    candidates: ArrayLike,
    references: ArrayLike,
    state: Any = None,
    critic: Any = CRITIC,
) -> tuple[Any, Features, Features, Any]:
    """The state of the distance, features of either side, and divisors floored."""
    state = distance.init(experience, key=KEY) if state is None else state
    return state, *distance.features(
        state, experience, critic, jnp.asarray(candidates), jnp.asarray(references), key=KEY
    )


@functools.partial(jax.jit, static_argnums=0)
def _compare(
    distance: Distance[Any], experience: Experience, candidates: jax.Array, references: jax.Array, state: Any
) -> tuple[jax.Array, jax.Array, Any]:
    _, first, second, floors = features(distance, experience, candidates, references, state)
    matches = best_match(first.state_action, second.state_action, key=KEY)
    return matches, jnp.sum(absolute_difference(first.compared, second.compared[matches]), axis=1), floors


def compare(
    distance: Distance[Any], experience: Experience, candidates: ArrayLike, references: ArrayLike, state: Any = None
) -> tuple[np.ndarray, np.ndarray, float]:
    """Match of each candidate (its place among the references), its next-state distance, and divisors floored."""
    matches, distances, floors = _compare(distance, experience, np.asarray(candidates), np.asarray(references), state)
    return np.asarray(matches), np.asarray(distances), float(floors)


# ------------------------------------------------------------------------------- value distance

Q_OFFLINE, Q_ONLINE = [1.0, 2.5, 4.0], [0.8, 2.0, 3.1, 4.2]
V_OFFLINE, V_ONLINE = np.array([2.0, 3.0, 5.0]), np.array([1.0, 3.0, 4.0, 6.0])


@pytest.mark.parametrize(
    ("v_offline", "v_online", "terminal", "expected"),
    [
        (V_OFFLINE, V_ONLINE, [0, 0, 0], [0.314286, 0.042857, 0.214286]),
        (V_OFFLINE, V_ONLINE, [0, 1, 0], [0.571429, 0.857143, 0.428571]),
        (-V_OFFLINE, -V_ONLINE, [0, 0, 0], [0.314286, 0.042857, 0.214286]),
        (70.0 * V_OFFLINE, 70.0 * V_ONLINE, [0, 0, 0], [0.314286, 0.042857, 0.214286]),
        # means of opposite sign: the ratio as printed would give [4, 0, 2]
        (np.array([-1.0, 0.5, 2.0]), np.array([-2.0, -1.0, 1.0, -2.0]), [0, 0, 0], [2.0, 0.0, 4.0]),
    ],
)
def test_value_distance_with_separate_means(
    v_offline: np.ndarray, v_online: np.ndarray, terminal: list[int], expected: list[float]
) -> None:
    experience = joined(rows(Q_OFFLINE, v_offline, terminal=terminal), rows(Q_ONLINE, v_online))
    matches, distances, floors = compare(LITERAL, experience, [0, 1, 2], [3, 4, 5, 6])
    np.testing.assert_array_equal(matches, [0, 1, 3])
    np.testing.assert_allclose(distances, expected, atol=1e-5)
    assert floors == 0.0


@pytest.mark.parametrize("factor", [1.0, -1.0, 1e4])
def test_value_distance_with_a_common_mean(factor: float) -> None:
    experience = joined(rows(Q_OFFLINE, factor * V_OFFLINE), rows(Q_ONLINE, factor * V_ONLINE))
    matches, distances, floors = compare(COMMON, experience, [0, 1, 2], [3, 4, 5, 6])
    np.testing.assert_array_equal(matches, [0, 1, 3])
    # |2 - 1|, |3 - 3|, |5 - 6| over the mean of the means of either side, 10 / 3 and 7 / 2
    np.testing.assert_allclose(distances, np.array([1.0, 0.0, 1.0]) * 12 / 41, atol=1e-5)
    assert floors == 0.0


def test_values_around_zero_are_scaled_by_their_spread_and_that_is_reported() -> None:
    experience = joined(rows([1.0, 2.0], [-1.0, 1.0]), rows([1.0, 2.0], [1.0, -1.0]))
    for distance in (COMMON, LITERAL):
        _, distances, floors = compare(distance, experience, [0, 1], [2, 3])
        np.testing.assert_allclose(distances, [2 / 0.1, 2 / 0.1], rtol=1e-5)  # the floor is a tenth of the std, 1
        assert floors == 2.0


@pytest.mark.parametrize("value", [0.0, -7.0, 1e6])
@pytest.mark.parametrize("distance", [COMMON, LITERAL])
def test_a_constant_value_tells_nothing_apart(distance: ValueDistance, value: float) -> None:
    experience = joined(rows([1.0, 3.0], [value] * 2), rows([2.0, 5.0], [value] * 2))
    _, distances, _ = compare(distance, experience, [0, 1], [2, 3])
    np.testing.assert_array_equal(distances, 0.0)


# ------------------------------------------------------------------------------ all distances


@pytest.mark.parametrize("distance", [COMMON, DELTA, NEXT])
def test_a_row_is_at_no_distance_from_itself(distance: Distance[Any]) -> None:
    experience = joined(random_rows(20, 0), random_rows(30, 1))
    matches, distances, _ = compare(distance, experience, np.arange(15, 50), np.arange(20, 50))
    np.testing.assert_array_equal(matches[5:], np.arange(30))
    np.testing.assert_array_equal(distances[5:], 0.0)
    assert np.all(distances[:5] > 0.0)


def test_read_literally_a_row_differs_from_itself() -> None:
    experience = joined(random_rows(20, 0, mean=3.0), random_rows(30, 1, mean=6.0))
    matches, distances, _ = compare(LITERAL, experience, np.arange(15, 50), np.arange(20, 50))
    np.testing.assert_array_equal(matches[5:], np.arange(30))
    assert np.all(distances[5:] > 0.0)


@pytest.mark.parametrize("distance", [COMMON, LITERAL, DELTA, NEXT])
def test_the_order_of_rows_means_nothing(distance: Distance[Any]) -> None:
    experience = joined(random_rows(20, 0), random_rows(30, 1))
    candidates, references = np.arange(35), np.arange(20, 50)
    rng = np.random.default_rng(0)
    by_candidate, by_reference = rng.permutation(35), rng.permutation(30)
    matches, distances, _ = compare(distance, experience, candidates, references)
    shuffled_matches, shuffled, _ = compare(distance, experience, candidates[by_candidate], references[by_reference])
    np.testing.assert_array_equal(by_reference[shuffled_matches], matches[by_candidate])
    np.testing.assert_allclose(shuffled, distances[by_candidate], atol=1e-5)


# -------------------------------------------------------------------------- two-stage distance


def walks(positions: np.ndarray, step: np.ndarray, action: float = 0.5) -> Transition:
    """Rows of a walker who sees its position, in whole numbers, and moves by `step`."""
    observation = np.stack([positions, np.zeros_like(positions)], axis=1).astype(np.float32)
    moved = observation + np.stack([step, np.zeros_like(step)], axis=1).astype(np.float32)
    num = len(positions)
    columns = observation, np.full((num, 1), action), np.zeros(num), np.ones(num), moved
    return Transition(*(jnp.asarray(column, jnp.float32) for column in columns))


def test_change_tells_dynamics_apart_where_the_next_state_does_not() -> None:
    positions = np.arange(0, 40, 2)  # the online walker is met between them
    step = np.where(positions % 4 == 0, 1, -1)  # which half the time moved the other way
    experience = joined(walks(positions, step), walks(np.arange(1, 41, 2), np.ones(20)))
    _, by_change, _ = compare(DELTA, experience, np.arange(20), np.arange(20, 40))
    _, by_next, _ = compare(NEXT, experience, np.arange(20), np.arange(20, 40))
    np.testing.assert_array_equal(by_change[step == 1], 0.0)
    np.testing.assert_allclose(by_change[step == -1], 2 / (1 + 1e-3), rtol=1e-4)  # in units of the std, which is 1
    assert np.all(by_next > 0.0)


@pytest.mark.parametrize("distance", [DELTA, NEXT])
def test_features_are_standardised_with_the_offline_rows_alone(distance: TwoStageDistance) -> None:
    offline, online = random_rows(20, 0), random_rows(30, 1, mean=50.0)
    experience = joined(offline, online)
    state, _, second, _ = features(distance, experience, np.arange(20), np.arange(20, 50))

    def raw(logs: Transition) -> tuple[np.ndarray, np.ndarray]:
        observation, after = np.asarray(logs.observation), np.asarray(logs.next_observation)
        state_action = np.hstack([observation, np.asarray(logs.action)])
        return state_action, after - observation if distance.compare == "delta" else after

    both = second.state_action, second.compared
    for actual, of_online, of_offline in zip(both, raw(online), raw(offline), strict=True):
        expected = (of_online - of_offline.mean(axis=0)) / (of_offline.std(axis=0) + 1e-3)
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)
    after, metrics = distance.begin_deployment(state, experience)
    assert after is state and metrics == {}


def test_discrete_actions_are_matched_as_one_hot() -> None:
    spec = Spec(2, 3, discrete=True)
    masks = jnp.asarray(np.ones((3, 3), bool))
    zeros, ones, same = (jnp.asarray(column, jnp.float32) for column in (np.zeros(3), np.ones(3), np.ones((3, 2))))
    offline, online = (
        Transition(same, jnp.asarray(np.array(actions)), zeros, ones, same, masks, masks)
        for actions in ([0, 1, 2], [2, 0, 1])
    )
    experience = joined(offline, online, spec=spec)
    matches, _, _ = compare(DELTA, experience, [0, 1, 2], [3, 4, 5])
    np.testing.assert_array_equal(matches, [1, 2, 0])


# -------------------------------------------------------------------------- embedding distance


def test_one_embedding_is_matched_and_compared(embedded: Embedded) -> None:
    """So the distance of a row is the L1 distance to its nearest neighbour among the references."""
    distance, _, (first, _), (state, _) = embedded
    candidates, references = np.arange(100), np.arange(300, 330)
    _, distances, floors = compare(distance, first, candidates, references, state)
    embeddings = np.asarray(state.embeddings)
    expected = np.abs(embeddings[candidates, None] - embeddings[None, references]).sum(axis=-1).min(axis=1)
    np.testing.assert_allclose(distances, expected, atol=1e-5)
    assert floors == 0.0


def test_an_embedded_row_is_at_no_distance_from_itself(embedded: Embedded) -> None:
    distance, _, (_, second), (_, state) = embedded
    matches, distances, _ = compare(distance, second, np.arange(270, 370), np.arange(340, 370), state)
    np.testing.assert_array_equal(matches[70:], np.arange(30))
    np.testing.assert_array_equal(distances[70:], 0.0)
    assert np.all(distances[:70] > 0.0)


def test_the_encoder_is_frozen_and_each_deployment_only_adds_its_rows(embedded: Embedded) -> None:
    _, trained, (_, second), (once, twice) = embedded
    for state in (once, twice):
        for frozen, before in zip(
            jax.tree.leaves(state._replace(embeddings=trained.embeddings)), jax.tree.leaves(trained), strict=True
        ):
            np.testing.assert_array_equal(frozen, before)
    np.testing.assert_array_equal(trained.embeddings[300:], 0.0)
    np.testing.assert_array_equal(once.embeddings[:300], trained.embeddings[:300])
    np.testing.assert_array_equal(twice.embeddings[:340], once.embeddings[:340])

    @jax.jit
    def means(state: EmbeddingState, experience: Experience) -> jax.Array:
        batch = experience[jnp.arange(370)]
        return jax.vmap(state.encoder.encode)(standardised_states(state, batch), batch.action)[0]

    np.testing.assert_allclose(twice.embeddings[:370], means(trained, second), atol=1e-5)  # the mean, not a sample


def standardised_states(state: EmbeddingState, batch: Transition) -> jax.Array:
    parts = [state.normalizer(batch.observation), state.normalizer(batch.next_observation)]
    return jnp.concatenate(parts, axis=1)


def test_training_teaches_the_latent_to_carry_the_action(embedded: Embedded) -> None:
    distance, trained, (first, _), _ = embedded
    sizes = 2 * first.spec.observation_size, first.spec.action_size, distance.size

    @jax.jit
    def measured(state: EmbeddingState, experience: Experience) -> tuple[jax.Array, jax.Array, jax.Array]:
        """The losses before and after training, and the variance of actions."""
        batch = experience.offline()
        loss = functools.partial(distance.loss, spec=experience.spec, key=KEY)
        untrained = ConditionalVAE.create(*sizes, distance.hidden, key=KEY)
        before, after = (
            loss(model, standardised_states(state, batch), batch.action) for model in (untrained, state.encoder)
        )
        return before, after, jnp.var(batch.action)

    before, after, variance = (float(value) for value in measured(trained, first))
    assert before > 0.9 * variance
    assert after < 0.3 * variance
    assert 0.0 < trained.loss < 0.5 * variance


def test_active_units_and_the_loss_are_reported(embedded: Embedded) -> None:
    distance, trained, (first, _), _ = embedded
    state, metrics = taken_in(distance, trained, first)
    assert metrics["encoder_loss"] == trained.loss
    variances = np.asarray(trained.embeddings[:300]).var(axis=0)
    assert metrics["active_units"] == np.sum(variances > 0.01) >= 1
    silent = trained._replace(embeddings=jnp.asarray(np.zeros_like(trained.embeddings)))
    assert taken_in(distance, silent, first)[1]["active_units"] == 0.0
    assert state.embeddings.shape == trained.embeddings.shape


def choices(observation: np.ndarray, action: np.ndarray, mask: np.ndarray) -> Transition:
    """Rows of an agent who chooses, and stays where it is."""
    seen, allowed = jnp.asarray(observation, jnp.float32), jnp.asarray(mask)
    zeros, ones = jnp.asarray(np.zeros(len(action), np.float32)), jnp.asarray(np.ones(len(action), np.float32))
    return Transition(seen, jnp.asarray(action), zeros, ones, seen, allowed, jnp.asarray(np.ones_like(mask)))


def test_discrete_actions_are_embedded_too() -> None:
    """Three actions at random leave log 3 to be explained; the latent explains most of it."""
    spec, num = Spec(2, 3, discrete=True), 200
    rng = np.random.default_rng(0)
    logs = choices(rng.normal(size=(num, 2)), rng.integers(3, size=num), np.ones((num, 3), bool))
    experience = joined(logs, spec=spec)
    distance = EmbeddingDistance(size=2, hidden=(16,), num_updates=1500, learning_rate=5e-3, batch_size=32)
    state = init(distance, experience)
    assert state.loss < 0.5 * np.log(3)
    # rows of one action lie together
    embeddings, actions = np.asarray(state.embeddings[:num]), np.asarray(logs.action)
    within = np.mean([embeddings[actions == action].std() for action in range(3)])
    assert within < 0.7 * embeddings.std()


@pytest.mark.slow
def test_the_action_is_reconstructed_among_those_allowed() -> None:
    """Logits 1, 2, 3 and 50 of which the last is forbidden; then a row in which one action is left."""
    spec = Spec(2, 4, discrete=True)
    distance = EmbeddingDistance(size=1, hidden=(), kl_weight=0.0)
    model = ConditionalVAE.create(4, 4, 1, (), key=KEY)
    last = model.decoder.layers[-1]
    model = eqx.tree_at(
        lambda model: (model.decoder.layers[-1].weight, model.decoder.layers[-1].bias),
        model,
        (jnp.zeros_like(last.weight), jnp.array([1.0, 2.0, 3.0, 50.0])),
    )

    def loss(action: int, allowed: list[int]) -> tuple[float, np.ndarray]:
        mask = jnp.array([[number in allowed for number in range(4)]])
        value, gradient = jax.value_and_grad(distance.loss)(
            model, jnp.ones((1, 4)), jax.nn.one_hot(jnp.array([action]), 4), mask, spec=spec, key=KEY
        )
        return float(value), np.asarray(gradient.decoder.layers[-1].bias)

    value, gradient = loss(0, [0, 1, 2])
    assert value == pytest.approx(np.log(np.exp([1, 2, 3]).sum()) - 1, rel=1e-6)  # 2.407606
    assert gradient[3] == 0.0 and np.all(gradient[:3] != 0.0)
    value, gradient = loss(1, [1])
    assert value == 0.0
    np.testing.assert_array_equal(gradient, 0.0)


def test_masks_reach_the_encoder() -> None:
    """Where a mask leaves the logged action alone there is nothing to learn, though actions are random."""
    spec, num = Spec(2, 3, discrete=True), 50
    rng = np.random.default_rng(0)
    action = rng.integers(3, size=num)
    logs = choices(rng.normal(size=(num, 2)), action, np.arange(3) == action[:, None])
    distance = EmbeddingDistance(size=2, hidden=(4,), num_updates=3, kl_weight=0.0, batch_size=8)
    assert init(distance, joined(logs, spec=spec)).loss == 0.0


@pytest.mark.parametrize(
    ("kind", "option", "value", "told"),
    [
        (EmbeddingDistance, "size", 0, "size 0"),
        (EmbeddingDistance, "hidden", (8, 0), "hidden is"),
        (EmbeddingDistance, "kl_weight", float("nan"), "kl_weight is nan"),
        (EmbeddingDistance, "num_updates", 0, "0 training steps"),
        (EmbeddingDistance, "learning_rate", -1e-3, "learning_rate is -0.001"),
        (EmbeddingDistance, "batch_size", 0, "batch_size is 0"),
    ],
)
def test_impossible_options_are_refused(kind: type[Any], option: str, value: object, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        kind(**{option: value})


def test_features_are_pairs_of_matrices() -> None:
    experience = joined(random_rows(5, 0), random_rows(4, 1))
    _, first, second, _ = features(COMMON, experience, np.arange(5), np.arange(5, 9))
    assert isinstance(first, Features)
    assert first.state_action.shape == first.compared.shape == (5, 1)
    assert second.state_action.shape == second.compared.shape == (4, 1)


# ------------------------------------------------------- ends of which nobody knows what came after


def some_ends() -> Transition:
    """Four rows that move by 1, 2, 3 and 6 and a terminal one, the third, that does not say where it went."""
    observation = np.array([[0.0], [10.0], [20.0], [30.0], [40.0]], np.float32)
    change = np.array([[1.0], [2.0], [0.0], [3.0], [6.0]], np.float32)
    discount, zeros = np.array([1.0, 1.0, 0.0, 1.0, 0.0], np.float32), np.zeros(5, np.float32)
    masks = np.ones((5, 2), bool)
    columns = observation, np.zeros(5, np.int32), zeros, discount, observation + change, masks, masks
    return Transition(*(jnp.asarray(column) for column in columns))


def test_two_stage_takes_the_mean_change_for_one_that_is_not_known() -> None:
    experience = Experience.create(some_ends(), Spec(1, 2, discrete=True), num_deployments=0, rows_per_deployment=0)
    state, first, _, _ = features(DELTA, experience, np.arange(5), np.arange(5), critic=None)
    assert np.asarray(state.next_state.mean)[0] == pytest.approx(3.0)
    scale = np.sqrt((4 + 1 + 0 + 9) / 4) + 1e-3
    np.testing.assert_allclose(
        np.asarray(first.compared)[:, 0], np.array([-2.0, -1.0, 0.0, 0.0, 3.0]) / scale, atol=1e-5
    )
    _, first, _, _ = features(NEXT, experience, np.arange(5), np.arange(5), critic=None)
    assert np.asarray(first.compared)[2, 0] == 0.0  # the mean next state


def test_the_encoder_does_not_learn_from_ends_that_are_not_known() -> None:
    batch, distance = some_ends(), EmbeddingDistance(size=2, hidden=(4,))
    states = np.concatenate([batch.observation, batch.next_observation], axis=-1) / 40

    @jax.jit
    @jax.grad
    def slope(states: jax.Array) -> jax.Array:
        model = ConditionalVAE.create(2, 2, 2, (4,), key=KEY)
        known, spec = batch.next_is_known, Spec(1, 2, discrete=True)
        action = jax.nn.one_hot(batch.action, 2)
        return distance.loss(model, states, action, known=known, spec=spec, key=KEY)

    learned = np.abs(np.asarray(slope(states))).sum(axis=1)
    assert learned[2] == 0 and (learned[[0, 1, 3, 4]] > 0).all()
