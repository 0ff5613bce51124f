"""What each sampler costs over uniform replay, where the time of OTC goes, and how fast a match is.

Cooperative Navigation with four agents, of which one is tuned on a million offline rows and 10,000
online ones; batch 128, 512 candidates, 2000 references; everything on one core. Samplers that refresh
now and then are measured over whole deployments, by refresh.py. Samplers that ask whether the world changed weigh rows
only if it did: `--changed` lets every step online lead twice as far. A deployment is its beginning and 2000 updates.
"""

# ruff: noqa: E402
from __future__ import annotations

import interleave

interleave.pin_to_one_core()

import argparse
import functools
import itertools
import statistics
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from marline.agent import AgentState, begin_deployment, tune
from marline.algorithms import BCQ, TD3BC, Algorithm
from marline.data.experience import Experience
from marline.envs import CooperativeNavigation
from marline.errors import ConfigError, require_name
from marline.ops.matching import best_match_scalar
from marline.ops.row_draws import rows_with_replacement, rows_without_replacement
from marline.population import map_learners
from marline.rollouts.collection import collect_random
from marline.samplers import OTC, SAMPLERS, ClassifierRatio, EmbeddingDistance, OnlineMatched, Sampler, trains
from marline.samplers.distances import EmbeddingState

ONLINE_SHARES = (0.9, 0.0, 0.1)  # the control must be told some; they do not change what it costs
ALGORITHMS = {  # d_q asks for V(s'), for BCQ a mean over ten actions
    "TD3+BC": TD3BC,
    "BCQ": BCQ,
    "BCQ-one-action": functools.partial(BCQ, num_value_candidates=1),
}
DEPLOYED = 2000  # updates after a deployment, the paper's
STAGED = ("otc-value", "otc-embedding", "otc-two-stage")
STAGES = ("draws", "gather", "features", "match", "rank + draw")


def logged(offline_rows: int, online_rows: int, *, changed: bool = False) -> Experience:
    """One agent's offline rows, and those of one deployment, in which steps may lead twice as far."""
    task = CooperativeNavigation(4)
    agent = task.agents[0]
    offline = collect_random(task, offline_rows, seed=0)[agent].transition()
    online = collect_random(task, online_rows, seed=1)[agent].transition()
    if changed:
        online = online._replace(next_observation=2 * online.next_observation - online.observation)
    spec = task.specs[agent]
    return Experience.create(offline, spec, num_deployments=1, rows_per_deployment=online_rows).merge(online, 1)


def every_sampler(encoder_updates: int) -> dict[str, Sampler[Any]]:
    """Encoder and classifiers are trained for a moment only, which changes no cost of an update."""
    return {
        **{name: its for name, its in SAMPLERS.items() if not name.endswith("-refresh") and trains(its)},
        "otc-embedding": OTC(EmbeddingDistance(num_updates=encoder_updates)),
        "classifier-ratio": ClassifierRatio(num_updates=encoder_updates),
    }


def ready(
    sampler: Sampler[Any], algorithm: Algorithm[Any], learner: Any, experience: Experience
) -> tuple[AgentState, float]:
    """An agent at the start of its first deployment, and the CPU time of beginning that, in seconds."""
    memory = jax.jit(sampler.init)(experience, key=jax.random.key(2))
    if isinstance(sampler, OnlineMatched):
        memory = sampler.prescribe(memory, 1, jnp.array(ONLINE_SHARES))
    state = AgentState(learner, memory, experience)
    begin = jax.jit(functools.partial(begin_deployment, algorithm=algorithm, sampler=sampler))
    jax.block_until_ready(begin(state, jax.random.key(3)))  # compiles
    began = time.process_time()
    memory, _ = jax.block_until_ready(begin(state, jax.random.key(3)))
    return state._replace(sampler=memory), time.process_time() - began


def tuning(sampler: Sampler[Any], algorithm: Algorithm[Any], state: AgentState) -> interleave.Run:
    """The loop that a campaign runs, always from the same state."""
    key = jax.random.key(1)

    def run(num_updates: int) -> None:
        static = {"algorithm": algorithm, "sampler": sampler, "num_updates": num_updates}
        jax.block_until_ready(map_learners(tune, {0: state}, {0: key}, {0: key}, {0: jnp.int32(0)}, static=static))

    return run


