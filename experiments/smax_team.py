"""A medium team for SMAX: proximal policy optimisation until a return, and the policy that reached it first.

    python experiments/smax_team.py --out src/marline/behaviour_policy/policies/smax-5m_vs_6m-medium

PPO (Schulman et al. 2017, 1707.06347) as each agent's own learner, with one network for all of them (IPPO, de Witt et
al. 2020, 2011.09533): what is learned is logs for others, so that sharing parameters takes nothing from anybody. Every
agent learns from its own observations, its own choices and the team's reward. A battle that ends, in a victory, a
defeat or after its last step, is followed by another; its end is worth nothing.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from marline.behaviour_policy.battles import HIDDEN, target_return
from marline.data.checkpoints import save_checkpoint
from marline.envs import World, make_task
from marline.nn.actors import CategoricalActor, SampledPolicy
from marline.nn.mlp import MLP
from marline.rollouts.collection import evaluate
from marline.runtime import choose_device, set_up_jax


@dataclasses.dataclass(frozen=True)
class PPO:
    """How the team learns; numbers are those of JaxMARL's IPPO for SMAX, smaller.

    Attributes:
        num_worlds: battles side by side.
        num_steps: of each, before the network learns.
        num_epochs: passes over what was played.
        num_minibatches: of one pass.
        clip: how far a probability's ratio may count.
        entropy: weight of the policy's entropy.
    """

    hidden: tuple[int, ...] = HIDDEN
    learning_rate: float = 2e-3
    gamma: float = 0.99
    gae_lambda: float = 0.95
    num_worlds: int = 64
    num_steps: int = 64
    num_epochs: int = 2
    num_minibatches: int = 4
    clip: float = 0.2
    entropy: float = 0.01
    largest_gradient: float = 0.5

    @property
    def optimizer(self) -> optax.GradientTransformation:
        return optax.chain(optax.clip_by_global_norm(self.largest_gradient), optax.adam(self.learning_rate))


class Networks(eqx.Module):
    """Who acts, and who values what it sees."""

    actor: CategoricalActor
    value: MLP


class Step(NamedTuple):
    """A step of every agent: arrays begin with [agents]."""

    observation: Float[Array, "*n obs"]
    mask: Bool[Array, "*n choices"]
    action: Int[Array, "*n"]
    log_probability: Float[Array, "*n"]
    value: Float[Array, "*n"]
    reward: Float[Array, "*n"]
    goes_on: Float[Array, "*n"]


class State(NamedTuple):
    """What learning goes on from."""

    networks: Networks
    optimizer: Any
    worlds: Any
    times: Int[Array, " worlds"]


def advantages(
    steps: Step, last_value: Float[Array, "*n"], gamma: float, gae_lambda: float
) -> Float[Array, "steps ..."]:
    """Generalised advantage estimation (Schulman et al. 2016, 1506.02438): A_t = d_t + gamma lambda A_(t+1)."""

    def back(carry: tuple[Array, Array], step: Step) -> tuple[tuple[Array, Array], Array]:
        advantage, next_value = carry
        error = step.reward + gamma * step.goes_on * next_value - step.value
        advantage = error + gamma * gae_lambda * step.goes_on * advantage
        return (advantage, step.value), advantage

    return jax.lax.scan(back, (jnp.zeros_like(last_value), last_value), steps, reverse=True)[1]


def loss(networks: Networks, step: Step, advantage: Array, target: Array, ppo: PPO) -> Float[Array, ""]:
    """The clipped surrogate, the value's squared error, and the entropy, over a batch."""

    def of_one(step: Step, advantage: Array, target: Array) -> Array:
        logs = networks.actor.log_probabilities(step.observation, step.mask)
        ratio = jnp.exp(logs[step.action] - step.log_probability)
        clipped = jnp.clip(ratio, 1.0 - ppo.clip, 1.0 + ppo.clip)
        surrogate = jnp.minimum(ratio * advantage, clipped * advantage)
        entropy = -jnp.sum(jnp.where(step.mask, jnp.exp(logs) * logs, 0.0))
        error = networks.value(step.observation)[0] - target
        return -surrogate + 0.5 * jnp.square(error) - ppo.entropy * entropy

    return jnp.mean(jax.vmap(of_one)(step, advantage, target))


def begin(task: World, ppo: PPO, key: PRNGKeyArray) -> State:
    network_key, value_key, world_key = jax.random.split(key, 3)
    spec = task.specs[task.agents[0]]
    value = MLP.create(spec.observation_size, 1, ppo.hidden, key=value_key)
    networks = Networks(CategoricalActor.create(spec, ppo.hidden, key=network_key), value)
    worlds = jax.vmap(lambda one: task.reset(key=one))(jax.random.split(world_key, ppo.num_worlds))
    return State(networks, ppo.optimizer.init(networks), worlds, jnp.zeros(ppo.num_worlds, jnp.int32))  # pyright: ignore[reportArgumentType]


