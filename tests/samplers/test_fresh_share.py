"""A fixed share of fresh rows, and no preference within either source."""

from __future__ import annotations

import jax
import numpy as np
import pytest
import scipy.stats
from readable_rows import CRITIC, joined, many, random_rows

from marline.configuration.selection import select_samplers
from marline.errors import ConfigError
from marline.samplers import SAMPLERS, FreshShare
from marline.testing import check_sampler

KEY = jax.random.key(0)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 1.0])
def test_the_share_is_kept_and_rows_of_a_source_are_alike(share: float) -> None:
    experience = joined(random_rows(6, 0), random_rows(4, 1), random_rows(3, 2), spare=5)
    sampler = FreshShare(share, batch_size=8)
    drawn = many(lambda key: sampler.sample((), experience, CRITIC, key=key)[0], 4000)
    counts = np.bincount(drawn.ravel(), minlength=13)
    assert len(counts) == 13
    assert counts[6:].sum() / counts.sum() == pytest.approx(share, abs=0.01)
    for source in (counts[:6], counts[6:]):
        if source.sum():
            assert scipy.stats.chisquare(source).pvalue > 1e-3
    fresh = (drawn >= 6).sum(axis=1)
    assert set(fresh) == {int(8 * share), int(np.ceil(8 * share))}


def test_before_the_first_deployment_all_rows_are_offline() -> None:
    experience = joined(random_rows(6, 0))
    drawn = many(lambda key: FreshShare().sample((), experience, CRITIC, key=key)[0], 200)
    assert set(drawn.ravel()) == set(range(6))


def test_half_and_half_is_of_equal_halves() -> None:
    experience = joined(random_rows(60, 0), random_rows(4, 1))
    rows = many(lambda key: SAMPLERS["half-and-half"].sample((), experience, CRITIC, key=key)[0], 1)[0]
    assert (rows >= 60).sum() == len(rows) // 2


def test_shares_are_written_as_options() -> None:
    chosen = select_samplers(["fresh-share(share=0.25)", "half-and-half"]).samplers
    assert chosen == {"fresh-share-share-0.25": FreshShare(0.25), "half-and-half": FreshShare(0.5)}


@pytest.mark.slow
def test_it_keeps_the_rules_of_samplers() -> None:
    check_sampler(FreshShare(0.3, batch_size=8))


@pytest.mark.parametrize("options", [{"share": 1.5}, {"share": -0.1}, {"batch_size": 0}])
def test_impossible_options_are_refused(options: dict[str, float]) -> None:
    (name,) = options
    with pytest.raises(ConfigError, match=f"{name} is"):
        FreshShare(**options)  # pyright: ignore[reportArgumentType]
