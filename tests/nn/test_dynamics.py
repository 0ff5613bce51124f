"""The ensemble of dynamics models: units, members that share nothing, and a system that it learns."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jaxtyping import Array

from marline.nn.dynamics import DynamicsEnsemble, DynamicsScales
from marline.nn.mlp import MLP, Linear
from marline.nn.train_state import TrainState
from marline.types import Spec, Transition

KEY = jax.random.key(0)


def make_rows(num: int = 400, seed: int = 0) -> Transition:
    """s' = s + 0.1 a, reward the first number of s': two features of other units than the actions'."""
    rng = np.random.default_rng(seed)
    observation = rng.uniform(-1, 1, (num, 2)) * [1.0, 3.0] + [0.0, 5.0]
    action = rng.uniform(-1, 1, (num, 2))
    following = observation + 0.1 * action
    columns = observation, action, following[:, 0], np.ones(num), following
    return Transition(*(jnp.asarray(column, jnp.float32) for column in columns))


def linear(weight: list[list[float]]) -> MLP:
    return MLP((Linear(jnp.array(np.transpose(weight), jnp.float32), jnp.array(np.zeros(len(weight)), jnp.float32)),))


@functools.partial(jax.jit, static_argnames="learn_reward")
def fit(rows: Transition, *, learn_reward: bool) -> tuple[DynamicsScales, Array, Array, Array]:
    """The scales of these rows; their inputs, their labels, and which of the labels are known."""
    scales = DynamicsScales.fit(rows, learn_reward=learn_reward)
    return scales, scales.inputs(rows.observation, rows.action), scales.labels(rows), scales.known(rows)


@functools.partial(jax.jit, static_argnums=(0, 1, 2), static_argnames="learn_reward")
def create(spec: Spec, num_members: int, hidden: tuple[int, ...], *, learn_reward: bool) -> DynamicsEnsemble:
    return DynamicsEnsemble.create(spec, num_members, hidden, learn_reward=learn_reward, key=KEY)


losses = jax.jit(DynamicsEnsemble.losses)


@pytest.mark.parametrize("learn_reward", [False, True])
def test_what_is_predicted_is_in_the_units_of_the_data(learn_reward: bool) -> None:
    rows = make_rows()
    scales, inputs, labels, _ = fit(rows, learn_reward=learn_reward)
    assert scales.learn_reward == learn_reward
    assert labels.shape == (400, 2 + learn_reward)
    for columns in (np.asarray(inputs), np.asarray(labels)):
        np.testing.assert_allclose(np.mean(columns, axis=0), np.zeros(columns.shape[1]), atol=1e-4)
        np.testing.assert_allclose(np.std(columns, axis=0), np.ones(columns.shape[1]), rtol=0.03)

    # a network that knows its labels: what it predicts is what happened
    def network(label: Array) -> MLP:
        return MLP((Linear(jnp.zeros((4, 2 + learn_reward)), label),))

    @jax.jit
    @jax.vmap
    def predict(label: Array, observation: Array, action: Array) -> tuple[Array, Array | None]:
        return scales.predict(network(label), observation, action)

    following, reward = predict(labels, rows.observation, rows.action)
    np.testing.assert_allclose(following, rows.next_observation, atol=1e-5)
    assert (reward is not None) == learn_reward
    if reward is not None:
        np.testing.assert_allclose(reward, rows.reward, atol=1e-5)


def test_a_prediction_by_hand() -> None:
    rows = Transition(
        observation=jnp.array([[1.0], [3.0]]),
        action=jnp.array([[-1.0], [1.0]]),
        reward=jnp.array([0.0, 4.0]),
        discount=jnp.array([1.0, 1.0]),
        next_observation=jnp.array([[2.0], [6.0]]),
    )
    scales, *_ = fit(rows, learn_reward=True)
    network = linear([[1.0, 0.0], [0.0, 2.0]])
    # s: mean 2, std 1; a: 0, 1; s' - s: 2, 1; r: 2, 2, up to a thousandth
    following, reward = jax.jit(DynamicsScales.predict)(scales, network, jnp.array([4.0]), jnp.array([0.5]))
    assert float(np.asarray(following)[0]) == pytest.approx(4 + 2 + 1 * 2, rel=0.01)
    assert reward is not None and float(reward) == pytest.approx(2 + 2 * (2 * 0.5), rel=0.01)


