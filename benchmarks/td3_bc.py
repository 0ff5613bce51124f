"""CPU time of one TD3+BC update: marline's, and in the same run those of other implementations.

An update is one step of both critics and, every second time, one of the actor and of the targets;
batch 128 from 100,000 random rows, observation 17, action 3; everything on one core. The other
implementations are imported from local checkouts, sampling from their own replay data as they do:

    --torch  the official implementation of the paper, in PyTorch (holds TD3_BC.py and utils.py)
    --jax    unifloral, in JAX (holds algorithms/td3_bc.py)

Both fix 256 units per hidden layer. For other widths their layers are replaced as their module is
imported; nothing else of them is touched.
"""

# ruff: noqa: E402
from __future__ import annotations

import interleave

interleave.pin_to_one_core()

import argparse
import importlib.util
import os
import sys
import types
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from marline.agent import AgentState, tune
from marline.algorithms import TD3BC
from marline.data.experience import Experience
from marline.population import map_learners
from marline.samplers import Uniform
from marline.types import Spec, Transition

NUM_ROWS = 100_000
BATCH_SIZE = 128
SPEC = Spec(observation_size=17, action_size=3)
PEER_WIDTH = 256  # of hidden layers, a literal in both peers
POLICY_DELAY = 2


def random_data() -> Transition:
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape, np.float32)

    return Transition(
        observation=normal(NUM_ROWS, SPEC.observation_size),
        action=np.tanh(normal(NUM_ROWS, SPEC.action_size)),
        reward=normal(NUM_ROWS),
        discount=(rng.random(NUM_ROWS) > 0.01).astype(np.float32),
        next_observation=normal(NUM_ROWS, SPEC.observation_size),
    )


def marline_side(data: Transition, hidden: int) -> interleave.Run:
    """The loop that a campaign runs, with all that it measures on the way."""
    algorithm = TD3BC(hidden=(hidden, hidden), policy_delay=POLICY_DELAY)
    sampler = Uniform(batch_size=BATCH_SIZE)
    experience = Experience.create(data, SPEC, num_deployments=0, rows_per_deployment=0)
    state = AgentState(algorithm.init(experience, key=jax.random.key(0)), (), experience)
    key = jax.random.key(1)
    done = 0

    def run(num_updates: int) -> None:
        nonlocal state, done
        static = {"algorithm": algorithm, "sampler": sampler, "num_updates": num_updates}
        learner, _, _ = map_learners(tune, {0: state}, {0: key}, {0: key}, {0: jnp.int32(done)}, static=static)[0]
        state = state._replace(learner=jax.block_until_ready(learner))
        done += num_updates

    return run


def torch_side(checkout: Path, data: Transition, hidden: int) -> interleave.Run:
    """The official implementation, with its own replay buffer, standardised as its main script does."""
    import torch

    torch.set_num_threads(1)
    peer, buffers = load(checkout / "TD3_BC.py"), load(checkout / "utils.py")
    linear = torch.nn.Linear
    peer.nn = delegate(torch.nn, Linear=lambda ins, outs: linear(resized(ins, hidden), resized(outs, hidden)))
    learner = peer.TD3_BC(SPEC.observation_size, SPEC.action_size, max_action=1.0, policy_freq=POLICY_DELAY)
    assert learner.critic.l2.weight.shape == (hidden, hidden)
    replay = buffers.ReplayBuffer(SPEC.observation_size, SPEC.action_size, max_size=1)
    replay.convert_D4RL(
        {
            "observations": data.observation,
            "actions": data.action,
            "next_observations": data.next_observation,
            "rewards": data.reward,
            "terminals": data.discount == 0.0,
        }
    )
    replay.normalize_states()

    def run(num_updates: int) -> None:
        for _ in range(num_updates):
            learner.train(replay, BATCH_SIZE)

    return run


