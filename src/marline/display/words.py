"""Words that go with a number, or with names."""

from __future__ import annotations

from collections.abc import Sequence


def plural(count: int, noun: str) -> str:
    """ "1 seed", "5 seeds"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def size_of_study(num_samplers: int, num_seeds: int) -> str:
    """ "3 samplers x 1 seed"."""
    return f"{plural(num_samplers, 'sampler')} x {plural(num_seeds, 'seed')}"


def logs_to_come(absent: Sequence[str], parts: Sequence[str]) -> str:
    """Of which agents no logs are there yet, and of which a part is, and more to come."""
    awaited = [f"no logs of {', '.join(absent)} yet"] if absent else []
    return ", ".join([*awaited, *([f"more of {', '.join(parts)} to come"] if parts else [])])
