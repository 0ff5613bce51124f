"""Many learners at once: one after another on a CPU, stacked and vectorised on an accelerator.

Stacking changes nothing but speed: on an accelerator a step of one small network is all launch
overhead, on a CPU it is all arithmetic. What several learners share, as the seeds of an agent share
its offline rows, is held once.
"""

from __future__ import annotations

import functools
import itertools
from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from marline.runtime import release_memory

K = TypeVar("K", bound=Hashable)
Static = tuple[tuple[str, Hashable], ...]
Leaves = list[list[Array]]  # of several learners or groups


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
        num_programs = one._cache_size()
        results = {learner: one(*row) for learner, row in zip(learners, rows, strict=True)}
        if one._cache_size() > num_programs:
            release_memory()
        return results
    stacked = _stacked(function, tuple(static.items()))
    results = {}
    for members in _alike(rows):
        outputs = stacked(*_divide([rows[member] for member in members]))
        results |= {learners[member]: output for member, output in zip(members, outputs, strict=True)}
    return {learner: results[learner] for learner in learners}


def compiled(function: Callable[..., Any], static: Mapping[str, Hashable]) -> Any:
    """The jitted function that `map_learners` calls for each learner on a CPU."""
    return _compiled(function, tuple(static.items()))


def compile_ahead(programs: Sequence[jax.stages.Traced], num_threads: int) -> None:
    """Compile into JAX's persistent cache, several at a time, what will be needed soon."""
    with ThreadPoolExecutor(num_threads) as pool:
        list(pool.map(lambda program: program.lower().compile(), programs))


@functools.cache
def _compiled(function: Callable[..., Any], static: Static) -> Any:
    return jax.jit(functools.partial(function, **dict(static)))


@functools.cache
def _stacked(function: Callable[..., Any], static: Static) -> Any:
    @functools.partial(jax.jit, static_argnames="plan")
    def over_learners(common: Leaves, own: Leaves, plan: _Plan) -> list[Any]:
        def one(common: list[Array], own: list[Array]) -> Any:
            return function(*plan.join(common, own), **dict(static))

        columns = [jnp.stack(leaves) for leaves in zip(*own, strict=True)]
        columns = [column.reshape(len(plan.groups), -1, *column.shape[1:]) for column in columns]
        shared = [jnp.stack(leaves) for leaves in zip(*common, strict=True)]
        results = jax.vmap(jax.vmap(one, in_axes=(None, 0)))(shared, columns)
        results = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), results)
        unstacked = {
            member: jax.tree.map(lambda leaf, i=i: leaf[i], results) for i, member in enumerate(sum(plan.groups, ()))
        }
        return [unstacked[member] for member in sorted(unstacked)]

    return over_learners


class _Plan(NamedTuple):
    """Learners that share arrays, such as one agent's offline rows under several seeds, form groups of one size.

    Attributes:
        groups: numbers of the learners in each.
        is_common: for each leaf, whether it is one array for all of a group.
        structure: of a learner's arguments.
    """

    groups: tuple[tuple[int, ...], ...]
    is_common: tuple[bool, ...]
    structure: Any

    def join(self, common: Sequence[Array], own: Sequence[Array]) -> tuple[PyTree, ...]:
        """A learner's arguments from its leaves."""
        iterators = {True: iter(common), False: iter(own)}
        return jax.tree.unflatten(self.structure, [next(iterators[is_common]) for is_common in self.is_common])


def _divide(rows: Sequence[tuple[PyTree, ...]]) -> tuple[Leaves, Leaves, _Plan]:
    """What the learners of each group have in common, which is passed and held once, and what each has to itself."""
    leaves = [jax.tree.leaves(row) for row in rows]
    is_common = [len({id(leaf) for leaf in column}) < len(column) for column in zip(*leaves, strict=True)]
    groups: dict[Any, list[int]] = defaultdict(list)
    for number, row in enumerate(leaves):
        groups[tuple(id(leaf) for leaf in itertools.compress(row, is_common))].append(number)
    if all(is_common) or len({len(members) for members in groups.values()}) > 1:  # no rectangle: stack every leaf
        is_common, groups = [False] * len(is_common), {(): list(range(len(rows)))}
    is_own = [not common for common in is_common]
    plan = _Plan(tuple(map(tuple, groups.values())), tuple(is_common), jax.tree.structure(rows[0]))
    common = [list(itertools.compress(leaves[members[0]], is_common)) for members in plan.groups]
    own = [list(itertools.compress(leaves[member], is_own)) for members in plan.groups for member in members]
    return common, own, plan


def _alike(rows: Sequence[tuple[PyTree, ...]]) -> list[list[int]]:
    """Numbers of the rows grouped by structure and shapes, for only like can be stacked."""
    groups: dict[Any, list[int]] = defaultdict(list)
    for number, row in enumerate(rows):
        leaves, structure = jax.tree.flatten(row)
        groups[structure, tuple((leaf.shape, str(leaf.dtype)) for leaf in leaves)].append(number)
    return list(groups.values())
