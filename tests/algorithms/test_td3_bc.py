"""TD3+BC against a second implementation in plain NumPy, and what must hold whatever the data."""

from __future__ import annotations

import copy
import functools
import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from continuous_worlds import discrete_experience

from marline.algorithms import TD3BC
from marline.algorithms.td3_bc import State
from marline.data.experience import Experience
from marline.errors import ConfigError
from marline.nn.actors import DeterministicActor
from marline.nn.mlp import MLP
from marline.nn.q_networks import QNetwork, TwinQ
from marline.types import Spec, Transition

KEY = jax.random.key(0)
SPEC = Spec(3, 2)
TINY = TD3BC(hidden=(4, 4))
NUM_ROWS = 40

Layers = list[tuple[np.ndarray, np.ndarray]]


# -------------------------------------------------------------------- the second implementation


def forward(layers: Layers, x: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """Output [n, out] of a ReLU perceptron for inputs [n, in], and the input of every layer."""
    inputs = []
    for number, (weight, bias) in enumerate(layers):
        inputs.append(x)
        x = x @ weight.T + bias
        if number < len(layers) - 1:
            x = np.maximum(x, 0.0)
    return x, inputs


def backward(layers: Layers, inputs: list[np.ndarray], slope: np.ndarray) -> tuple[Layers, np.ndarray]:
    """d loss / d parameters and d loss / d input, given d loss / d output [n, out]."""
    gradients: Layers = []
    for number in reversed(range(len(layers))):
        gradients.insert(0, (slope.T @ inputs[number], slope.sum(axis=0)))
        slope = slope @ layers[number][0]
        if number > 0:
            slope = slope * (inputs[number] > 0)  # through the ReLU that made this input
    return gradients, slope


class Adam:
    """Kingma & Ba 2015, algorithm 1."""

    def __init__(self, layers: Layers, learning_rate: float) -> None:
        self.learning_rate, self.time = learning_rate, 0
        self.first = [[np.zeros_like(part) for part in layer] for layer in layers]
        self.second = copy.deepcopy(self.first)

    def step(self, layers: Layers, gradients: Layers) -> Layers:
        self.time += 1
        stepped = []
        for layer, gradient, first, second in zip(layers, gradients, self.first, self.second, strict=True):
            parts = []
            for i in range(2):
                first[i] = 0.9 * first[i] + 0.1 * gradient[i]
                second[i] = 0.999 * second[i] + 0.001 * gradient[i] ** 2
                mean = first[i] / (1 - 0.9**self.time)
                square = second[i] / (1 - 0.999**self.time)
                parts.append(layer[i] - self.learning_rate * mean / (np.sqrt(square) + 1e-8))
            stepped.append((parts[0], parts[1]))
        return stepped


class Reference:
    """TD3+BC as its paper has it, in float64, with gradients by hand."""

    def __init__(self, state: State, observations: np.ndarray, algorithm: TD3BC) -> None:
        self.options = algorithm
        self.mean = observations.astype(np.float64).mean(axis=0)
        self.scale = observations.astype(np.float64).std(axis=0) + 1e-3
        self.actor = layers_of(state.actor.model.mlp)
        self.critics = [layers_of(state.critic.model.first.mlp), layers_of(state.critic.model.second.mlp)]
        self.target_actor, self.target_critics = copy.deepcopy((self.actor, self.critics))
        self.actor_adam = Adam(self.actor, algorithm.learning_rate)
        self.critic_adams = [Adam(critic, algorithm.learning_rate) for critic in self.critics]
        self.num_updates = 0

    def update(self, batch: dict[str, np.ndarray], noise: np.ndarray) -> tuple[float, float]:
        """One update on a batch with the given standard normal noise; critic loss and mean Q1 before it."""
        options = self.options
        num = len(batch["reward"])
        s = (batch["observation"] - self.mean) / self.scale
        next_s = (batch["next_observation"] - self.mean) / self.scale

        next_action = np.tanh(forward(self.target_actor, next_s)[0])
        noise = np.clip(options.target_noise * noise, -options.noise_clip, options.noise_clip)
        next_action = np.clip(next_action + noise, -1.0, 1.0)
        next_q = [forward(critic, np.hstack([next_s, next_action]))[0][:, 0] for critic in self.target_critics]
        y = batch["reward"] + options.gamma * (1.0 - batch["terminal"]) * np.minimum(*next_q)

        loss, mean_q = 0.0, 0.0
        for i in range(2):
            q, inputs = forward(self.critics[i], np.hstack([s, batch["action"]]))
            error = q[:, 0] - y
            loss += float(np.mean(error**2))
            mean_q = float(np.mean(q)) if i == 0 else mean_q
            gradients, _ = backward(self.critics[i], inputs, (2.0 * error / num)[:, None])
            self.critics[i] = self.critic_adams[i].step(self.critics[i], gradients)

        self.num_updates += 1
        if self.num_updates % options.policy_delay == 0:
            self._update_actor_and_targets(s, batch["action"])
        return loss, mean_q

    def _update_actor_and_targets(self, s: np.ndarray, logged: np.ndarray) -> None:
        num, width = logged.shape
        output, actor_inputs = forward(self.actor, s)
        action = np.tanh(output)
        q, critic_inputs = forward(self.critics[0], np.hstack([s, action]))
        kappa = self.options.alpha_bc / np.mean(np.abs(q))  # a constant to the gradient
        _, to_input = backward(self.critics[0], critic_inputs, np.full((num, 1), -kappa / num))
        to_action = to_input[:, s.shape[1] :] + 2.0 * (action - logged) / (num * width)
        gradients, _ = backward(self.actor, actor_inputs, to_action * (1.0 - action**2))
        self.actor = self.actor_adam.step(self.actor, gradients)

        self.target_actor = self._slow(self.actor, self.target_actor)
        self.target_critics = [
            self._slow(critic, target) for critic, target in zip(self.critics, self.target_critics, strict=True)
        ]

    def _slow(self, online: Layers, target: Layers) -> Layers:
        step = self.options.target_step_size
        return [
            (old_weight + step * (weight - old_weight), old_bias + step * (bias - old_bias))
            for (weight, bias), (old_weight, old_bias) in zip(online, target, strict=True)
        ]


def layers_of(mlp: MLP) -> Layers:
    return [(np.asarray(layer.weight.T, np.float64), np.asarray(layer.bias, np.float64)) for layer in mlp.layers]


def assert_layers(actual: MLP, expected: Layers) -> None:
    for layer, (weight, bias) in zip(actual.layers, expected, strict=True):
        np.testing.assert_allclose(layer.weight.T, weight, atol=1e-5)
        np.testing.assert_allclose(layer.bias, bias, atol=1e-5)


# ------------------------------------------------------------------------------------ fixtures


def make_logs(num: int = NUM_ROWS, seed: int = 0, spec: Spec = SPEC) -> dict[str, np.ndarray]:
    """Logs whose features have different offsets and scales, with terminals among them."""
    rng = np.random.default_rng(seed)
    scale, offset = np.array([1.0, 5.0, 0.2]), np.array([0.0, -3.0, 10.0])

    def observations() -> np.ndarray:
        return rng.normal(size=(num, 3))[:, : spec.observation_size] * scale + offset

    logs = {
        "observation": observations(),
        "action": rng.uniform(-1, 1, (num, spec.action_size)),
        "reward": rng.normal(size=num),
        "terminal": (np.arange(num) % 4 == 0).astype(np.float64),
        "next_observation": observations(),
    }
    return {name: column.astype(np.float32) for name, column in logs.items()}


def to_batch(logs: dict[str, np.ndarray]) -> Transition:
    columns = {name: column for name, column in logs.items() if name != "terminal"}
    columns["discount"] = 1.0 - logs["terminal"]
    return Transition(**{name: jax.device_put(column) for name, column in columns.items()})


def standardised_batch(state: State) -> Transition:
    logs = make_logs()
    mean, scale = np.asarray(state.normalizer.mean), np.asarray(state.normalizer.scale)
    return to_batch({**logs, "observation": (logs["observation"] - mean) / scale})


def make_experience(logs: dict[str, np.ndarray] | None = None) -> Experience:
    return Experience.create(to_batch(logs or make_logs()), SPEC, num_deployments=1, rows_per_deployment=NUM_ROWS)


@functools.cache
def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compiled whole and once, which is many times quicker than operation by operation."""
    return jax.jit(function)


TINY_INIT, TINY_UPDATE = TINY.init, TINY.update


def make_state(experience: Experience | None = None) -> State:
    return compiled(TINY_INIT)(experience or make_experience(), key=KEY)


def update(state: State, batch: Transition, seeds: Sequence[int] = (0,)) -> State:
    """One update after another on the same batch."""
    for seed in seeds:
        state, _ = compiled(TINY_UPDATE)(state, batch, key=jax.random.key(seed))
    return state


@jax.jit
def look(state: State, observation: jax.Array, action: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """pi(s), Q(s, a) and V(s) of raw observations, as a deployment and a sampler see them."""
    policy, critic = TINY.policy(state), TINY.critic(state)
    chosen = jax.vmap(lambda s: policy(s, key=KEY))(observation)
    return chosen, jax.vmap(critic.q)(observation, action), jax.vmap(lambda s: critic.v(s, key=KEY))(observation)


def differs(first: object, second: object) -> bool:
    pairs = zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)
    return any(not np.array_equal(np.asarray(one), np.asarray(other)) for one, other in pairs)


def all_finite(tree: object) -> bool:
    return all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves(tree))


# --------------------------------------------------------------------------------------- tests


# large steps and noise, so that targets, clipping and the bounds on actions all matter
UNUSUAL = TD3BC(
    hidden=(4, 4),
    learning_rate=0.01,
    gamma=0.5,
    alpha_bc=0.4,
    target_noise=1.0,
    noise_clip=0.8,
    policy_delay=3,
    target_step_size=0.3,
)


@pytest.mark.parametrize(("algorithm", "step"), [(TINY, TINY_UPDATE), (UNUSUAL, UNUSUAL.update)])
def test_agrees_with_a_second_implementation(algorithm: TD3BC, step: Callable[..., Any]) -> None:
    logs = make_logs()
    state = make_state(make_experience(logs))
    reference = Reference(state, logs["observation"], algorithm)
    for number in range(8):
        key = jax.random.key(number)
        rows = np.random.default_rng(number).integers(NUM_ROWS, size=NUM_ROWS)
        batch = {name: column[rows] for name, column in logs.items()}
        state, metrics = compiled(step)(state, to_batch(batch), key=key)
        noise = np.asarray(jax.random.normal(key, (NUM_ROWS, SPEC.action_size)), np.float64)
        loss, mean_q = reference.update({name: column.astype(np.float64) for name, column in batch.items()}, noise)
        np.testing.assert_allclose(metrics["critic_loss"], loss, rtol=1e-4)
        np.testing.assert_allclose(metrics["mean_q"], mean_q, atol=1e-5)
        assert_layers(state.actor.model.mlp, reference.actor)
        assert_layers(state.target_actor.mlp, reference.target_actor)
        for network, layers in (
            (state.critic.model.first, reference.critics[0]),
            (state.critic.model.second, reference.critics[1]),
            (state.target_critic.first, reference.target_critics[0]),
            (state.target_critic.second, reference.target_critics[1]),
        ):
            assert_layers(network.mlp, layers)
    assert int(state.num_updates) == reference.num_updates == 8


def test_the_second_implementation_has_the_gradients_of_its_losses() -> None:
    """Central differences, so that both implementations cannot be wrong in the same way."""
    rng = np.random.default_rng(0)
    layers = [(rng.normal(size=(4, 5)), rng.normal(size=4)), (rng.normal(size=(1, 4)), rng.normal(size=1))]
    x, weights = rng.normal(size=(6, 5)), rng.normal(size=(6, 1))
    _, inputs = forward(layers, x)
    gradients, to_input = backward(layers, inputs, weights)

    def difference(array: np.ndarray, index: tuple[int, ...]) -> float:
        values = []
        for step in (1e-6, -1e-6):
            array[index] += step
            values.append(float(np.sum(weights * forward(layers, x)[0])))
            array[index] -= step
        return (values[0] - values[1]) / 2e-6

    arrays = [*(array for layer in layers for array in layer), x]
    slopes = [*(slope for gradient in gradients for slope in gradient), to_input]
    for array, slope in zip(arrays, slopes, strict=True):
        for index in np.ndindex(array.shape):
            assert difference(array, index) == pytest.approx(slope[index], abs=1e-6)


def test_target_is_the_reward_where_the_episode_terminated() -> None:
    state, batch = make_state(), to_batch(make_logs())
    target = jax.jit(TINY.target)(state, batch, key=KEY)
    terminal = np.asarray(batch.discount) == 0.0
    np.testing.assert_array_equal(np.asarray(target)[terminal], np.asarray(batch.reward)[terminal])
    assert np.all(np.asarray(target)[~terminal] != np.asarray(batch.reward)[~terminal])


def test_actor_and_targets_rest_on_odd_updates() -> None:
    start, batch = make_state(), to_batch(make_logs())
    first = update(start, batch)
    assert differs(start.critic.model, first.critic.model)
    for name in ("actor", "target_actor", "target_critic"):
        assert not differs(getattr(start, name), getattr(first, name)), name
    second = update(first, batch)
    for name in ("actor", "target_actor", "target_critic"):
        assert differs(getattr(first, name), getattr(second, name)), name


def test_targets_start_as_copies() -> None:
    state = make_state()
    assert not differs(state.actor.model, state.target_actor)
    assert not differs(state.critic.model, state.target_critic)


def test_merging_leaves_normalizer_and_functions_alone() -> None:
    logs, experience = to_batch(make_logs()), make_experience()
    state = make_state(experience)
    before = look(state, logs.observation, logs.action)

    moved = make_logs(seed=1)
    moved["observation"] += 100.0
    merged = experience.merge(to_batch(moved), 1)
    online = jax.jit(Experience.__getitem__)(merged, np.arange(NUM_ROWS, 2 * NUM_ROWS))
    tuned = update(state, online, seeds=range(3))
    assert not differs(tuned.normalizer, state.normalizer)
    after = look(tuned._replace(actor=state.actor, critic=state.critic), logs.observation, logs.action)
    assert not differs(before, after)
    # refitting would have changed it
    assert differs(make_state(make_experience(moved)).normalizer, state.normalizer)


def test_raw_observations_are_standardised_once_everywhere() -> None:
    state, logs = make_state(), make_logs()
    standardised = (logs["observation"] - np.asarray(state.normalizer.mean)) / np.asarray(state.normalizer.scale)
    chosen, q_values, values = look(state, jax.device_put(logs["observation"]), jax.device_put(logs["action"]))
    expected = np.tanh(forward(layers_of(state.actor.model.mlp), standardised)[0])
    first = layers_of(state.critic.model.first.mlp)
    np.testing.assert_allclose(chosen, expected, atol=1e-5)
    np.testing.assert_allclose(q_values, forward(first, np.hstack([standardised, logs["action"]]))[0][:, 0], atol=1e-5)
    np.testing.assert_allclose(values, forward(first, np.hstack([standardised, expected]))[0][:, 0], atol=1e-5)


def test_without_value_term_only_cloning_is_left() -> None:
    cloning = TD3BC(hidden=(4, 4), alpha_bc=0.0)
    state = make_state()
    actor, critic, batch = state.actor.model, state.critic.model, standardised_batch(state)

    def error(actor: DeterministicActor) -> jax.Array:
        return jnp.mean(jnp.square(jax.vmap(actor)(batch.observation) - batch.action))

    @jax.jit
    def slopes() -> tuple[Any, Any]:
        whole = jax.value_and_grad(cloning.actor_loss, argnums=(0, 1))(actor, critic, batch)
        return whole, jax.value_and_grad(error)(actor)

    (loss, (to_actor, to_critic)), expected = slopes()
    assert not any(np.any(np.asarray(leaf)) for leaf in jax.tree.leaves(to_critic))
    for one, other in zip(jax.tree.leaves((loss, to_actor)), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)


def test_the_scale_of_q_does_not_reach_the_actor() -> None:
    state = make_state()
    twins, batch = state.critic.model, standardised_batch(state)
    *layers, last = twins.first.mlp.layers

    @jax.jit
    def slopes(factor: jax.Array) -> DeterministicActor:
        scaled = MLP((*layers, jax.tree.map(lambda leaf: factor * leaf, last)))
        return jax.grad(TINY.actor_loss)(state.actor.model, TwinQ(QNetwork(scaled), twins.second), batch)

    plain = slopes(jnp.float32(1.0))
    for factor in (1e-3, 7.0, 1e4):
        for one, other in zip(jax.tree.leaves(plain), jax.tree.leaves(slopes(jnp.float32(factor))), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-6)


def hostile_logs() -> dict[str, dict[str, np.ndarray]]:
    plain = make_logs()
    return {
        "all terminal": {**plain, "terminal": np.ones_like(plain["terminal"])},
        "one repeated row": {name: np.repeat(column[:1], NUM_ROWS, axis=0) for name, column in plain.items()},
        "rewards of a million": {**plain, "reward": np.where(plain["reward"] > 0, 1e6, -1e6).astype(np.float32)},
        "no reward at all": {**plain, "reward": np.zeros_like(plain["reward"])},
        "constant observations": {
            **plain,
            "observation": np.full_like(plain["observation"], 1e6),
            "next_observation": np.full_like(plain["observation"], 1e6),
        },
        "next observations elsewhere": {**plain, "next_observation": plain["next_observation"] + 1e6},
    }


@pytest.mark.parametrize("name", hostile_logs())
def test_hostile_data_leaves_everything_finite(name: str) -> None:
    logs = hostile_logs()[name]
    state = update(make_state(make_experience(logs)), to_batch(logs), seeds=range(4))
    assert all_finite(state)
    assert all_finite(look(state, jax.device_put(logs["observation"]), jax.device_put(logs["action"])))


def test_zero_values_do_not_divide_by_zero() -> None:
    state, logs = make_state(), make_logs()
    silent, target = jax.tree.map(lambda leaf: jax.device_put(np.zeros_like(leaf)), (state.critic, state.target_critic))
    batch = to_batch({**logs, "reward": np.zeros_like(logs["reward"])})
    assert all_finite(update(state._replace(critic=silent, target_critic=target), batch, seeds=range(2)))


def test_discrete_actions_are_refused_with_advice() -> None:
    with pytest.raises(ConfigError, match='continuous.*Choose "cql" instead'):
        TINY.init(discrete_experience(), key=KEY)


def test_learns_a_bandit_or_clones_it() -> None:
    """One step, reward -(a - 0.5)^2, actions uniform: the value term moves the policy from 0 to 0.5."""
    rng = np.random.default_rng(0)
    num = 2000
    actions = rng.uniform(-1, 1, (num, 1)).astype(np.float32)
    observations = jax.device_put(np.asarray(rng.normal(size=(num, 2)), np.float32))
    bandit = Transition(
        observations,
        jax.device_put(actions),
        jax.device_put(-((actions[:, 0] - 0.5) ** 2)),
        jax.device_put(np.zeros(num, np.float32)),
        observations,
    )
    experience = Experience.create(bandit, Spec(2, 1), num_deployments=1, rows_per_deployment=1)
    start = jax.jit(TD3BC(hidden=(16, 16)).init)(experience, key=KEY)
    batches = jax.device_put(rng.integers(num, size=(1500, 128)))

    def learned_actions(algorithm: TD3BC) -> np.ndarray:
        def step(state: State, rows: jax.Array) -> tuple[State, None]:
            return algorithm.update(state, experience[rows], key=KEY)[0], None

        @jax.jit
        def learn(start: State) -> jax.Array:
            policy = algorithm.policy(jax.lax.scan(step, start, batches)[0])
            return jax.vmap(lambda s: policy(s, key=KEY))(observations)

        return np.asarray(learn(start))[:, 0]

    cloned, improved = (
        learned_actions(TD3BC(hidden=(16, 16), learning_rate=3e-3, alpha_bc=alpha_bc)) for alpha_bc in (0.0, 50.0)
    )
    assert cloned.mean() == pytest.approx(0.0, abs=0.12)
    assert improved.mean() == pytest.approx(0.5, abs=0.1)
    assert np.mean(np.abs(improved - 0.5)) < 0.25


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("hidden", (4, 0)),
        ("learning_rate", 0.0),
        ("gamma", 1.01),
        ("gamma", float("nan")),
        ("alpha_bc", -1.0),
        ("target_noise", -0.1),
        ("noise_clip", -0.1),
        ("policy_delay", 0),
        ("target_step_size", 0.0),
    ],
)
def test_impossible_options_are_refused_by_name_and_value(option: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"{option} is {re.escape(str(value))}"):
        TD3BC(**{option: value})  # pyright: ignore[reportArgumentType]
