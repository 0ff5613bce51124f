"""How often OTC draws a row, when the distance of every row is known."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from jaxtyping import Array
from readable_rows import CRITIC, SPEC, joined, random_rows, rows

from marline.data.experience import Experience
from marline.ops.distance_bins import EDGES
from marline.ops.prioritization import rank_probabilities
from marline.samplers import OTC, TwoStageDistance
from marline.samplers.distances import Features
from marline.samplers.otc import State

KEY = jax.random.key(0)


class Scales(NamedTuple):
    """The scale of each deployment, and how many there were."""

    of: Array
    num_deployments: Array


def scales(*of: float) -> Scales:
    first = np.ones(8, np.float32)
    first[: len(of)] = of
    return Scales(jnp.asarray(first), jnp.int32(0))


@dataclasses.dataclass(frozen=True)
class Known:
    """Row j lies at distance j from everything online, times the scale of the deployment."""

    by_row: bool = True

    def init(self, experience: Experience, *, key: Array) -> Scales:
        return scales()

    def begin_deployment(self, state: Scales, experience: Experience) -> tuple[Scales, Mapping[str, Array]]:
        return state._replace(num_deployments=state.num_deployments + 1), {}

    def features(
        self, state: Scales, experience: Experience, critic: Any, candidates: Array, references: Array, *, key: Array
    ) -> tuple[Features, Features, Array]:
        scale = state.of[state.num_deployments - 1]
        distance = scale * candidates if self.by_row else jnp.full(candidates.shape, scale)
        nothing = jnp.zeros((references.shape[0], 1))
        first = Features(jnp.zeros((candidates.shape[0], 1)), distance[:, None])
        return first, Features(nothing, nothing), jnp.float32(0.0)


@functools.partial(jax.jit, static_argnums=0)
def init(sampler: OTC, experience: Experience) -> State:
    return sampler.init(experience, key=KEY)


@functools.partial(jax.jit, static_argnums=0)
def begin(sampler: OTC, state: State, experience: Experience, key: Array) -> tuple[State, dict[str, Array]]:
    state, metrics = sampler.begin_deployment(state, experience, CRITIC, key=key)
    return state, dict(metrics)


@functools.partial(jax.jit, static_argnums=(0, 2))
def measured(sampler: OTC, experience: Experience, num: int) -> tuple[Array, dict[str, Array]]:
    """`num` batches, after the first deployment has begun, and what is measured of each."""
    state, _ = begin(sampler, init(sampler, experience), experience, KEY)

    def sample(key: Array) -> tuple[Array, dict[str, Array]]:
        rows, _, metrics = sampler.sample(state, experience, CRITIC, key=key)
        return rows, dict(metrics)

    return jax.vmap(sample)(jax.random.split(KEY, num))


def drawn(sampler: OTC, experience: Experience, num: int) -> np.ndarray:
    """`num` batches, after the first deployment has begun."""
    return np.asarray(measured(sampler, experience, num)[0])


def start() -> Experience:
    return Experience.create(random_rows(30, 0), SPEC, num_deployments=4, rows_per_deployment=6)


def deployments(distances: tuple[float, ...], **options: Any) -> tuple[list[State], dict[str, np.ndarray]]:
    """States and metrics as deployments begin, in each of which all rows are at one distance from those online."""
    experience = start().merge(random_rows(6, 1), 1)
    sampler = OTC(Known(by_row=False), num_estimate=8, **options)
    states, found = [init(sampler, experience)._replace(distance=scales(*distances))], []
    for _ in distances:
        state, metrics = begin(sampler, states[-1], experience, KEY)
        states.append(state)
        found.append(metrics)
    return states[1:], {name: np.array([metrics[name] for metrics in found]) for name in found[0]}


@pytest.mark.slow
def test_alpha_0_draws_every_row_equally_often() -> None:
    experience = joined(random_rows(30, 0), random_rows(6, 1), spare=4)
    # one row of each batch, because rows of one batch share their candidates
    sampler = OTC(Known(), alpha=0.0, num_candidates=16, num_references=4, batch_size=1, num_estimate=8)
    counts = np.bincount(drawn(sampler, experience, 20_000).ravel(), minlength=36)
    assert len(counts) == 36
    assert scipy.stats.chisquare(counts).pvalue > 1e-3


def test_rows_are_drawn_by_the_rank_law() -> None:
    """At alpha = 1 a row at quantile u of the distances is drawn (1 - (1 - u)^512) / (6.816517 u) times as often."""
    num_rows, num_batches = 4000, 300
    experience = joined(random_rows(num_rows - 40, 0), random_rows(40, 1))
    batches = drawn(OTC(Known(), num_references=20, num_estimate=8), experience, num_batches)
    assert batches.shape == (num_batches, 128)
    quantile = (batches + 0.5) / num_rows
    edges = np.array([0.0, 0.002, 0.01, 0.05, 0.2, 0.5, 1.0])
    shares = np.histogram(quantile, edges)[0] / quantile.size

    def mass(start: float, stop: float) -> float:
        u = np.linspace(start, stop, 20_001)[1:] - (stop - start) / 40_000
        return float(np.mean((1 - (1 - u) ** 512) / (6.816517 * u)) * (stop - start))

    expected = [mass(start, stop) for start, stop in zip(edges[:-1], edges[1:], strict=True)]
    assert sum(expected) == pytest.approx(1.0, abs=1e-3)
    np.testing.assert_allclose(shares, expected, atol=0.01)
    per_row = shares / np.diff(edges)
    assert np.all(np.diff(per_row) < 0)


def test_rows_whose_change_was_seen_online_are_preferred_as_often_as_their_ranks_say() -> None:
    """Half of the rows move as seen online and are at distance 0: they hold ranks 1 to 256, 89.8 % of the mass."""
    rng = np.random.default_rng(0)
    q, like = rng.integers(-5, 5, 4000), np.arange(4000) % 2 == 0
    experience = joined(rows(q, np.where(like, 1.0, -1.0)), rows(rng.integers(-5, 5, 40), np.ones(40)))
    # every next observation is (0, v): of the change, only the second number tells the dynamics
    sampler = OTC(TwoStageDistance(compare="next"), alpha=1.0, num_references=40, num_estimate=64)
    batches = drawn(sampler, experience, 100)
    share = np.mean((batches >= 4000) | (batches % 2 == 0))
    harmonic = np.cumsum(1.0 / np.arange(1, 513))
    assert share == pytest.approx(harmonic[255] / harmonic[511], abs=0.01)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("distances", "raw", "used"),
    [
        ((0.8, 1.0, 0.9, 0.45, 0.45), (1.0, 1.25, 1.125, 0.5625, 0.5625), (1.0, 1.25, 1.125, 0.5625, 0.5625)),
        ((0.8, 2.4, 0.0, 0.8), (1.0, 3.0, 0.0, 1.0), (1.0, 3.0, 0.1, 1.0)),
        ((0.1, 0.9), (1.0, 9.0), (1.0, 4.0)),
    ],
)
def test_the_exponent_follows_the_mean_distance(
    distances: tuple[float, ...], raw: tuple[float, ...], used: tuple[float, ...]
) -> None:
    states, metrics = deployments(distances)
    reported = [metrics[name] for name in ("estimated_distance", "alpha_raw", "alpha")]
    np.testing.assert_allclose(reported, [distances, raw, used], atol=1e-5)
    for name in ("alpha", "alpha_raw"):
        np.testing.assert_array_equal([getattr(state, name) for state in states], metrics[name])


def test_eq_4_as_it_is_written_goes_from_one_deployment_to_the_next() -> None:
    """1, 1 x .9 / .1, 9 x .3 / .9; nothing is clipped. Where a ratio is not finite the exponent stays."""
    for distances, expected in (((0.1, 0.9, 0.3), [1.0, 9.0, 3.0]), ((0.5, 0.0, 0.4), [1.0, 0.0, 0.0])):
        _, metrics = deployments(distances, alpha_bounds=None, relative_to="previous")
        np.testing.assert_allclose(metrics["alpha"], expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        # the first deployment takes alpha^0, the second is clipped
        pytest.param({"alpha": 0.7}, [0.7, 4.0], marks=pytest.mark.slow),
        ({"alpha": 6.0}, [4.0, 4.0]),
        pytest.param({"alpha": 6.0, "adaptive": False}, [6.0, 6.0], marks=pytest.mark.slow),
        ({"alpha": 0.0}, [0.0, 0.0]),  # uniform stays uniform, whatever the bounds
        ({"alpha": 1.0, "alpha_bounds": (0.0, 100.0)}, [1.0, 9.0]),
    ],
)
def test_which_exponents_adapt(options: dict[str, Any], expected: list[float]) -> None:
    _, metrics = deployments((0.1, 0.9), **options)
    assert metrics["alpha"] == pytest.approx(expected, rel=1e-5)


def test_effective_sample_size_is_that_of_the_exponent_in_use() -> None:
    _, metrics = deployments((1.0, 2.0))
    # of 512 rows, at alpha = 1 and 2
    assert metrics["effective_sample_size"] == pytest.approx([28.3, 2.49], rel=5e-3)


def test_the_estimate_is_the_mean_over_the_merged_rows() -> None:
    experience = joined(random_rows(900, 0), random_rows(100, 1))
    sampler = OTC(Known(), num_estimate=10_000)
    state = init(sampler, experience)
    _, metrics = begin(sampler, state, experience, KEY)
    assert metrics["estimated_distance"] == pytest.approx(999 / 2, abs=4 * 1000 / np.sqrt(12 * 10_000))
    # the distances are the row numbers, all equally likely
    counts = np.asarray(metrics["distance_histogram"])
    share = np.diff(np.minimum(np.ceil(EDGES), 1000), prepend=0, append=1000) / 1000
    np.testing.assert_allclose(counts / 10_000, share, atol=4 * np.sqrt(0.3 / 10_000))
    assert counts.sum() == 10_000
    _, again = begin(sampler, state, experience, KEY)
    assert again["estimated_distance"] == metrics["estimated_distance"]


@dataclasses.dataclass(frozen=True)
class Nearest:
    """The distance to the nearest reference on a line: the more there are, the smaller it is."""

    def init(self, experience: Experience, *, key: Array) -> tuple[()]:
        return ()

    def begin_deployment(self, state: tuple[()], experience: Experience) -> tuple[tuple[()], Mapping[str, Array]]:
        return (), {}

    def features(
        self, state: Any, experience: Experience, critic: Any, candidates: Array, references: Array, *, key: Array
    ) -> tuple[Features, Features, Array]:
        first, second = (Features(experience[rows].observation[:, :1]) for rows in (candidates, references))
        return first, second, jnp.float32(0.0)


@pytest.mark.parametrize(
    "sizes",
    [
        (600, 600, 300, 450),
        (600, 299, 60),  # too few to compare: the exponent stays
        (150, 600, 600),  # the first was small, so few references are taken ever after
    ],
)
def test_how_many_rows_are_logged_does_not_move_the_exponent(sizes: tuple[int, ...]) -> None:
    """The world stays as it is; distances to all of a deployment would be 2 to 10 times as large for a small one."""
    random = np.random.default_rng(0)
    experience = Experience.create(
        rows(random.uniform(size=4000), np.zeros(4000)), SPEC, num_deployments=4, rows_per_deployment=600
    )
    sampler = OTC(Nearest(), num_estimate=4000)
    state = init(sampler, experience)
    for number, size in enumerate(sizes, start=1):
        experience = experience.merge(rows(random.uniform(size=size), np.zeros(size)), number)
        state, metrics = begin(sampler, state, experience, jax.random.key(number))
        assert metrics["alpha_raw"] == pytest.approx(1.0, rel=0.25)
        # twice the distance to the nearest of m points on a line of length 1 is about 1 / m
        if 2 * size >= sizes[0]:
            assert metrics["estimated_distance"] == pytest.approx(1 / sizes[0], rel=0.35)


def test_a_deployment_too_small_to_compare_leaves_the_exponent_to_the_digit() -> None:
    experience, sampler = start(), OTC(Known(by_row=False), num_estimate=8)
    state = init(sampler, experience)._replace(distance=scales(0.5, 1.5, 9.0, 1.0))
    reported = []
    for number, size in enumerate((6, 3, 2, 3), start=1):
        experience = experience.merge(random_rows(size, number), number)
        state, metrics = begin(sampler, state, experience, KEY)
        reported.append(float(metrics["alpha_raw"]))
    np.testing.assert_allclose(reported, [1.0, 3.0, 3.0, 2.0], rtol=1e-6)


@pytest.mark.parametrize(
    "draw",
    ["iid", *(pytest.param(way, marks=pytest.mark.slow) for way in ("stratified", "without-replacement"))],
)
def test_the_nearest_candidate_is_drawn_as_often_as_each_way_says(
    draw: Literal["iid", "stratified", "without-replacement"],
) -> None:
    # so many rows that the candidates are distinct but for a few
    experience = joined(random_rows(50_000, 0), random_rows(10, 1))
    sampler = OTC(Known(), draw=draw, num_candidates=64, num_references=5, batch_size=16, num_estimate=8)
    batches = np.sort(drawn(sampler, experience, 400), axis=1)
    nearest = (batches == batches[:, :1]).sum(axis=1)
    first = float(np.asarray(jax.jit(rank_probabilities, static_argnums=0)(64, 1.0))[0])
    assert first == pytest.approx(0.2108, abs=1e-3)
    if draw == "without-replacement":
        assert nearest.mean() < 1.02
    elif draw == "stratified":  # 3.37 of 16: three or four times in every batch
        assert set(nearest) <= {3, 4}
    else:
        # batches without the nearest candidate count the nearest that they hold
        assert nearest.mean() == pytest.approx(16 * first, abs=0.3)
        assert nearest.std() > 1.0


def test_fewer_rows_than_candidates_and_references_are_no_problem() -> None:
    experience = joined(random_rows(5, 0), random_rows(1, 1))
    sampler = OTC("value", num_candidates=64, num_references=20, batch_size=8, num_estimate=16)
    batches = drawn(sampler, experience, 50)
    assert set(batches.ravel()) == set(range(6))


def test_rows_that_were_never_filled_are_never_drawn_or_matched() -> None:
    """Room for more rows of the same deployment lies behind its rows."""
    experience = joined(random_rows(5, 0, mean=50.0), random_rows(3, 1, mean=50.0), spare=30)
    sampler = OTC(TwoStageDistance(), num_candidates=64, num_references=33, batch_size=8, num_estimate=16)
    batches, metrics = measured(sampler, experience, 50)
    assert set(np.asarray(batches).ravel()) == set(range(8))
    # an unfilled row is all zeros, 50 standard deviations away
    assert np.all(np.asarray(metrics["mean_distance"]) < 10.0)
