"""CPU time of one update of each algorithm: marline's, and in the same run those of other implementations.

Batch 128 from 100,000 random rows, observation 17, action 3; everything on one core. The other
implementations are imported from local checkouts, sampling from their own replay data as they do;
without any, marline's side is measured alone:

    --td3-bc  the official implementation of TD3+BC, in PyTorch (holds TD3_BC.py and utils.py)
    --bcq     the official implementation of BCQ, in PyTorch (holds continuous_BCQ/BCQ.py and utils.py)
    --jax     unifloral, in JAX (holds algorithms/td3_bc.py and algorithms/iql.py)
    --jax-corl  JAX-CORL (holds algos/awac.py, cql.py, iql.py and td3bc.py)

All but the last fix the widths of their hidden layers. For others their layers are replaced as their
module is imported; nothing else of them is touched. JAX-CORL normalises layers in some networks, which
marline does not and which is left out. An update of TD3+BC is one step of both critics and, every second
time, one of the actor and of the targets; of CQL all take 10 uniform actions per row, and 10 of the policy
at either end.
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
from marline.algorithms import AWAC, BCQ, IQL, TD3BC, ContinuousCQL
from marline.data.experience import Experience
from marline.population import map_learners
from marline.samplers import Uniform
from marline.types import Spec, Transition

NUM_ROWS = 100_000
BATCH_SIZE = 128
SPEC = Spec(observation_size=17, action_size=3)
PEER_WIDTHS = (256, 300, 400, 750)  # of hidden layers, literals in the other implementations
POLICY_DELAY = 2


def random_data() -> Transition:
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape, np.float32)

    columns: dict[str, Any] = {  # of NumPy, where a batch has JAX's
        "observation": normal(NUM_ROWS, SPEC.observation_size),
        "action": np.tanh(normal(NUM_ROWS, SPEC.action_size)),
        "reward": normal(NUM_ROWS),
        "discount": (rng.random(NUM_ROWS) > 0.01).astype(np.float32),
        "next_observation": normal(NUM_ROWS, SPEC.observation_size),
    }
    return Transition(**columns)


def marline_side(data: Transition, algorithm: Any) -> interleave.Run:
    """The loop that a campaign runs, with all that it measures on the way."""
    sampler = Uniform(batch_size=BATCH_SIZE)
    experience = Experience.create(data, SPEC, num_deployments=0, rows_per_deployment=0)
    state = AgentState(algorithm.init(experience, key=jax.random.key(0)), (), experience)
    key = jax.random.key(1)
    done = 0

    def run(num_updates: int) -> None:
        nonlocal state, done
        static = {"algorithm": algorithm, "sampler": sampler, "num_updates": num_updates}
        tuned = map_learners(tune, {0: state}, {0: key}, {0: key}, {0: jnp.int32(done)}, static=static)[0]
        state = state._replace(learner=jax.block_until_ready(tuned.learner))
        done += num_updates

    return run


def td3_bc_torch_side(checkout: Path, data: Transition, hidden: int) -> interleave.Run:
    """The official implementation, with its own replay buffer, standardised as its main script does."""
    import torch  # pyright: ignore[reportMissingImports]

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


def bcq_torch_learner(checkout: Path, hidden: int) -> Any:
    """The official implementation, its layers as wide as asked for."""
    import torch  # pyright: ignore[reportMissingImports]

    torch.set_num_threads(1)
    peer, linear = load(checkout / "continuous_BCQ" / "BCQ.py"), torch.nn.Linear
    peer.nn = delegate(torch.nn, Linear=lambda ins, outs: linear(resized(ins, hidden), resized(outs, hidden)))
    learner = peer.BCQ(SPEC.observation_size, SPEC.action_size, 1.0, torch.device("cpu"))
    assert learner.critic.l2.weight.shape == learner.vae.d2.weight.shape == (hidden, hidden)
    return learner


def bcq_torch_side(checkout: Path, data: Transition, hidden: int) -> interleave.Run:
    """The official implementation, with its own replay buffer."""
    learner = bcq_torch_learner(checkout, hidden)
    buffers = load(checkout / "continuous_BCQ" / "utils.py")
    replay = buffers.ReplayBuffer(SPEC.observation_size, SPEC.action_size, learner.device, max_size=NUM_ROWS)
    replay.state[:], replay.action[:], replay.next_state[:] = data.observation, data.action, data.next_observation
    replay.reward[:, 0], replay.not_done[:, 0] = data.reward, data.discount
    replay.size = NUM_ROWS
    return lambda num_updates: learner.train(replay, num_updates, batch_size=BATCH_SIZE)


class Unifloral:
    """What its files have in common."""

    def __init__(self, path: Path, data: Transition, hidden: int, **args: Any) -> None:
        self.module: Any = load_script(path)
        dense = self.module.nn.Dense
        self.module.nn = delegate(self.module.nn, Dense=lambda outs: dense(resized(outs, hidden)))
        self.args = self.module.Args(batch_size=BATCH_SIZE, **args)
        self.dataset = self.module.Transition(
            obs=jnp.asarray(data.observation),
            action=jnp.asarray(data.action),
            reward=jnp.asarray(data.reward),
            next_obs=jnp.asarray(data.next_observation),
            done=1.0 - jnp.asarray(data.discount),
        )
        self.statistics = self.dataset.obs.mean(axis=0), self.dataset.obs.std(axis=0)
        self.observation, self.action = jnp.zeros(SPEC.observation_size), jnp.zeros(SPEC.action_size)

    def train_state(self, seed: int, network: Any, *inputs: jax.Array) -> Any:
        return self.module.create_train_state(self.args, jax.random.key(seed), network, inputs)


def scan_side(step: Any, state: Any, updates_per_step: int) -> interleave.Run:
    """One compiled loop over `step(carry, number) -> carry, losses`, where the carry is a key and the state."""

    @jax.jit
    def train(carry: Any, steps: jax.Array) -> Any:
        return jax.lax.scan(step, carry, steps)

    # numbers become arrays, as which they come back: otherwise the next call would compile anew
    state = jax.tree.map(lambda x: jnp.asarray(x, jnp.result_type(type(x))) if isinstance(x, int | float) else x, state)
    carry = (jax.random.key(0), state)

    def run(num_updates: int) -> None:
        nonlocal carry
        carry, losses = train(carry, jnp.arange(num_updates // updates_per_step))
        jax.block_until_ready((carry, losses))

    return run


def td3_bc_jax_side(checkout: Path, data: Transition, hidden: int) -> interleave.Run:
    """A step makes two updates of the critics and one of the rest, on one batch: it samples half as often."""
    path = checkout / "algorithms" / "td3_bc.py"
    peer = Unifloral(path, data, hidden, num_critic_updates_per_step=POLICY_DELAY)
    actor = peer.module.DeterministicTanhActor(SPEC.action_size, *peer.statistics)
    critic = peer.module.DualQNetwork(*peer.statistics)
    state = peer.module.AgentTrainState(
        actor=peer.train_state(1, actor, peer.observation),
        actor_target=peer.train_state(1, actor, peer.observation),
        dual_q=peer.train_state(2, critic, peer.observation, peer.action),
        dual_q_target=peer.train_state(2, critic, peer.observation, peer.action),
    )
    assert {hidden} == {x.shape[-1] for x in jax.tree.leaves(state.dual_q.params)} - {1}
    step = peer.module.make_train_step(peer.args, actor.apply, critic.apply, peer.dataset)
    return scan_side(step, state, POLICY_DELAY)


def iql_jax_side(checkout: Path, data: Transition, hidden: int) -> interleave.Run:
    """It standardises observations, which marline's IQL does not."""
    peer = Unifloral(checkout / "algorithms" / "iql.py", data, hidden)
    actor = peer.module.TanhGaussianActor(SPEC.action_size, *peer.statistics)
    critic, value = (getattr(peer.module, kind)(*peer.statistics) for kind in ("DualQNetwork", "StateValueFunction"))
    state = peer.module.AgentTrainState(
        actor=peer.train_state(1, actor, peer.observation),
        dual_q=peer.train_state(2, critic, peer.observation, peer.action),
        dual_q_target=peer.train_state(2, critic, peer.observation, peer.action),
        value=peer.train_state(3, value, peer.observation),
    )
    step = peer.module.make_train_step(peer.args, actor.apply, critic.apply, value.apply, peer.dataset)
    return scan_side(step, state, 1)