def compare_samplers(
    samplers: Mapping[str, Sampler[Any]],
    algorithm: Algorithm[Any],
    states: Mapping[str, AgentState],
    seconds: Mapping[str, float],
    title: str,
    args: argparse.Namespace,
) -> None:
    sides = {name: tuning(sampler, algorithm, states[name]) for name, sampler in samplers.items()}
    rounds = interleave.measure(sides, num_rounds=args.rounds, num_updates=args.updates)
    print(f"### Samplers, {title}: {args.rounds} rounds of {args.updates} updates\n")
    over = {name: interleave.ratios(rounds, name, "uniform") for name in sides}
    updating = {name: DEPLOYED * statistics.median(rounds[name]) / 1e3 for name in sides}
    rows = []
    for name in sides:
        whole = (seconds[name] + updating[name]) / (seconds["uniform"] + updating["uniform"])
        times = interleave.spread(over[name], "{:.2f}")
        rows.append([name, interleave.spread(rounds[name]), times, f"{seconds[name]:.2f}", f"{whole:.2f}"])
    header = [
        "sampler",
        "ms of CPU per update",
        "times uniform",
        "s to begin a deployment",
        "a deployment, times uniform",
    ]
    interleave.print_table(header, rows)
    for name in list(sides)[1:]:
        print(f"{name} / uniform, round by round:", *(f"{ratio:.2f}" for ratio in over[name]))
    print(flush=True)


def up_to(stage: str, sampler: OTC, algorithm: Algorithm[Any], state: AgentState, key: jax.Array) -> Any:
    """What `OTC.sample` has in hand after one of its stages; the last is the method itself."""
    experience, memory, critic = state.experience, state.sampler, algorithm.critic(state.learner)
    if stage == STAGES[-1]:
        return sampler.sample(memory, experience, critic, key=key)[0]
    candidate_key, reference_key, match_key, _, _ = jax.random.split(key, 5)
    start, stop, num = experience.online_start, experience.size, min(sampler.num_references, experience.max_online)
    candidates = rows_with_replacement(0, stop, sampler.num_candidates, key=candidate_key)
    references = rows_without_replacement(start, stop, num, key=reference_key)
    if stage == "draws":
        return candidates, references
    if stage == "gather":
        stored = memory.distance.embeddings if isinstance(memory.distance, EmbeddingState) else experience
        return stored[jnp.concatenate([candidates, references])]
    first, second, _ = sampler._distance.features(
        memory.distance, experience, critic, candidates, references, key=match_key
    )
    if stage == "features":
        return first, second
    return sampler._match(first, second, candidates, references, key=match_key)


def repeat(stage: str, sampler: OTC, algorithm: Algorithm[Any], state: AgentState) -> interleave.Run:
    """Nothing but sampling, up to a stage."""

    @functools.partial(jax.jit, static_argnames="num_updates")
    def loop(state: AgentState, num_updates: int) -> Any:
        def once(_: Any, key: jax.Array) -> tuple[Any, None]:
            return up_to(stage, sampler, algorithm, state, key), None  # carried, so that nothing is left out

        keys = jax.random.split(jax.random.key(4), num_updates)
        blank = jax.tree.map(jnp.zeros_like, up_to(stage, sampler, algorithm, state, keys[0]))
        return jax.lax.scan(once, blank, keys)[0]

    return lambda num_updates: jax.block_until_ready(loop(state, num_updates))


def break_down(
    samplers: Mapping[str, Sampler[Any]],
    algorithm: Algorithm[Any],
    states: Mapping[str, AgentState],
    title: str,
    args: argparse.Namespace,
) -> None:
    if not set(STAGED) & set(samplers):
        return
    sides = {
        f"{name} {stage}": repeat(stage, sampler, algorithm, states[name])
        for name, sampler in samplers.items()
        if name in STAGED and isinstance(sampler, OTC)
        for stage in STAGES
    }
    rounds = interleave.measure(sides, num_rounds=args.rounds, num_updates=args.updates)
    print(f"### Stages of OTC, {title}: microseconds of CPU per update, median\n")
    rows = []
    for name in filter(samplers.__contains__, STAGED):
        until = [1e3 * statistics.median(rounds[f"{name} {stage}"]) for stage in STAGES]
        parts = [now - before for before, now in zip([0.0, *until[:-1]], until, strict=True)]
        rows.append([name, *(f"{part:.0f}" for part in parts), f"{until[-1]:.0f}"])
    interleave.print_table(["sampler", *STAGES, "all"], rows)


