"""The replay data of one agent, resident on the device: B^k, whose tail is D^k."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int

from marline.errors import DataError
from marline.types import Spec, Transition

CACHE_LINE = 16  # in numbers of 4 bytes
ROW_MULTIPLE = 8  # columns are padded to whole cache-line fractions: one gather fetches a row


class NewRows(NamedTuple):
    """Logs of a deployment, packed, with room for as many rows as a deployment may have.

    Attributes:
        rows: [most, width].
        ends: [most], which of them are the last of their episodes.
        num_rows: how many there are; the others are zeros.
    """

    rows: Array | np.ndarray
    ends: Array | np.ndarray
    num_rows: Array | np.int32


class Experience(eqx.Module):
    """Packed rows of one agent: the offline rows first, then the rows of each deployment in turn.

    The capacity is fixed for a whole campaign, so that one compilation serves all of it. Offline rows
    never change, so they lie apart from the few that come in: merging copies only those, and all
    samplers and seeds read the same offline rows. A row holds observation, action, reward, discount,
    next observation and, for discrete actions, both action masks. Rows lie in the order in which they were
    logged, and which of them end an episode is known beside them.

    `experience[rows]` is a `Transition` of rows by their numbers, so that their rewards are `experience[rows].reward`;
    `offline()` is one of all offline rows.

    Attributes:
        offline_rows, online_rows: packed; `experience[rows]` unpacks them.
        online_labels: the deployment that each online row was logged at; `deployment(rows)` tells it of any row.
        offline_ends, online_ends: whether a row is the last of its episode; `ends()` tells it of all.
        size: how many rows are there; those from here on are room for deployments to come.
        online_start: the first row of the last deployment, which goes up to `size`.
        spec: sizes of observations and actions.
        max_online: rows that a deployment may have.
    """

    offline_rows: Float[Array, "offline width"]
    online_rows: Float[Array, "online width"]  # with room for every deployment to come
    online_labels: Int[Array, " online"]
    offline_ends: Bool[Array, " offline"]
    online_ends: Bool[Array, " online"]
    size: Int[Array, ""]
    online_start: Int[Array, ""]
    spec: Spec = eqx.field(static=True)
    max_online: int = eqx.field(static=True)

    @staticmethod
    def create(
        offline: Transition,
        spec: Spec,
        *,
        num_deployments: int,
        rows_per_deployment: int,
        ends: Bool[np.ndarray, " offline"] | None = None,
    ) -> Experience:
        """Place offline transitions on the device, with room for every deployment to come.

        Args:
            offline: B^0, in the order in which it was logged.
            spec: sizes.
            num_deployments: to come.
            rows_per_deployment: at most.
            ends: which rows are the last of their episodes, terminal or cut; the terminal ones unless given.
        """
        rows, last = jax.device_put(pack(offline, spec)), jax.device_put(last_of_episodes(offline, ends))
        return _empty(rows, last, spec, num_deployments, rows_per_deployment)

    @staticmethod
    def outline(spec: Spec, *, num_offline: int, num_deployments: int, rows_per_deployment: int) -> Experience:
        """Shapes and types of such an experience, without rows: what tracing a program takes."""
        width = row_width(spec)
        return jax.eval_shape(
            lambda: _empty(
                jnp.zeros((num_offline, width)),
                jnp.zeros(num_offline, bool),
                spec,
                num_deployments,
                rows_per_deployment,
            )
        )

    @property
    def num_offline(self) -> int:
        """Rows logged before the first deployment, |B^0|."""
        return self.offline_rows.shape[0]

    @property
    def capacity(self) -> int:
        """Rows there is room for: |B^0| and every deployment."""
        return self.num_offline + self.online_rows.shape[0]

    @property
    def num_online(self) -> Int[Array, ""]:
        """Rows of the current deployment, |D^k|."""
        return self.size - self.online_start

    @property
    def num_first_online(self) -> Int[Array, ""]:
        """Rows of the first deployment that brought any; 0 before it."""
        first = self.online_labels[:1]
        return jnp.sum((self.online_labels == first) & (first > 0), dtype=jnp.int32)

    def __getitem__(self, index: Int[Array, "*n"]) -> Transition:
        """The rows of these numbers."""
        if self.capacity == self.num_offline:  # nothing is ever deployed: nothing to gather from either
            return unpack(self.offline_rows[index], self.spec)
        rows = jnp.where(
            (index < self.num_offline)[..., None],
            self.offline_rows[jnp.minimum(index, self.num_offline - 1)],
            self.online_rows[jnp.maximum(index - self.num_offline, 0)],
        )
        return unpack(rows, self.spec)

    def deployment(self, index: Int[Array, "*n"]) -> Int[Array, "*n"]:
        """Which deployment rows were logged at; 0 is before the first."""
        if self.capacity == self.num_offline:
            return jnp.zeros_like(index)
        labels = self.online_labels[jnp.maximum(index - self.num_offline, 0)]
        return jnp.where(index < self.num_offline, 0, labels)

    def ends(self) -> Bool[Array, " capacity"]:
        """Whether a row is the last of its episode; the last of the offline logs and of a deployment always is."""
        return jnp.concatenate([self.offline_ends, self.online_ends])

    def offline(self) -> Transition:
        """B^0."""
        return unpack(self.offline_rows, self.spec)

    def merge(self, logs: Transition, number: int, *, ends: Bool[np.ndarray, " n"] | None = None) -> Experience:
        """B^k = B^(k-1) u D^k: append the logs of deployment `number`, which become the online rows.

        Args:
            logs: D^k, in the order in which it was logged.
            number: of the deployment.
            ends: which rows are the last of their episodes, terminal or cut; the terminal ones unless given.
        """
        self.require_room(len(np.asarray(logs.reward)), number, size=int(self.size))
        return self.append(self.new_rows(logs, ends), number)

    def require_room(self, num_rows: int, number: int, *, size: int) -> None:
        """Raise `DataError` if the rows of deployment `number` are more than was planned; `size` rows are there."""
        if num_rows > self.max_online:
            raise DataError(
                f"the logs of deployment {number} hold {num_rows} rows, but the campaign planned "
                f"{self.max_online} per deployment; cut them, or plan more with rows_per_deployment"
            )
        if num_rows > self.capacity - size:
            raise DataError(
                f"the logs of deployment {number} hold {num_rows} rows, but there is room for {self.capacity - size} "
                "more; plan more deployments when the campaign starts"
            )

    def new_rows(self, logs: Transition, ends: Bool[np.ndarray, " n"] | None = None) -> NewRows:
        """Logs for which there is room, as `append` takes them; `ends` as of `last_of_episodes`."""
        packed, last = pack(logs, self.spec), last_of_episodes(logs, ends)
        missing = self.max_online - len(packed)
        return NewRows(np.pad(packed, ((0, missing), (0, 0))), np.pad(last, (0, missing)), np.int32(len(packed)))

    def append(self, new: NewRows, number: int | Int[Array, ""]) -> Experience:
        """`merge` of rows for which there is room. One program serves all deployments, however many rows they have."""
        online = self.online_rows, self.online_labels, self.online_ends
        rows, labels, ends, size = _placed(online, new, number, self.size, num_offline=self.num_offline)
        return dataclasses.replace(
            self, online_rows=rows, online_labels=labels, online_ends=ends, size=size, online_start=self.size
        )


def last_of_episodes(logs: Transition, ends: Bool[np.ndarray, " n"] | None = None) -> Bool[np.ndarray, " n"]:
    """Which rows are the last of their episodes: those in `ends`, or the terminal ones, and the last of all."""
    known = np.array(np.asarray(logs.discount) == 0.0 if ends is None else ends, bool)
    known[-1:] = True
    return known


@functools.partial(jax.jit, static_argnames="num_offline")
def _placed(
    online: tuple[Array, Array, Array], new: NewRows, number: ArrayLike, size: Int[Array, ""], *, num_offline: int
) -> tuple[Array, Array, Array, Int[Array, ""]]:
    """Online rows, their labels and ends with new ones behind the others, and how many rows there are then."""
    start, length = size - num_offline, len(new.ends)
    first = jnp.minimum(start, len(online[2]) - length)  # where a window of that length fits in
    place = jnp.arange(length) - (start - first)
    is_new = (place >= 0) & (place < new.num_rows)

    def put(rows: Array, new_rows: ArrayLike) -> Array:
        there = jax.lax.dynamic_slice_in_dim(rows, first, length)
        moved = jnp.roll(jnp.asarray(new_rows), start - first, axis=0)
        window = jnp.where(is_new.reshape(-1, *(1,) * (rows.ndim - 1)), moved, there)
        return jax.lax.dynamic_update_slice_in_dim(rows, window, first, 0)

    rows, labels, ends = online
    labels = put(labels, jnp.full(length, number, jnp.int32))
    return put(rows, new.rows), labels, put(ends, new.ends), size + new.num_rows


def _empty(
    offline_rows: Array, offline_ends: Array, spec: Spec, num_deployments: int, rows_per_deployment: int
) -> Experience:
    num_offline, width = offline_rows.shape
    rows, labels, ends, size = _room(num_deployments * rows_per_deployment, width, num_offline)
    return Experience(
        offline_rows=offline_rows,
        online_rows=rows,
        online_labels=labels,
        offline_ends=offline_ends,
        online_ends=ends,
        size=size,
        online_start=size,
        spec=spec,
        max_online=rows_per_deployment,
    )


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _room(num_online: int, width: int, num_offline: int) -> tuple[Array, Array, Array, Int[Array, ""]]:
    """Online rows, their labels and ends before there are any, and how many rows there are: one program, not five."""
    rows, labels = jnp.zeros((num_online, width)), jnp.zeros(num_online, jnp.int32)
    return rows, labels, jnp.zeros(num_online, bool), jnp.int32(num_offline)


def pack(transition: Transition, spec: Spec) -> Float[np.ndarray, "n width"]:
    """Lay transitions out as float32 rows, columns in the order of `columns`."""
    fields = transition._asdict()
    layout = columns(spec)
    num_rows = np.shape(transition.reward)[0]
    rows = _aligned_zeros(num_rows, row_width(spec))
    for name, where in layout.items():
        rows[:, where] = np.asarray(fields[name], np.float32).reshape(num_rows, -1)
    return rows


def _aligned_zeros(num_rows: int, width: int) -> Float[np.ndarray, "n width"]:
    """Memory that JAX takes as it is on a CPU, where it would copy what does not start at a cache line."""
    memory = np.zeros(num_rows * width + CACHE_LINE, np.float32)
    start = -(memory.ctypes.data // memory.itemsize) % CACHE_LINE
    return memory[start : start + num_rows * width].reshape(num_rows, width)


def unpack(rows: Float[Array, "*n width"], spec: Spec) -> Transition:
    """The inverse of `pack`."""
    parts = {name: rows[..., where] for name, where in columns(spec).items()}
    for name in ("reward", "discount"):
        parts[name] = parts[name][..., 0]
    if spec.discrete:
        parts["action"] = parts["action"][..., 0].astype(jnp.int32)
        for name in ("action_mask", "next_action_mask"):
            parts[name] = parts[name] > 0.5
    return Transition(**parts)


def columns(spec: Spec) -> Mapping[str, slice]:
    """Which columns of a packed row hold which leaf of a transition."""
    widths = {
        "observation": spec.observation_size,
        "action": 1 if spec.discrete else spec.action_size,
        "reward": 1,
        "discount": 1,
        "next_observation": spec.observation_size,
    }
    if spec.discrete:
        widths |= {"action_mask": spec.action_size, "next_action_mask": spec.action_size}
    stops = np.cumsum(list(widths.values())).tolist()
    return {name: slice(stop - width, stop) for (name, width), stop in zip(widths.items(), stops, strict=True)}


def row_width(spec: Spec) -> int:
    """Columns of a packed row, padding included."""
    used = max(where.stop for where in columns(spec).values())
    return -(-used // ROW_MULTIPLE) * ROW_MULTIPLE
