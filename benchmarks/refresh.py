"""What OTC costs over uniform replay where it matches now and then: whole deployments, all counted in.

Each side begins a deployment (for OTC, estimating the mean distance) and makes its updates, refreshes included:
Cooperative Navigation with four agents, of which one is tuned on a million offline rows and 10,000 online ones;
batch 128, 512 candidates, 2000 references; everything on one core.
"""

# ruff: noqa: E402
from __future__ import annotations

import interleave

interleave.pin_to_one_core()

import argparse
import functools
from typing import Any

import jax
import jax.numpy as jnp
from samplers import logged

from marline.agent import AgentState, begin_deployment, tune
from marline.algorithms import BCQ, TD3BC, Algorithm
from marline.data.experience import Experience
from marline.population import compiled
from marline.samplers import OTC, SAMPLERS, EmbeddingDistance, Sampler

ALGORITHMS = {"TD3+BC": TD3BC, "BCQ": BCQ}


def compared(encoder_updates: int) -> dict[str, Sampler[Any]]:
    """The encoder is trained for a moment only, which changes no cost of a deployment."""
    embedding = OTC(EmbeddingDistance(num_updates=encoder_updates), match="refresh", num_estimate=2000)
    names = ("uniform", "otc-value-refresh", "otc-two-stage-refresh")
    return {**{name: SAMPLERS[name] for name in names}, "otc-embedding-refresh": embedding}


def deployment(sampler: Sampler[Any], algorithm: Algorithm[Any], experience: Experience) -> interleave.Run:
    """What a campaign computes per deployment, always from the same state."""
    learner = algorithm.init(experience, key=jax.random.key(0))
    memory = jax.jit(sampler.init)(experience, key=jax.random.key(2))
    state = AgentState(learner, memory, experience)
    begin = jax.jit(functools.partial(begin_deployment, algorithm=algorithm, sampler=sampler))
    key = jax.random.key(1)

    def run(num_updates: int) -> None:
        tuning = compiled(tune, {"algorithm": algorithm, "sampler": sampler, "num_updates": num_updates})
        begun = state._replace(sampler=begin(state, key)[0])
        jax.block_until_ready(tuning(begun, key, key, jnp.int32(0)))

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--algorithms", nargs="+", choices=list(ALGORITHMS), help="both unless given")
    parser.add_argument("--hidden", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--offline-rows", type=int, default=1_000_000)
    parser.add_argument("--online-rows", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--updates", type=int, default=2000, help="per deployment")
    parser.add_argument("--encoder", type=int, default=500, help="training steps of d_e's encoder")
    parser.add_argument("--quick", action="store_true", help="small data and few updates, to see that everything runs")
    args = parser.parse_args()
    if args.quick:
        args.offline_rows, args.online_rows, args.rounds, args.updates, args.encoder = 5000, 3000, 2, 10, 10
        args.hidden, args.algorithms = [16], args.algorithms or ["TD3+BC"]
    experience = logged(args.offline_rows, args.online_rows)
    for name in args.algorithms or ALGORITHMS:
        for hidden in args.hidden:
            algorithm = ALGORITHMS[name](hidden=(hidden, hidden))
            sides = {
                label: deployment(sampler, algorithm, experience) for label, sampler in compared(args.encoder).items()
            }
            rounds = interleave.measure(sides, num_rounds=args.rounds, num_updates=args.updates)
            print(f"### {name}, {hidden} units: {args.rounds} deployments of {args.updates} updates\n")
            over = {label: interleave.ratios(rounds, label, "uniform") for label in sides}
            rows = [
                [label, interleave.spread(rounds[label]), interleave.spread(over[label], "{:.3f}")] for label in sides
            ]
            interleave.print_table(["sampler", "ms of CPU per update, all counted in", "times uniform"], rows)
            for label in list(sides)[1:]:
                print(f"{label} / uniform, round by round:", *(f"{ratio:.3f}" for ratio in over[label]))
            print(flush=True)


if __name__ == "__main__":
    main()
