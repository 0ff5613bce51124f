"""Policies for NumPy callers: shapes and types of answers are those of Gymnasium's spaces."""

from __future__ import annotations

import numpy as np
import pytest

from marline.data.channels import ranged
from marline.errors import DataError
from marline.policy import NumpyPolicy, RandomPolicy
from marline.types import Spec

CONTINUOUS, DISCRETE = Spec(3, 2), Spec(3, 4, discrete=True)
SEEN = np.zeros(3)


def test_continuous_answers_are_in_the_box_of_the_field() -> None:
    gymnasium = pytest.importorskip("gymnasium", reason="gymnasium is not installed")
    policy = NumpyPolicy(RandomPolicy(CONTINUOUS), spec=CONTINUOUS, channels=ranged([-2, 5], [2, 60], 2))
    box = gymnasium.spaces.Box(np.array([-2, 5], np.float32), np.array([2, 60], np.float32))
    assert box.contains(policy(SEEN))
    batch = policy(np.zeros((7, 3)))
    assert isinstance(batch, np.ndarray) and batch.shape == (7, 2) and batch.dtype == np.float32
    assert all(box.contains(one) for one in batch)
    one = policy(np.zeros((1, 3)))
    assert one.shape == (1, 2)  # a batch of one remains a batch
    with pytest.raises(DataError, match="have no mask"):
        policy(SEEN, np.ones(2, bool))


@pytest.mark.parametrize("spec", [DISCRETE, None])
def test_choices_are_what_a_discrete_space_samples_and_masks_hold(spec: Spec | None) -> None:
    gymnasium = pytest.importorskip("gymnasium", reason="gymnasium is not installed")
    policy, space = NumpyPolicy(RandomPolicy(DISCRETE), spec=spec), gymnasium.spaces.Discrete(4)
    choice = policy(SEEN)
    assert type(choice) is type(space.sample()) and space.contains(choice) and {0: 1}.get(choice, 2)
    only = np.array([False, False, True, False])
    assert policy(SEEN, only) == 2 and policy(SEEN, only[None].astype(np.int8)) == 2
    masks = np.eye(4, dtype=bool)[[3, 1, 0]]
    batch = policy(np.zeros((3, 3)), masks)
    assert isinstance(batch, np.ndarray) and batch.dtype == np.int64 and batch.tolist() == [3, 1, 0]
    assert policy(np.zeros((1, 3)), only).shape == (1,)
    for mask, told in ((masks, r"shape \[3, 4\], but must be \[4\]"), (np.zeros(4, bool), "allows nothing")):
        with pytest.raises(DataError, match=told):
            policy(SEEN, mask)
    with pytest.raises(DataError, match=r"shape \[4\], but must be \[3, 4\]"):
        policy(np.zeros((3, 3)), only)


def test_the_stream_of_random_numbers_goes_on_only_where_there_is_an_answer() -> None:
    policies = [NumpyPolicy(RandomPolicy(CONTINUOUS), seed=1, spec=CONTINUOUS) for _ in range(2)]
    with pytest.raises(DataError, match="NaN"):
        policies[0](np.full(3, np.nan))
    with pytest.raises(DataError, match="have no mask"):
        policies[0](SEEN, np.ones(2, bool))
    np.testing.assert_array_equal(policies[0](SEEN), policies[1](SEEN))
