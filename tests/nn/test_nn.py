"""Networks: their initialisation, a forward pass by hand, optimizer steps and slow copies."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats

from marline.nn.actors import DeterministicActor
from marline.nn.cvae import ConditionalVAE, one_hot_action
from marline.nn.density_ratio import DensityRatio
from marline.nn.mlp import MLP, Linear
from marline.nn.q_networks import QNetwork, TwinQ
from marline.nn.train_state import TrainState, copy, polyak
from marline.types import Spec

KEY = jax.random.key(0)
SPEC = Spec(3, 2)


def test_forward_pass_by_hand() -> None:
    hidden = Linear(jnp.array([[1.0, 2.0], [-1.0, 0.5]]), jnp.array([0.5, -4.0]))
    output = Linear(jnp.array([[2.0], [10.0]]), jnp.array([-1.0]))
    # hidden: relu(3 - 1 + .5, 6 + .5 - 4) = (2.5, 2.5); then relu(-1 - 1 + .5, -2 + .5 - 4) = (0, 0)
    np.testing.assert_allclose(MLP((hidden, output))(jnp.array([3.0, 1.0])), [2 * 2.5 + 10 * 2.5 - 1])
    np.testing.assert_allclose(MLP((hidden, output))(jnp.array([-1.0, 1.0])), [-1.0])


def test_initial_weights_are_uniform_within_one_over_root_fan_in() -> None:
    mlp = jax.jit(lambda: MLP.create(4, 300, (100,), key=KEY))()
    assert [layer.weight.shape for layer in mlp.layers] == [(4, 100), (100, 300)]
    for layer, fan_in in zip(mlp.layers, (4, 100), strict=True):
        for leaf in (layer.weight, layer.bias):
            ks = scipy.stats.kstest(np.asarray(leaf).ravel() * math.sqrt(fan_in), scipy.stats.uniform(-1, 2).cdf)
            assert ks.pvalue > 1e-3
    leaves = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(mlp)])
    assert len(np.unique(leaves)) > 0.99 * len(leaves)  # no two layers share their numbers


def test_density_ratios_start_near_one_whatever_the_row() -> None:
    """Weights, biases and scales are those of Balanced Replay's own code."""
    network = jax.jit(lambda: DensityRatio.create(Spec(30, 10), (100, 25), key=KEY))()
    for layer, bound, bias in zip(network.mlp.layers, (0.1, 0.2, 3e-3), (0.0, 0.0, 1.0), strict=True):
        ks = scipy.stats.kstest(np.asarray(layer.weight).ravel() / bound, scipy.stats.uniform(-1, 2).cdf)
        assert ks.pvalue > 1e-3
        np.testing.assert_array_equal(layer.bias, bias)
    rows = np.random.default_rng(0).normal(size=(1000, 40)).astype("f4")
    np.testing.assert_allclose(jax.jit(jax.vmap(network))(rows[:, :30], rows[:, 30:]), 1.0, atol=0.05)


def test_hidden_sizes_are_honoured() -> None:
    mlp, flat = jax.eval_shape(lambda: (MLP.create(3, 2, (5, 7), key=KEY), MLP.create(3, 2, (), key=KEY)))
    assert [layer.weight.shape for layer in mlp.layers] == [(3, 5), (5, 7), (7, 2)]
    assert [layer.weight.shape for layer in flat.layers] == [(3, 2)]


def test_actions_stay_within_bounds() -> None:
    @jax.jit
    def act() -> tuple[jax.Array, jax.Array]:
        actor = DeterministicActor.create(SPEC, (8,), key=KEY)
        observations = 100.0 * jax.random.normal(KEY, (200, 3))
        return jax.vmap(actor)(observations), jax.vmap(actor.mlp)(observations)

    actions, outputs = act()
    np.testing.assert_allclose(actions, np.tanh(outputs), atol=1e-6)
    assert np.max(np.abs(actions)) <= 1.0


def test_q_takes_observation_then_action() -> None:
    network = QNetwork(MLP((Linear(jnp.array([[1.0], [10.0], [100.0], [1e3], [1e4]]), jnp.array([0.0])),)))
    q = network(jnp.array([1.0, 2.0, 3.0]), jnp.array([4.0, 5.0]))
    assert q.shape == ()
    assert q == 54321.0


