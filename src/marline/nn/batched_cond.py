"""A step that is due now and then, and costs little when it is not, also for stacked learners."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

T = TypeVar("T")


def batched_cond(predicate: Bool[Array, ""], function: Callable[..., T], changing: T, *context: Any) -> T:
    """`function(changing, *context)` where the predicate holds, else `changing`.

    Under `vmap` a plain `lax.cond` runs both branches always if the predicate differs among what is
    stacked. Here the function runs then, for all, if any of them needs it; and a count in `changing`
    that is the same for all stays one count, so that what is due by it stays a branch for all.
    """

    @jax.custom_batching.custom_vmap
    def gated(predicate: Array, changing: T, context: tuple[Any, ...]) -> T:
        return jax.lax.cond(predicate, lambda: function(changing, *context), lambda: changing)

    @gated.def_vmap
    def stacked(axis_size: int, batched: Any, *arguments: Any) -> tuple[T, Any]:
        axes = jax.tree.map(lambda is_batched: 0 if is_batched else None, batched)  # shared rows are not repeated
        if not batched[0]:
            return _branch(arguments[0], function, axes[1:], axis_size, *arguments[1:])

        def stack(leaf: Array, is_batched: bool) -> Array:
            return leaf if is_batched else jnp.broadcast_to(leaf, (axis_size, *leaf.shape))

        predicate, changing = jax.tree.map(stack, arguments[:2], tuple(batched[:2]))

        def every(changing: T, predicate: Array, *context: Any) -> T:
            def choose(predicate: Array, new: T, old: T) -> T:
                return jax.tree.map(functools.partial(jnp.where, predicate), new, old)

            return jax.vmap(choose)(predicate, jax.vmap(function, (0, *axes[2]))(changing, *context), changing)

        result = batched_cond(jnp.any(predicate), every, changing, predicate, *arguments[2])
        return result, jax.tree.map(lambda _: True, result)

    return gated(predicate, changing, context)


def _branch(
    predicate: Array, function: Callable[..., T], axes: Any, axis_size: int, changing: T, context: tuple[Any, ...]
) -> tuple[T, Any]:
    """It is due for all or for nobody: the branch of all. What is the same for all, such as a count, stays so."""
    varying = Varying()

    def one(changing: T, context: tuple[Any, ...]) -> T:
        branches = lambda: function(changing, *context), lambda: changing
        return varying.watch(jax.lax.cond(predicate, *branches))

    leaves, structure = jax.tree.flatten(jax.vmap(one, tuple(axes), axis_size=axis_size)(changing, context))
    leaves = [leaf if varies else leaf[0] for leaf, varies in zip(leaves, varying.leaves, strict=True)]
    return jax.tree.unflatten(structure, leaves), jax.tree.unflatten(structure, varying.leaves)


class Varying:
    """Tells which leaves of a tree, computed under `vmap`, differ among what is stacked.

    Attributes:
        leaves: for each leaf of the watched tree, whether it depends on anything that does.
    """

    def __init__(self) -> None:
        self.leaves: list[bool] = []

    def watch(self, tree: T) -> T:
        """The same tree."""
        leaves, structure = jax.tree.flatten(tree)
        self.leaves = [False] * len(leaves)

        @jax.custom_batching.custom_vmap
        def watched(*leaves: Array) -> tuple[Array, ...]:
            return leaves

        @watched.def_vmap
        def note(axis_size: int, batched: Any, *leaves: Array) -> tuple[Any, Any]:
            self.leaves = [before or now for before, now in zip(self.leaves, batched, strict=True)]
            return watched(*leaves), tuple(batched)  # which notes also what the next axis does

        return jax.tree.unflatten(structure, watched(*map(jnp.asarray, leaves)))
