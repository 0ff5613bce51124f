"""What an update learns from: rows as they were logged, unless a sampler tells them anew."""

from __future__ import annotations

import zlib
from typing import Any, Protocol, TypeGuard, TypeVar, runtime_checkable

import jax
from jaxtyping import Array, Int, PRNGKeyArray

from marline.data.experience import Experience
from marline.samplers.sampler import Sampler
from marline.types import Transition

S = TypeVar("S")
REWRITE = zlib.crc32(b"rewrite")  # sets the stream of rewriting apart from that of the draw before it


@runtime_checkable
class Rewriting(Sampler[S], Protocol[S]):
    """A sampler that also says what the drawn rows tell, in place of what was logged."""

    def rewrite(
        self, state: S, rows: Int[Array, " batch"], batch: Transition, experience: Experience, *, key: PRNGKeyArray
    ) -> Transition:
        """The rows to learn from: as many, of the same form.

        Args:
            state: the memory that `sample` left.
            rows: their numbers, which are what a run measures and writes down.
            batch: the rows as they were logged.
            experience: where they are from.
            key: consumed.
        """
        ...


def rewrites(sampler: object) -> TypeGuard[Rewriting[Any]]:
    """Whether a sampler is `Rewriting`."""
    return isinstance(sampler, Rewriting)


def batch_of(
    sampler: Sampler[S], state: S, rows: Int[Array, " batch"], experience: Experience, *, key: PRNGKeyArray
) -> Transition:
    """What an update learns from, given the rows that a sampler drew.

    Args:
        sampler: that drew them.
        state: the memory that it was left with.
        rows: drawn.
        experience: where they are.
        key: that they were drawn with.
    """
    batch = experience[rows]
    if not rewrites(sampler):
        return batch
    return sampler.rewrite(state, rows, batch, experience, key=jax.random.fold_in(key, REWRITE))
