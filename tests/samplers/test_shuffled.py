"""The shuffled control: everything of the sampler inside it, but which rows."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from jaxtyping import Array
from readable_rows import CRITIC, SPEC, joined, many, random_rows

from marline.data.checkpoints import load_checkpoint, save_checkpoint
from marline.data.experience import Experience
from marline.errors import ConfigError
from marline.ops.row_draws import rows_with_replacement
from marline.samplers import (
    OTC,
    SAMPLERS,
    BalancedReplay,
    ClassifierRatio,
    DynamicsRatio,
    EmbeddingDistance,
    Sampler,
    Shuffled,
    Uniform,
    prefers_rows,
)
from marline.types import Critic, Metrics, Transition

KEY = jax.random.key(0)
NUM_OFFLINE, FIRST, SECOND, PLANNED = 60, 20, 13, 20
WINDOWS = [(0, 60), (60, 80), (80, 93)]  # offline rows, then those of either deployment
SMALL: dict[str, Any] = {"num_candidates": 32, "num_references": 12, "batch_size": 16, "num_estimate": 32}


@dataclasses.dataclass(frozen=True)
class OfHighestValue:
    """Somebody else's sampler: of a few rows of each source, the ones with the highest logged Q."""

    def init(self, experience: Experience, *, key: Array) -> Array:
        return jnp.int32(0)

    def begin_deployment(
        self, state: Array, experience: Experience, critic: Critic | None, *, key: Array
    ) -> tuple[Array, Metrics]:
        return state, {}

    def sample(
        self, state: Array, experience: Experience, critic: Critic | None, *, key: Array
    ) -> tuple[Array, Array, Metrics]:
        first = experience.num_offline
        sources = [(0, first), (first, experience.online_start), (experience.online_start, experience.size)]
        best = []
        for number, (start, stop) in enumerate(sources):
            some = rows_with_replacement(start, stop, 12, key=jax.random.fold_in(key, number))
            best.append(some[jax.lax.top_k(experience[some].observation[:, 0], 4)[1]])
        chosen = jnp.concatenate(best)
        return chosen, state + 1, {"value": jnp.mean(experience[chosen].observation[:, 0])}


INNER: dict[str, Sampler[Any]] = {
    "value": OTC("value", **SMALL),
    "embedding-refresh": OTC(
        EmbeddingDistance(size=2, hidden=(4,), num_updates=3), match="refresh", num_groups=2, refresh_every=3, **SMALL
    ),
    "balanced": BalancedReplay(hidden=(4,), ratio_batch_size=8, batch_size=16),
    "classifier-ratio": ClassifierRatio(
        num_candidates=32, batch_size=16, num_updates=3, hidden=(4,), classifier_batch_size=8
    ),
    "dynamics-ratio": DynamicsRatio(
        batch_size=16, hidden=(4,), law_batch_size=8, offline_updates=4, num_updates=4, check_every=2, confidence=0.0
    ),
    "of highest value": OfHighestValue(),
}


def both_deployments() -> tuple[Experience, Experience]:
    """After the first deployment, and after the second, which brought fewer rows than were planned."""
    start = Experience.create(random_rows(NUM_OFFLINE, 0), SPEC, num_deployments=3, rows_per_deployment=PLANNED)
    first = start.merge(random_rows(FIRST, 1), 1)
    return first, first.merge(random_rows(SECOND, 2), 2)


@functools.partial(jax.jit, static_argnums=(0, 3))
def run(sampler: Sampler[Any], both: tuple[Experience, Experience], key: Array, num: int) -> tuple[Any, Array, Any]:
    """Memory after both deployments and `num` batches, the rows of these, and what was measured."""
    keys = jax.random.split(key, 3)
    memory = sampler.init(both[0], key=keys[0])
    for experience, now in zip(both, keys[1:], strict=True):
        memory, _ = sampler.begin_deployment(memory, experience, CRITIC, key=now)

    def step(memory: Any, key: Array) -> tuple[Any, Any]:
        drawn, memory, metrics = sampler.sample(memory, both[1], CRITIC, key=key)
        return memory, (drawn, dict(metrics))

    memory, (drawn, metrics) = jax.lax.scan(step, memory, jax.random.split(key, num))
    return memory, drawn, metrics


@functools.partial(jax.jit, static_argnums=0)
def init(sampler: Sampler[Any], experience: Experience) -> Any:
    return sampler.init(experience, key=KEY)


@functools.partial(jax.jit, static_argnums=0)
def begin(sampler: Sampler[Any], memory: Any, experience: Experience, key: Array) -> Any:
    return sampler.begin_deployment(memory, experience, CRITIC, key=key)[0]


def source(drawn: np.ndarray) -> np.ndarray:
    return np.searchsorted([stop for _, stop in WINDOWS], drawn, side="right")


# ------------------------------------------------------------------------ what it has in common


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name == "of highest value" else pytest.mark.slow) for name in INNER],
)
def test_shares_and_repetition_are_those_of_the_sampler_inside(name: str) -> None:
    both = both_deployments()
    alone, chosen, measured = jax.device_get(run(INNER[name], both, KEY, 7))
    memory, drawn, reported = jax.device_get(run(Shuffled(INNER[name]), both, KEY, 7))
    np.testing.assert_array_equal(drawn, memory.stand_in[chosen])
    np.testing.assert_array_equal(source(drawn), source(chosen))  # place by place, so every share is equal
    for start, stop in WINDOWS:
        ours, theirs = (np.bincount(rows[(rows >= start) & (rows < stop)], minlength=stop) for rows in (drawn, chosen))
        np.testing.assert_array_equal(np.sort(ours), np.sort(theirs))
    assert np.mean(drawn != chosen) > 0.8
    jax.tree.map(np.testing.assert_array_equal, (memory.of, reported), (alone, measured))  # it learns as it does alone


