"""BCQ under OTC with d_e: refreshed now and then by marline, and at each update in PyTorch, as the paper describes it.

The other side is the official BCQ, whose replay buffer is told which rows to give it: each update draws 512
candidates and 2000 references, encodes all of them, compares all pairs, ranks, and draws 128 of the candidates by
rank. Its encoder has random weights, which cost what trained ones do. 100,000 offline rows and 10,000 online ones of
noise; observation 17, action 3; everything on one core, and what marline computes per deployment counted in.
"""

# ruff: noqa: E402
from __future__ import annotations

import interleave

interleave.pin_to_one_core()

import argparse
from pathlib import Path

import jax
import numpy as np
from algorithms import BATCH_SIZE, NUM_ROWS, SPEC, bcq_torch_learner, random_data
from refresh import deployment

from marline.algorithms import BCQ
from marline.data.experience import Experience
from marline.samplers import OTC, EmbeddingDistance
from marline.types import Transition

NUM_ONLINE = 10_000
ALPHA = 1.0


def logged() -> tuple[Transition, Experience]:
    """The rows, offline ones first, and the same as an agent's experience after its first deployment."""
    data = random_data()
    offline, online = (jax.tree.map(lambda x, part=part: x[part], data) for part in (slice(None), slice(NUM_ONLINE)))
    experience = Experience.create(offline, SPEC, num_deployments=1, rows_per_deployment=NUM_ONLINE).merge(online, 1)
    rows = jax.tree.map(lambda *parts: np.concatenate(parts), offline, online)
    return rows, experience


def torch_side(checkout: Path, data: Transition, hidden: int, sampler: OTC) -> interleave.Run:
    """The official implementation of BCQ, on rows that are matched anew at each update."""
    import torch  # pyright: ignore[reportMissingImports]

    learner = bcq_torch_learner(checkout, hidden)
    assert isinstance(sampler.distance, EmbeddingDistance)
    sizes = [2 * SPEC.observation_size + SPEC.action_size, *sampler.distance.hidden, sampler.distance.size]
    layers = [torch.nn.Linear(ins, outs) for ins, outs in zip(sizes, sizes[1:], strict=False)]
    encoder = torch.nn.Sequential(layers[0], torch.nn.ReLU(), layers[1], torch.nn.ReLU(), layers[2])
    state, action, following = map(torch.from_numpy, (data.observation, data.action, data.next_observation))
    rest = torch.from_numpy(np.stack([data.reward, data.discount], axis=1))
    encoded = torch.cat([state, action, following], 1)
    share = torch.arange(1, sampler.num_candidates + 1, dtype=torch.float32) ** -ALPHA

    class Replay:
        def sample(self, batch_size: int) -> tuple[torch.Tensor, ...]:
            candidates = torch.randint(len(state), (sampler.num_candidates,))
            references = NUM_ROWS + torch.randint(NUM_ONLINE, (sampler.num_references,))
            with torch.no_grad():
                distance = torch.cdist(encoder(encoded[candidates]), encoder(encoded[references])).min(1).values
            drawn = candidates[distance.argsort()[torch.multinomial(share, batch_size, replacement=True)]]
            return state[drawn], action[drawn], following[drawn], rest[drawn, :1], rest[drawn, 1:]

    replay = Replay()
    return lambda num_updates: learner.train(replay, num_updates, batch_size=BATCH_SIZE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bcq", type=Path, help="checkout of the official BCQ (holds continuous_BCQ/BCQ.py)")
    parser.add_argument("--hidden", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--updates", type=int, default=1000, help="per deployment; a multiple of 1000")
    parser.add_argument("--quick", action="store_true", help="few updates, to see that everything runs")
    args = parser.parse_args()
    if args.quick:
        args.hidden, args.rounds, args.updates = [16], 1, 10
    data, experience = logged()
    sampler = OTC(EmbeddingDistance(num_updates=100), match="refresh", num_estimate=2000)
    for hidden in args.hidden:
        sides = {"marline": deployment(sampler, BCQ(hidden=(hidden, hidden)), experience)}
        if args.bcq:
            sides["PyTorch"] = torch_side(args.bcq, data, hidden, sampler)
        rounds = interleave.measure(sides, num_rounds=args.rounds, num_updates=args.updates)
        print(f"### BCQ with d_e, {hidden} units: {args.rounds} deployments of {args.updates} updates\n")
        table = [[side, interleave.spread(rounds[side])] for side in sides]
        interleave.print_table(["", "ms of CPU per update"], table)
        if args.bcq:
            over = interleave.ratios(rounds, "PyTorch", "marline")
            print("PyTorch / marline, round by round:", *(f"{ratio:.2f}" for ratio in over), flush=True)


if __name__ == "__main__":
    main()
