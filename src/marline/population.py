"""Many learners at once: one after another on a CPU, stacked and vectorised on an accelerator.

Stacking changes nothing but speed: on an accelerator a step of one small network is all launch
overhead, on a CPU it is all arithmetic.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

K = TypeVar("K", bound=Hashable)


def map_learners(
    function: Callable[..., Any], *arguments: Mapping[K, PyTree], static: Mapping[str, Hashable]
) -> dict[K, Any]:
    """`function(*arguments[learner], **static)` for every learner.

    Args:
        function: pure; compiled once per combination of `static` and shapes.
        arguments: for each positional argument, its value per learner.
        static: keyword arguments that are compiled in.
    """
    learners = list(arguments[0])
    rows = [tuple(argument[learner] for argument in arguments) for learner in learners]
    if jax.default_backend() == "cpu" or len(learners) == 1:
        one = compiled(function, static)
        return {learner: one(*row) for learner, row in zip(learners, rows, strict=True)}
    all_at_once = _compiled(function, tuple(static.items()), stacked=True)
    results: dict[K, Any] = {}
    for members in _alike(rows):
        outputs = all_at_once([rows[member] for member in members])
        results |= {learners[member]: output for member, output in zip(members, outputs, strict=True)}
    return {learner: results[learner] for learner in learners}


def compiled(function: Callable[..., Any], static: Mapping[str, Hashable]) -> Any:
    """The jitted function that `map_learners` calls for each learner on a CPU."""
    return _compiled(function, tuple(static.items()), stacked=False)


def compile_ahead(programs: Sequence[jax.stages.Traced], num_threads: int) -> None:
    """Compile into JAX's persistent cache, several at a time, what other processes will need soon."""
    with ThreadPoolExecutor(num_threads) as pool:
        list(pool.map(lambda program: program.lower().compile(), programs))


@functools.cache
def _compiled(function: Callable[..., Any], static: tuple[tuple[str, Hashable], ...], stacked: bool) -> Any:
    bound = functools.partial(function, **dict(static))
    if not stacked:
        return jax.jit(bound)

    def over_rows(rows: Sequence[tuple[PyTree, ...]]) -> list[Any]:
        columns = jax.tree.map(lambda *leaves: jnp.stack(leaves), *rows)
        results = jax.vmap(bound)(*columns)
        return [jax.tree.map(lambda leaf, i=i: leaf[i], results) for i in range(len(rows))]

    return jax.jit(over_rows)


def _alike(rows: Sequence[tuple[PyTree, ...]]) -> list[list[int]]:
    """Numbers of the rows grouped by structure and shapes, for only like can be stacked."""
    groups: dict[Any, list[int]] = defaultdict(list)
    for number, row in enumerate(rows):
        leaves, structure = jax.tree.flatten(row)
        groups[structure, tuple((leaf.shape, str(leaf.dtype)) for leaf in leaves)].append(number)
    return list(groups.values())