def test_rows_exchange_places_within_their_source_alone() -> None:
    memory, _, _ = run(Shuffled(Uniform()), both_deployments(), KEY, 1)
    stand_in = np.asarray(memory.stand_in)
    assert stand_in.dtype == np.int32
    for start, stop in WINDOWS:
        assert sorted(stand_in[start:stop]) == [*range(start, stop)]
        assert np.mean(stand_in[start:stop] != np.arange(start, stop)) > 0.5
    np.testing.assert_array_equal(stand_in[93:], np.arange(93, NUM_OFFLINE + 3 * PLANNED))  # not logged yet


def test_a_row_keeps_its_stand_in_for_good() -> None:
    first, second = both_deployments()
    sampler = Shuffled(Uniform())
    memory = init(sampler, first)
    once = begin(sampler, memory, first, KEY)
    twice = begin(sampler, once, second, jax.random.key(1))
    at_first, then, at_last = (np.asarray(memory.stand_in) for memory in (memory, once, twice))
    np.testing.assert_array_equal(then[:60], at_first[:60])
    np.testing.assert_array_equal(at_last[:80], then[:80])


def test_more_deployments_than_planned_displace_no_row() -> None:
    """Small ones fit where fewer large ones were planned; the last window reaches beyond the last row."""
    experience = Experience.create(random_rows(8, 0), SPEC, num_deployments=1, rows_per_deployment=6)
    sampler = Shuffled(Uniform())
    memory = init(sampler, experience)
    for number in (1, 2, 3):
        experience = experience.merge(random_rows(2, number), number)
        memory = begin(sampler, memory, experience, jax.random.key(number))
    for start, stop in [(0, 8), (8, 10), (10, 12), (12, 14)]:
        assert sorted(np.asarray(memory.stand_in)[start:stop]) == [*range(start, stop)]


# ------------------------------------------------------------------------------- what it lacks


def test_every_row_is_as_likely_a_stand_in() -> None:
    both = both_deployments()
    stand_in = many(lambda key: run(Shuffled(Uniform()), both, key, 1)[0].stand_in, 4000)
    for start, stop in WINDOWS:
        counts = np.bincount(stand_in[:, start + 3], minlength=stop)[start:]
        assert scipy.stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize(("name", "lower"), [("of highest value", False), ("value", True)])
def test_what_the_sampler_prefers_is_preferred_no_more(name: str, lower: bool) -> None:
    """Of 60 offline rows one in three was seen online, too: d_q ranks these first."""
    offline, online = random_rows(60, 0), random_rows(20, 1)
    seen = jax.tree.map(lambda of_offline, of_online: of_offline.at[::3].set(of_online), offline, online)
    experience = joined(Transition(*seen), online)
    fits = np.arange(60) % 3 == 0 if lower else np.asarray(seen.observation[:, 0]) > 4.0

    def share(sampler: Sampler[Any]) -> float:
        drawn = many(lambda key: run(sampler, (experience, experience), key, 2)[1], 200).ravel()
        return float(np.mean(fits[drawn[drawn < 60]]))

    assert share(INNER[name]) > 1.5 * fits.mean()
    assert share(Shuffled(INNER[name])) == pytest.approx(fits.mean(), abs=0.05)


# ------------------------------------------------------------------------- as any other sampler


@pytest.mark.slow
def test_a_memory_read_back_draws_what_the_first_would_have(tmp_path: Path) -> None:
    sampler, both = Shuffled(INNER["balanced"]), both_deployments()
    memory, _, _ = run(sampler, both, KEY, 3)
    save_checkpoint(tmp_path / "there", {"sampler": memory}, {})
    template = jax.eval_shape(lambda: sampler.init(both[0], key=KEY))
    read, _ = load_checkpoint(tmp_path / "there", {"sampler": template})
    draw = jax.jit(lambda memory: sampler.sample(memory, both[1], CRITIC, key=jax.random.key(5))[0])
    np.testing.assert_array_equal(draw(read["sampler"]), draw(memory))


@pytest.mark.slow
def test_stacked_learners_draw_as_one_alone_would() -> None:
    both = both_deployments()
    sampler = Shuffled(OTC("two-stage", match="refresh", num_groups=2, refresh_every=3, **SMALL))
    keys = jax.random.split(KEY, 3)
    stacked = jax.jit(jax.vmap(lambda key: run(sampler, both, key, 4)[1]))(keys)
    for key, drawn in zip(keys, stacked, strict=True):
        np.testing.assert_array_equal(drawn, run(sampler, both, key, 4)[1])


def test_which_samplers_prefer_rows() -> None:
    indifferent = {
        "uniform",
        "offline-only",
        "online-only",
        "frozen",
        "online-matched",
        "fresh-share",
        "half-and-half",
        "adaptive-share",
        "retarget",
        "retarget-logs",
    }
    assert {name for name, sampler in SAMPLERS.items() if not prefers_rows(sampler)} == indifferent
    assert not prefers_rows(OTC(alpha=0.0))  # rank to the power 0
    assert not prefers_rows(Shuffled(OTC()))
    assert prefers_rows(OfHighestValue())  # it says nothing, so it is taken to


@pytest.mark.parametrize("inner", ["otc-value", OTC, None])
def test_what_is_no_sampler_is_refused(inner: object) -> None:
    with pytest.raises(ConfigError, match=r"^of is .*, but must be a sampler, such as OTC\(\)"):
        Shuffled(inner)
