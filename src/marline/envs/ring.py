"""Places on a ring, where agents step back, stay or step on, and slip now and then."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

NUM_MOVES = 3  # back, stay, on
STAY = 1


def moved(place: Int[Array, ""], move: Array, num_places: int, slip: float, *, key: PRNGKeyArray) -> Int[Array, ""]:
    """Where a move, 0 to 2, leads; with probability `slip` it is any of the three instead."""
    slip_key, move_key = jax.random.split(key)
    strange = jax.random.randint(move_key, (), 0, NUM_MOVES)
    move = jnp.where(jax.random.uniform(slip_key) < slip, strange, move)
    return ((place + move - STAY) % num_places).astype(jnp.int32)


def law_of_moves(num_places: int, slip: float) -> Float[np.ndarray, "places 3 places"]:
    """Probability of each next place, as `moved` draws it."""
    steps = (1.0 - slip) * np.eye(NUM_MOVES) + slip / NUM_MOVES
    law = np.zeros((num_places, NUM_MOVES, num_places))
    for place in range(num_places):
        for move in range(NUM_MOVES):
            for step in range(NUM_MOVES):
                law[place, move, (place + step - STAY) % num_places] += steps[move, step]
    return law


def on_circle(place: Array, num_places: int) -> Float[Array, " 2"]:
    """A place as a point of the unit circle, so that neighbours look alike and no place is an end."""
    angle = 2.0 * jnp.pi * place / num_places
    return jnp.stack([jnp.cos(angle), jnp.sin(angle)])


def place_of(point: Float[Array, "*n 2"], num_places: int) -> Int[Array, "*n"]:
    """The place that a point of the circle is; the inverse of `on_circle`."""
    turns = jnp.arctan2(point[..., 1], point[..., 0]) / (2.0 * jnp.pi)
    return jnp.round(turns * num_places).astype(jnp.int32) % num_places


def short_way(place: Array, target: int, num_places: int) -> Array:
    """The move towards a target by the short way, on if both ways are equally long."""
    ahead = (target - place) % num_places
    return jnp.where(ahead == 0, STAY, jnp.where(2 * ahead <= num_places, STAY + 1, STAY - 1))