def test_members_share_nothing_and_each_learns_on_its_own_rows() -> None:
    ensemble = create(Spec(2, 2), 3, (4,), learn_reward=False)
    inputs = jnp.asarray(np.random.default_rng(0).normal(size=(3, 5, 4)), jnp.float32)
    labels = jnp.asarray(np.ones((3, 5, 2)), jnp.float32)

    @jax.jit
    def outputs_and_slope(ensemble: DynamicsEnsemble) -> tuple[list[Array], DynamicsEnsemble]:
        outputs = [jax.vmap(ensemble.member(number))(inputs[number]) for number in range(3)]
        return outputs, jax.grad(lambda ensemble: ensemble.losses(inputs, labels)[1])(ensemble)

    outputs, gradient = outputs_and_slope(ensemble)
    found = np.asarray(losses(ensemble, inputs, labels))
    assert len(np.unique(found)) == 3
    for number in range(3):
        np.testing.assert_allclose(found[number], np.mean((np.asarray(outputs[number]) - 1.0) ** 2), rtol=1e-5)
    for leaf in map(np.asarray, jax.tree.leaves(gradient)):
        assert np.any(leaf[1]) and not np.any(leaf[0]) and not np.any(leaf[2])


def test_a_linear_system_is_learned() -> None:
    rows, optimizer = make_rows(2000), optax.adam(optax.cosine_decay_schedule(0.02, 1500))
    scales, inputs, labels, _ = fit(rows, learn_reward=True)
    ensemble = create(Spec(2, 2), 2, (16,), learn_reward=True)

    def step(model: TrainState[DynamicsEnsemble], chosen: Array) -> tuple[TrainState[DynamicsEnsemble], None]:
        def loss(ensemble: DynamicsEnsemble) -> Array:
            return jnp.sum(ensemble.losses(inputs[chosen], labels[chosen]))

        return model.step(jax.grad(loss)(model.model), optimizer), None

    chosen = np.random.default_rng(0).integers(2000, size=(1500, 2, 128))
    unseen = make_rows(500, seed=1)

    @jax.jit
    def errors_after_training(ensemble: DynamicsEnsemble, chosen: Array) -> Array:
        model, _ = jax.lax.scan(step, TrainState.create(ensemble, optimizer), chosen)
        inputs, labels = scales.inputs(unseen.observation, unseen.action), scales.labels(unseen)
        return model.model.losses(jnp.stack([inputs] * 2), jnp.stack([labels] * 2))

    errors = errors_after_training(ensemble, jnp.asarray(chosen))
    assert np.all(np.asarray(errors) < 1e-4), errors


def test_what_follows_the_end_of_an_episode_is_learned_only_where_it_was_logged() -> None:
    # the second row ended for good and says nothing of what came after; the third ended, and was logged
    rows = Transition(
        observation=jnp.array([[0.0], [7.0], [2.0]]),
        action=jnp.array([[0.0], [0.0], [0.0]]),
        reward=jnp.array([1.0, 2.0, 3.0]),
        discount=jnp.array([1.0, 0.0, 0.0]),
        next_observation=jnp.array([[1.0], [7.0], [5.0]]),
    )
    scales, inputs, labels, known = fit(rows, learn_reward=True)
    np.testing.assert_allclose(scales.outcome.mean, [2.0, 2.0], rtol=1e-6)  # changes 1 and 3; rewards 1, 2, 3
    np.testing.assert_allclose(scales.outcome.scale, [1.001, np.sqrt(2 / 3) + 1e-3], rtol=1e-5)
    np.testing.assert_array_equal(known, [[True, True], [False, True], [True, True]])
    *_, known_without_reward = fit(rows, learn_reward=False)
    assert np.array_equal(known_without_reward, np.asarray(known)[:, :1])

    ensemble = create(Spec(1, 1), 1, (4,), learn_reward=True)

    @jax.jit
    def outputs_and_loss(ensemble: DynamicsEnsemble) -> tuple[Array, Array]:
        return jax.vmap(ensemble.member(0))(inputs), ensemble.losses(inputs[None], labels[None], known[None])[0]

    outputs, loss = outputs_and_loss(ensemble)
    errors = np.square(np.asarray(outputs) - np.asarray(labels))
    np.testing.assert_allclose(loss, errors[np.asarray(known)].mean(), rtol=1e-5)