def jax_corl_side(checkout: Path, data: Transition, hidden: int, name: str) -> interleave.Run:
    """In one compiled loop, which costs it less than its own, a Python loop of eight updates at a time.

    Its AWAC and TD3+BC write the targets after so many updates as are compiled in one piece.
    """
    widths = (hidden, hidden)
    file, kind, options = {
        "td3-bc": ("td3bc", "TD3BC", {"hidden_dims": widths, "policy_freq": POLICY_DELAY}),
        "awac": ("awac", "AWAC", {"actor_hidden_dims": widths, "critic_hidden_dims": widths}),
        "iql": ("iql", "IQL", {"hidden_dims": widths, "layer_norm": False, "opt_decay_schedule": False}),
        "cql-continuous": ("cql", "CQL", {"hidden_dims": widths, "target_entropy": -float(SPEC.action_size)}),
    }[name]
    if name == "cql-continuous":
        options |= {"action_dim": SPEC.action_size, "cql_n_actions": ContinuousCQL().num_action_samples}
    module: Any = load_script(checkout / "algos" / f"{file}.py")
    module.nn = delegate(module.nn, LayerNorm=lambda: lambda x: x)
    updates_per_step = POLICY_DELAY if name == "td3-bc" else 1
    config = getattr(module, f"{kind}Config")(batch_size=BATCH_SIZE, n_jitted_updates=updates_per_step, **options)
    module.config = config  # its actor looks here for the number of its outputs
    columns = {
        "observations": data.observation,
        "actions": data.action,
        "rewards": data.reward,
        "next_observations": data.next_observation,
        "dones": 1.0 - data.discount,
        "dones_float": 1.0 - data.discount,
    }
    dataset = module.Transition(**{name: jnp.asarray(columns[name]) for name in module.Transition._fields})
    create = getattr(module, f"create_{file}_train_state")
    state = create(jax.random.key(0), dataset.observations[0], dataset.actions[0], config)
    actor = state.policy if name == "cql-continuous" else state.actor
    assert any(np.shape(x)[-1:] == (hidden,) for x in jax.tree.leaves(actor.params))
    algorithm = getattr(module, kind)

    def step(carry: Any, _: jax.Array) -> Any:
        key, state = carry
        key, update_key = jax.random.split(key)
        state, losses = algorithm.update_n_times(state, dataset, update_key, config)
        return (key, state), losses

    return scan_side(step, state, updates_per_step)