@pytest.mark.parametrize("hidden", [(), pytest.param((8,), marks=pytest.mark.slow), (8, 8)])
def test_q_of_many_actions_is_q_of_each(hidden: tuple[int, ...]) -> None:
    @jax.jit
    def judge() -> tuple[tuple[jax.Array, jax.Array], list[tuple[jax.Array, jax.Array]]]:
        twins = TwinQ.create(SPEC, hidden, key=KEY)
        observation, actions = jax.random.normal(KEY, (3,)), jax.random.normal(jax.random.key(1), (5, 2))
        return twins.of_many(observation, actions), [twins(observation, action) for action in actions]

    many, each = judge()
    np.testing.assert_allclose(np.transpose(many), each, rtol=1e-5, atol=1e-6)


def test_twins_share_nothing() -> None:
    def second_value(twins: TwinQ) -> jax.Array:
        return twins(jnp.ones(3), jnp.ones(2))[1]

    @jax.jit
    def create() -> tuple[TwinQ, TwinQ]:
        twins = TwinQ.create(SPEC, (4,), key=KEY)
        return twins, jax.grad(second_value)(twins)

    twins, gradient = create()
    for first, second in zip(jax.tree.leaves(twins.first), jax.tree.leaves(twins.second), strict=True):
        assert not np.any(np.asarray(first) == np.asarray(second))
    assert all(not np.any(np.asarray(leaf)) for leaf in jax.tree.leaves(gradient.first))
    assert any(np.any(np.asarray(leaf)) for leaf in jax.tree.leaves(gradient.second))


def test_polyak_moves_the_target_by_its_step() -> None:
    moved = polyak({"w": jnp.array([4.0])}, {"w": jnp.array([2.0])}, 0.005)
    np.testing.assert_allclose(moved["w"], [2.01], rtol=1e-6)


def test_copies_live_in_buffers_of_their_own() -> None:
    model = Linear(jnp.array([[1.0, 1.0, 1.0]] * 2), jnp.array([0.0, 0.0, 0.0]))
    copied = copy(model)
    np.testing.assert_array_equal(copied.weight, model.weight)
    assert copied.weight.unsafe_buffer_pointer() != model.weight.unsafe_buffer_pointer()


def test_adam_steps_by_hand() -> None:
    """The first step is the learning rate along the sign; two equal gradients give two equal steps."""
    optimizer = optax.adam(0.1)
    model = TrainState.create({"w": jnp.array([1.0, 1.0])}, optimizer)
    gradient = {"w": jnp.array([1e-3, -50.0])}
    step_model = jax.jit(lambda model: model.step(gradient, optimizer))
    for step in (1, 2):
        model = step_model(model)
        np.testing.assert_allclose(model.model["w"], [1.0 - 0.1 * step, 1.0 + 0.1 * step], rtol=1e-4)


def test_encoder_gives_mean_and_bounded_log_std() -> None:
    @jax.jit
    def encode_and_decode() -> tuple[tuple[jax.Array, ...], tuple[jax.Array, ...]]:
        vae = ConditionalVAE.create(3, 2, 4, (8,), key=KEY)
        condition, action = jnp.array([1e4, -1e4, 1e4]), jnp.ones(2)
        mean, log_std = vae.encode(condition, action)
        noise = jnp.array([0.5, -1.0, 0.0, 2.0])
        output, *posterior = vae.reconstruct(condition, action, noise)
        raw = vae.encoder(jnp.concatenate([condition, action]))
        decoded = vae.decode(condition, mean + jnp.exp(log_std) * noise)
        return (mean, log_std, output, *posterior), (raw, decoded)

    (mean, log_std, output, *posterior), (raw, decoded) = encode_and_decode()
    np.testing.assert_array_equal(mean, np.asarray(raw)[:4])
    np.testing.assert_array_equal(log_std, np.clip(np.asarray(raw)[4:], -4.0, 15.0))
    np.testing.assert_array_equal(output, decoded)
    np.testing.assert_array_equal(posterior, [mean, log_std])


def test_discrete_actions_become_one_hot() -> None:
    np.testing.assert_array_equal(one_hot_action(jnp.array([2, 0]), Spec(1, 3, discrete=True)), [[0, 0, 1], [1, 0, 0]])
    np.testing.assert_array_equal(one_hot_action(jnp.array([[0.5, -1.0]]), SPEC), [[0.5, -1.0]])
