"""Words that go with a number."""

from __future__ import annotations


def plural(count: int, noun: str) -> str:
    """ "1 seed", "5 seeds"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def size_of_study(num_samplers: int, num_seeds: int) -> str:
    """ "3 samplers x 1 seed"."""
    return f"{plural(num_samplers, 'sampler')} x {plural(num_seeds, 'seed')}"