def load_script(path: Path) -> types.ModuleType:
    """A module of JAX that is a script, too: stand-ins for what only the script uses and is not installed."""
    nothing = {
        "d4rl": {},
        "gym": {"Env": object},
        "tqdm": {},
        "wandb": {},
        "omegaconf": {"OmegaConf": types.SimpleNamespace(from_cli=dict)},
        "pydantic": {"BaseModel": types.SimpleNamespace},
    }
    for name, content in nothing.items():
        if name not in sys.modules and importlib.util.find_spec(name) is None:
            sys.modules[name] = types.ModuleType(name)
            vars(sys.modules[name]).update(content)
    flags = os.environ.get("XLA_FLAGS")
    module = load(path)
    os.environ.pop("XLA_FLAGS")  # which the module sets, for GPUs
    if flags is not None:
        os.environ["XLA_FLAGS"] = flags
    return module


def load(path: Path) -> Any:
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
    """`hidden` in place of another implementation's width; observation and action have other sizes."""
    return hidden if size in PEER_WIDTHS else size


def sides_of(name: str, hidden: int, data: Transition, args: argparse.Namespace) -> dict[str, interleave.Run]:
    """Every implementation of an algorithm that there is a checkout of; marline's first."""
    widths = (hidden, hidden)
    algorithm = {
        "td3-bc": TD3BC(widths, policy_delay=POLICY_DELAY),
        "bcq": BCQ(widths),
        "awac": AWAC(widths),
        "iql": IQL(widths),
        "cql-continuous": ContinuousCQL(widths),
    }[name]
    sides = {"marline": marline_side(data, algorithm)}
    if name == "td3-bc" and args.td3_bc:
        sides["official PyTorch"] = td3_bc_torch_side(args.td3_bc, data, hidden)
    if name == "bcq" and args.bcq:
        sides["official PyTorch"] = bcq_torch_side(args.bcq, data, hidden)
    if name in ("td3-bc", "iql") and args.jax:
        side = td3_bc_jax_side if name == "td3-bc" else iql_jax_side
        sides["unifloral (JAX)"] = side(args.jax, data, hidden)
    if name != "bcq" and args.jax_corl:
        sides["JAX-CORL"] = jax_corl_side(args.jax_corl, data, hidden, name)
    return sides


def compare(name: str, hidden: int, args: argparse.Namespace) -> None:
    sides = sides_of(name, hidden, random_data(), args)
    rounds = interleave.measure(sides, num_rounds=args.rounds, num_updates=args.updates)
    print(f"{name}, {hidden} x {hidden} units, {args.rounds} rounds of {args.updates} updates: ", end="")
    print("median (least to greatest)\n")
    rows = [
        [
            side,
            interleave.spread(rounds[side]),
            "" if side == "marline" else interleave.spread(interleave.ratios(rounds, side, "marline"), "{:.2f}"),
        ]
        for side in sides
    ]
    interleave.print_table(["", "ms of CPU per update", "times marline's, in the same round"], rows)
    for side in list(sides)[1:]:
        listed = " ".join(f"{ratio:.2f}" for ratio in interleave.ratios(rounds, side, "marline"))
        print(f"{side} / marline, round by round: {listed}\n", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = ("td3-bc", "bcq", "awac", "iql", "cql-continuous")
    parser.add_argument("algorithms", nargs="*", default=names, metavar="ALGORITHM", help=", ".join(names))
    parser.add_argument("--td3-bc", type=Path, metavar="PATH", help="local checkout of the official TD3+BC")
    parser.add_argument("--bcq", type=Path, metavar="PATH", help="local checkout of the official BCQ")
    parser.add_argument("--jax", type=Path, metavar="PATH", help="local checkout of unifloral")
    parser.add_argument("--jax-corl", type=Path, metavar="PATH", help="local checkout of JAX-CORL")
    parser.add_argument("--hidden", type=int, nargs="+", default=[64, 256], help="widths to compare at")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--updates", type=int, default=600, help="per side and round; an even number")
    parser.add_argument("--quick", action="store_true", help="a few updates, to see that everything runs")
    args = parser.parse_args()
    if args.quick:
        args.rounds, args.updates = 2, 20
    for name in args.algorithms:
        for hidden in args.hidden:
            compare(name, hidden, args)


if __name__ == "__main__":
    main()