def compare_matching(args: argparse.Namespace) -> None:
    """The closest of 2000 numbers to each of 512: every pair compared, and `best_match_scalar`."""

    def brute(queries: jax.Array, references: jax.Array, key: jax.Array) -> jax.Array:
        return jnp.argmin(jnp.abs(queries[:, None] - references[None, :]), axis=1).astype(jnp.int32)

    def sorting(queries: jax.Array, references: jax.Array, key: jax.Array) -> jax.Array:
        return best_match_scalar(queries, references, key=key)

    def side(match: Any) -> interleave.Run:
        @functools.partial(jax.jit, static_argnames="num_updates")
        def loop(num_updates: int) -> jax.Array:
            def once(_: jax.Array, key: jax.Array) -> tuple[jax.Array, None]:
                values = jax.random.normal(key, (2512,))
                return match(values[:512], values[512:], key), None

            keys = jax.random.split(jax.random.key(5), num_updates)
            return jax.lax.scan(once, jnp.zeros(512, jnp.int32), keys)[0]

        return lambda num_updates: jax.block_until_ready(loop(num_updates))

    sides = {"argmin over all pairs": side(brute), "best_match_scalar": side(sorting)}
    rounds = interleave.measure(sides, num_rounds=args.rounds, num_updates=args.updates)
    over = interleave.ratios(rounds, *sides)
    print("### One scalar match, 512 x 2000\n")
    rows = [
        [name, interleave.spread(rounds[name]), interleave.spread(over, "{:.1f}") if number == 0 else ""]
        for number, name in enumerate(sides)
    ]
    interleave.print_table(["", "ms of CPU", "times best_match_scalar"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--algorithms", nargs="+", default=["TD3+BC"], choices=list(ALGORITHMS))
    parser.add_argument("--samplers", nargs="+", help="some of them; uniform is always measured")
    parser.add_argument("--hidden", type=int, nargs="+", default=[64, 256], help="widths to compare at")
    parser.add_argument("--changed", action="store_true", help="another world online than the logged one")
    parser.add_argument("--offline-rows", type=int, default=1_000_000)
    parser.add_argument("--online-rows", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--updates", type=int, default=200, help="per side and round")
    parser.add_argument("--encoder", type=int, default=500, help="training steps of d_e's encoder")
    parser.add_argument("--quick", action="store_true", help="little data, few updates and samplers, to see it run")
    args = parser.parse_args()
    if args.quick:
        args.offline_rows, args.online_rows, args.rounds, args.updates, args.encoder = 5000, 3000, 2, 10, 10
        args.hidden, args.samplers = [16], args.samplers or ["otc-value", "online-matched"]
    samplers = every_sampler(args.encoder)
    if args.samplers:
        for name in args.samplers:
            require_name(name, samplers, "sampler to be measured")
        samplers = {name: samplers[name] for name in ("uniform", *args.samplers)}
    experience = logged(args.offline_rows, args.online_rows, changed=args.changed)
    for name, hidden in itertools.product(args.algorithms, args.hidden):
        algorithm, title = ALGORITHMS[name](hidden=(hidden, hidden)), f"{name}, {hidden} units"
        learner = algorithm.init(experience, key=jax.random.key(0))
        begun = {name: ready(sampler, algorithm, learner, experience) for name, sampler in samplers.items()}
        states = {name: state for name, (state, _) in begun.items()}
        seconds = {name: second for name, (_, second) in begun.items()}
        compare_samplers(samplers, algorithm, states, seconds, title, args)
        break_down(samplers, algorithm, states, title, args)
    compare_matching(args)


if __name__ == "__main__":
    try:
        main()
    except ConfigError as error:
        sys.exit(f"{Path(__file__).name}: {error}")
