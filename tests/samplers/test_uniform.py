"""Uniform draws from each window of an experience."""

from __future__ import annotations

import jax
import numpy as np
import pytest
import scipy.stats
from readable_rows import CRITIC, joined, many, random_rows

from marline.errors import ConfigError
from marline.samplers import Uniform


@pytest.mark.parametrize(
    ("sampler", "window"),
    [
        (Uniform("merged", batch_size=4), range(0, 13)),
        (Uniform("offline", batch_size=4), range(0, 6)),
        (Uniform("online", batch_size=4), range(10, 13)),
    ],
)
def test_every_row_of_the_window_is_equally_likely_and_no_other(sampler: Uniform, window: range) -> None:
    # 6 offline rows, then 4 and 3 of two deployments, then room that was never filled
    experience = joined(random_rows(6, 0), random_rows(4, 1), random_rows(3, 2), spare=5)
    drawn = many(lambda key: sampler.sample((), experience, CRITIC, key=key)[0], 3000)
    assert drawn.shape == (3000, 4)
    counts = np.bincount(drawn.ravel(), minlength=window.stop)
    assert len(counts) == window.stop
    assert counts[: window.start].sum() == 0
    assert scipy.stats.chisquare(counts[window.start :]).pvalue > 1e-3


def test_it_remembers_nothing() -> None:
    experience = joined(random_rows(6, 0), random_rows(4, 1))
    key = jax.random.key(0)
    assert Uniform().init(experience, key=key) == ()
    assert Uniform().begin_deployment((), experience, CRITIC, key=key) == ((), {})


def test_impossible_options_are_refused() -> None:
    with pytest.raises(ConfigError, match="batch_size is 0"):
        Uniform(batch_size=0)