def play(task: World, networks: Networks, world: Any, time: Array, key: PRNGKeyArray) -> tuple[Any, Array, Step]:
    """One step of a world, and another battle where it ended."""
    observations = jnp.stack([task.observe(world)[agent] for agent in task.agents])
    masks = jnp.stack([task.action_masks(world)[agent] for agent in task.agents])
    logs = jax.vmap(networks.actor.log_probabilities)(observations, masks)
    act_key, step_key, reset_key = jax.random.split(key, 3)
    actions = jax.random.categorical(act_key, logs)
    after, reward, over = task.step(world, dict(zip(task.agents, actions, strict=True)), key=step_key)
    over = over | (time + 1 >= task.horizon)
    after = jax.tree.map(lambda new, old: jnp.where(over, new, old), task.reset(key=reset_key), after)
    num = len(task.agents)
    chosen = jnp.take_along_axis(logs, actions[:, None], axis=1)[:, 0]
    values = jax.vmap(networks.value)(observations)[:, 0]
    goes_on = jnp.full(num, 1.0 - over.astype(jnp.float32))
    step = Step(observations, masks, actions, chosen, values, jnp.full(num, reward), goes_on)
    return after, jnp.where(over, 0, time + 1), step


def iterate(state: State, key: PRNGKeyArray, task: World, ppo: PPO) -> State:
    """Play `num_steps` in every world, and learn from them."""
    play_key, learn_key = jax.random.split(key)

    def advance(carry: Any, number: Array) -> tuple[Any, Step]:
        keys = jax.random.split(jax.random.fold_in(play_key, number), ppo.num_worlds)
        worlds, times, step = jax.vmap(lambda *one: play(task, state.networks, *one))(*carry, keys)
        return (worlds, times), step

    (worlds, times), steps = jax.lax.scan(advance, (state.worlds, state.times), jnp.arange(ppo.num_steps))
    seen = jax.vmap(lambda world: jnp.stack([task.observe(world)[agent] for agent in task.agents]))(worlds)
    last_value = jax.vmap(jax.vmap(state.networks.value))(seen)[..., 0]
    advantage = advantages(steps, last_value, ppo.gamma, ppo.gae_lambda)
    rows = jax.tree.map(lambda x: x.reshape(-1, *x.shape[3:]), (steps, advantage, advantage + steps.value))
    num_rows = rows[1].shape[0]
    size = num_rows // ppo.num_minibatches

    def learn(carry: Any, batch: Any) -> tuple[Any, None]:
        networks, memory = carry
        step, advantage, target = batch
        advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        gradient = jax.grad(loss)(networks, step, advantage, target, ppo)
        updates, memory = ppo.optimizer.update(gradient, memory, networks)  # pyright: ignore[reportArgumentType]
        return (eqx.apply_updates(networks, updates), memory), None

    def epoch(carry: Any, number: Array) -> tuple[Any, None]:
        order = jax.random.permutation(jax.random.fold_in(learn_key, number), num_rows)[: size * ppo.num_minibatches]
        batches = jax.tree.map(lambda x: x[order].reshape(ppo.num_minibatches, size, *x.shape[1:]), rows)
        return jax.lax.scan(learn, carry, batches)[0], None

    carry = state.networks, state.optimizer
    networks, memory = jax.lax.scan(epoch, carry, jnp.arange(ppo.num_epochs))[0]
    return State(networks, memory, worlds, times)


def teach(task: World, ppo: PPO, seed: int, every: int, episodes: int) -> Iterator[tuple[int, Networks, np.ndarray]]:
    """Learn without end: after every so many iterations the steps of a battle so far, the networks, and returns."""
    begin_key, learn_key, evaluation_key = jax.random.split(jax.random.key(seed), 3)
    state = begin(task, ppo, begin_key)
    go_on = jax.jit(lambda state, key: iterate(state, key, task, ppo))
    number = 0
    while True:
        for _ in range(every):
            state = go_on(state, jax.random.fold_in(learn_key, number))
            number += 1
        policies = dict.fromkeys(task.agents, SampledPolicy(state.networks.actor))
        returns = evaluate(task, policies, episodes, key=evaluation_key).returns
        yield number * ppo.num_worlds * ppo.num_steps, state.networks, returns


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="smax-5m_vs_6m")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--evaluate-every", type=int, default=10, help="iterations of 4096 steps")
    parser.add_argument("--episodes", type=int, default=100, help="whose mean return decides")
    parser.add_argument("--max-steps", type=int, default=20_000_000)
    parser.add_argument("--target", type=float, help="the return to reach; a third of the most unless given")
    parser.add_argument("--quick", action="store_true", help="tiny, to see that it works")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    choose_device("cpu")
    set_up_jax()
    task = make_task(options.task)
    assert isinstance(task, World)
    ppo = PPO(hidden=(4,), num_worlds=2, num_steps=2, num_minibatches=2) if options.quick else PPO()
    target = options.target if options.target is not None else target_return("medium")
    episodes = 1 if options.quick else options.episodes
    began = time.process_time()
    evaluations: list[dict[str, float]] = []
    for num_steps, networks, returns in teach(task, ppo, options.seed, options.evaluate_every, episodes):
        mean = float(returns.mean())
        used = time.process_time() - began
        evaluations.append({"num_steps": num_steps, "mean_return": mean, "victories": float((returns >= 1.0).mean())})
        print(f"{num_steps:,} steps: return {mean:.3f} of {target:.3f}, {used:.0f} s of CPU", flush=True)
        if mean >= target or num_steps >= options.max_steps:
            training = {"task": options.task, "seed": options.seed, **dataclasses.asdict(ppo)}
            about = {"training": training, "evaluation": evaluations[-1], "evaluations": evaluations}
            save_checkpoint(options.out, {"actor": networks.actor}, {**about, "cpu_seconds": round(used)})
            break
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