def jax_side(checkout: Path, data: Transition, hidden: int) -> interleave.Run:
    """unifloral's train step, scanned: each makes two critic steps, one of the actor and one of the targets.

    Both critic steps take the same batch, so it samples half as often as the others.
    """
    for name in ("d4rl", "gym", "wandb"):  # imported at its top, used by its script alone
        if name not in sys.modules and importlib.util.find_spec(name) is None:
            sys.modules[name] = types.ModuleType(name)
    flags = os.environ.get("XLA_FLAGS")
    peer: Any = load(checkout / "algorithms" / "td3_bc.py")
    os.environ.pop("XLA_FLAGS")  # which the module sets, for GPUs
    if flags is not None:
        os.environ["XLA_FLAGS"] = flags
    dense = peer.nn.Dense
    peer.nn = delegate(peer.nn, Dense=lambda outs: dense(resized(outs, hidden)))
    args = peer.Args(batch_size=BATCH_SIZE, num_critic_updates_per_step=POLICY_DELAY)
    dataset = peer.Transition(
        obs=jnp.asarray(data.observation),
        action=jnp.asarray(data.action),
        reward=jnp.asarray(data.reward),
        next_obs=jnp.asarray(data.next_observation),
        done=1.0 - jnp.asarray(data.discount),
    )
    mean, std = dataset.obs.mean(axis=0), dataset.obs.std(axis=0)
    actor = peer.DeterministicTanhActor(SPEC.action_size, mean, std)
    critic = peer.DualQNetwork(mean, std)
    observation, action = jnp.zeros(SPEC.observation_size), jnp.zeros(SPEC.action_size)
    key, actor_key, critic_key = jax.random.split(jax.random.key(0), 3)

    def train_state(key: jax.Array, network: Any, *inputs: jax.Array) -> Any:
        return peer.create_train_state(args, key, network, inputs)

    state = peer.AgentTrainState(
        actor=train_state(actor_key, actor, observation),
        actor_target=train_state(actor_key, actor, observation),
        dual_q=train_state(critic_key, critic, observation, action),
        dual_q_target=train_state(critic_key, critic, observation, action),
    )
    assert {hidden} == {x.shape[-1] for x in jax.tree.leaves(state.dual_q.params)} - {1}

    @jax.jit
    def train(carry: Any, dataset: Any, steps: jax.Array) -> Any:
        return jax.lax.scan(peer.make_train_step(args, actor.apply, critic.apply, dataset), carry, steps)

    carry = (key, state)

    def run(num_updates: int) -> None:
        nonlocal carry
        carry, losses = train(carry, dataset, jnp.arange(num_updates // POLICY_DELAY))
        jax.block_until_ready((carry, losses))

    return run


def load(path: Path) -> types.ModuleType:
    """A module from a file, under a name of its own; a new one at every call."""
    spec = importlib.util.spec_from_file_location(f"peer_{path.stem}", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise SystemExit(f"{path} is no Python file; give the path to a local checkout of the implementation")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def delegate(module: types.ModuleType, **instead: Any) -> types.SimpleNamespace:
    """A module's names, some of them replaced."""
    return types.SimpleNamespace(**{**{name: getattr(module, name) for name in dir(module)}, **instead})


def resized(size: int, hidden: int) -> int:
    """`hidden` in place of the peers' width; observation and action have other sizes."""
    return hidden if size == PEER_WIDTH else size


def compare(hidden: int, args: argparse.Namespace) -> None:
    data = random_data()
    sides = {"marline": marline_side(data, hidden)}
    if args.torch:
        sides["official PyTorch"] = torch_side(args.torch, data, hidden)
    if args.jax:
        sides["unifloral (JAX)"] = jax_side(args.jax, data, hidden)
    rounds = interleave.measure(sides, num_rounds=args.rounds, num_updates=args.updates)
    print(f"{hidden} x {hidden} units, {args.rounds} rounds of {args.updates} updates: median (least to greatest)\n")
    rows = [
        [
            name,
            interleave.spread(rounds[name]),
            "" if name == "marline" else interleave.spread(interleave.ratios(rounds, name, "marline"), "{:.2f}"),
        ]
        for name in sides
    ]
    interleave.print_table(["", "ms of CPU per update", "times marline's, in the same round"], rows)
    for name in list(sides)[1:]:
        listed = " ".join(f"{ratio:.2f}" for ratio in interleave.ratios(rounds, name, "marline"))
        print(f"{name} / marline, round by round: {listed}\n", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch", type=Path, metavar="PATH", help="local checkout of the official implementation")
    parser.add_argument("--jax", type=Path, metavar="PATH", help="local checkout of unifloral")
    parser.add_argument("--hidden", type=int, nargs="+", default=[64, 256], help="widths to compare at")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--updates", type=int, default=600, help="per side and round; an even number")
    parser.add_argument("--quick", action="store_true", help="a few updates, to see that everything runs")
    args = parser.parse_args()
    if args.quick:
        args.rounds, args.updates = 2, 20
    for hidden in args.hidden:
        compare(hidden, args)


if __name__ == "__main__":
    main()
