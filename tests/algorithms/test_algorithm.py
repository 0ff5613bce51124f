"""What every algorithm says of itself."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest

from marline.algorithms import ALGORITHMS, BCQ, CQL, MABCQ
from marline.data.experience import Experience
from marline.types import Spec, Transition


@pytest.mark.parametrize("name", ALGORITHMS)
def test_samplers_are_told_by_which_discount_values_were_learned(name: str) -> None:
    make: Any = ALGORITHMS[name]
    algorithm: Any = make(base=BCQ(gamma=0.5)) if make is MABCQ else make(gamma=0.5)
    spec = Spec(3, 4, discrete=True) if isinstance(algorithm, CQL) else Spec(3, 2)
    action = jnp.zeros(4, jnp.int32) if spec.discrete else jnp.zeros((4, 2))
    seen, masks = jnp.zeros((4, 3)), jnp.ones((4, 4), bool) if spec.discrete else None
    logs = Transition(seen, action, jnp.zeros(4), jnp.ones(4), seen, masks, masks)
    experience = Experience.create(logs, spec, num_deployments=1, rows_per_deployment=2)
    critic = eqx.filter_eval_shape(lambda key: algorithm.critic(algorithm.init(experience, key=key)), jax.random.key(0))
    assert (critic is None) == (name == "bremen")
    assert critic is None or critic.gamma == 0.5
