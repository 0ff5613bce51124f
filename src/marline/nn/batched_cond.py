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

    Under `vmap` a plain `lax.cond` runs both branches always. Here the function runs, for all
    stacked learners, if any of them needs it: learners that count alike pay for it only then.
    """

    @jax.custom_batching.custom_vmap
    def gated(predicate: Array, changing: T, context: tuple[Any, ...]) -> T:
        return jax.lax.cond(predicate, lambda: function(changing, *context), lambda: changing)

    @gated.def_vmap
    def stacked(axis_size: int, batched: Any, *arguments: Any) -> tuple[T, Any]:
        def stack(leaf: Array, is_batched: bool) -> Array:
            return leaf if is_batched else jnp.broadcast_to(leaf, (axis_size, *leaf.shape))

        predicate, changing = jax.tree.map(stack, arguments[:2], tuple(batched[:2]))
        axes = jax.tree.map(lambda is_batched: 0 if is_batched else None, batched[2])  # shared rows are not repeated

        def every(changing: T, predicate: Array, *context: Any) -> T:
            def choose(predicate: Array, new: T, old: T) -> T:
                return jax.tree.map(functools.partial(jnp.where, predicate), new, old)

            return jax.vmap(choose)(predicate, jax.vmap(function, (0, *axes))(changing, *context), changing)

        result = batched_cond(jnp.any(predicate), every, changing, predicate, *arguments[2])
        return result, jax.tree.map(lambda _: True, result)

    return gated(predicate, changing, context)
