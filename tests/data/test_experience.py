"""Packed rows of one agent: what goes in comes out, and merging only ever appends."""

from __future__ import annotations

import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marline.data.experience import ROW_MULTIPLE, Experience, columns, last_of_episodes, pack, unpack
from marline.errors import DataError
from marline.types import Spec, Transition

CONTINUOUS = Spec(3, 2)
DISCRETE = Spec(4, 5, discrete=True)
MASKS = ("action_mask", "next_action_mask")


def make_logs(spec: Spec, num: int, seed: int = 0) -> Transition:
    rng = np.random.default_rng(seed)
    actions = rng.integers(spec.action_size, size=num) if spec.discrete else rng.random((num, spec.action_size))
    logs = {
        "observation": rng.normal(size=(num, spec.observation_size)),
        "action": actions,
        "reward": rng.normal(size=num),
        "discount": rng.random(num) < 0.8,
        "next_observation": rng.normal(size=(num, spec.observation_size)),
    }
    logs = {name: jax.device_put(np.asarray(leaf, np.float32)) for name, leaf in logs.items()}
    if spec.discrete:
        logs |= {name: jax.device_put(rng.random((num, spec.action_size)) < 0.7) for name in MASKS}
        logs["action"] = jax.device_put(np.asarray(actions, np.int32))
    return Transition(**logs)


unpacked = jax.jit(unpack, static_argnums=1)
rows_of = jax.jit(Experience.__getitem__)
deployment = jax.jit(Experience.deployment)
offline_of = jax.jit(Experience.offline)
sizes_of = jax.jit(lambda experience: jnp.stack([experience.online_start, experience.size, experience.num_online]))


def assert_same(first: Transition, second: Transition) -> None:
    for name, one, other in zip(Transition._fields, first, second, strict=True):
        assert (one is None) == (other is None), name
        if one is not None:
            np.testing.assert_array_equal(one, other, err_msg=name)


@pytest.mark.parametrize("spec", [CONTINUOUS, DISCRETE])
def test_unpack_inverts_pack(spec: Spec) -> None:
    logs = make_logs(spec, 7)
    packed = pack(logs, spec)
    restored = unpacked(jax.device_put(packed), spec)
    assert_same(restored, logs)
    assert packed.dtype == np.float32
    assert packed.shape[1] % ROW_MULTIPLE == 0
    assert restored.action.dtype == (jnp.int32 if spec.discrete else jnp.float32)
    if spec.discrete:
        assert restored.action_mask is not None and restored.action_mask.dtype == jnp.bool_


@pytest.mark.parametrize("spec", [CONTINUOUS, DISCRETE])
def test_one_row_and_blocks_of_rows_unpack_alike(spec: Spec) -> None:
    packed = pack(make_logs(spec, 6), spec)
    whole = jax.tree.map(np.asarray, unpacked(packed, spec))
    assert_same(jax.tree.map(lambda x: x[4], whole), unpacked(packed[4], spec))
    blocks = packed.reshape(2, 3, -1)
    assert_same(jax.tree.map(lambda x: x.reshape(2, 3, *x.shape[1:]), whole), unpacked(blocks, spec))


def test_columns_lie_side_by_side() -> None:
    assert columns(CONTINUOUS) == {
        "observation": slice(0, 3),
        "action": slice(3, 5),
        "reward": slice(5, 6),
        "discount": slice(6, 7),
        "next_observation": slice(7, 10),
    }
    assert columns(DISCRETE)["next_action_mask"] == slice(4 + 1 + 1 + 1 + 4 + 5, 4 + 1 + 1 + 1 + 4 + 5 + 5)


@pytest.mark.parametrize("spec", [CONTINUOUS, DISCRETE])
def test_merging_appends_and_touches_nothing_before(spec: Spec) -> None:
    offline, first, second = (make_logs(spec, num, seed) for seed, num in enumerate((10, 4, 3)))
    start = Experience.create(offline, spec, num_deployments=2, rows_per_deployment=4)
    once = start.merge(first, 1)
    twice = once.merge(second, 2)

    for experience in (start, once, twice):
        assert experience.capacity == 10 + 2 * 4
        assert experience.offline_rows is start.offline_rows
        assert_same(offline_of(experience), offline)
    sizes = [tuple(sizes_of(experience).tolist()) for experience in (start, once, twice)]
    assert sizes == [(10, 10, 0), (10, 14, 4), (14, 17, 3)]
    online = jax.tree.map(np.asarray, rows_of(twice, np.arange(10, 17)))
    assert_same(jax.tree.map(lambda column: column[:4], online), first)
    assert_same(jax.tree.map(lambda column: column[4:], online), second)
    np.testing.assert_array_equal(deployment(twice, np.arange(17)), [0] * 10 + [1] * 4 + [2] * 3)


def test_rows_of_the_first_deployment_are_counted() -> None:
    """An agent may join late, so its first deployment is not number 1."""
    experience = Experience.create(make_logs(CONTINUOUS, 5), CONTINUOUS, num_deployments=3, rows_per_deployment=4)
    counts = [int(experience.num_first_online)]
    for number, num_rows in ((2, 3), (3, 4), (4, 1)):
        experience = experience.merge(make_logs(CONTINUOUS, num_rows), number)
        counts.append(int(experience.num_first_online))
    assert counts == [0, 3, 3, 3]


def test_one_structure_serves_the_whole_campaign() -> None:
    start = Experience.create(make_logs(CONTINUOUS, 5), CONTINUOUS, num_deployments=2, rows_per_deployment=3)
    merged = start.merge(make_logs(CONTINUOUS, 3), 1)
    assert jax.tree.structure(start) == jax.tree.structure(merged)
    shapes = [[(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(experience)] for experience in (start, merged)]
    assert shapes[0] == shapes[1]


def test_rows_are_picked_by_number_in_any_order() -> None:
    logs = make_logs(CONTINUOUS, 6)
    experience = Experience.create(logs, CONTINUOUS, num_deployments=1, rows_per_deployment=1)
    picked = rows_of(experience, np.array([5, 0, 5]))
    np.testing.assert_array_equal(picked.reward, np.asarray(logs.reward)[[5, 0, 5]])
    np.testing.assert_array_equal(picked.next_observation, np.asarray(logs.next_observation)[[5, 0, 5]])


def test_without_deployments_the_logs_alone_are_drawn_from() -> None:
    logs = make_logs(CONTINUOUS, 5)
    experience = Experience.create(logs, CONTINUOUS, num_deployments=0, rows_per_deployment=0)
    picked = np.array([4, 0, 4])
    assert_same(rows_of(experience, picked), jax.tree.map(lambda x: np.asarray(x)[picked], logs))
    np.testing.assert_array_equal(deployment(experience, picked), [0, 0, 0])


def test_more_rows_than_planned_are_refused() -> None:
    experience = Experience.create(make_logs(CONTINUOUS, 5), CONTINUOUS, num_deployments=2, rows_per_deployment=3)
    with pytest.raises(DataError, match="deployment 2 hold.* 4 rows.* 3"):
        experience.merge(make_logs(CONTINUOUS, 4), 2)


def test_more_deployments_than_planned_are_refused() -> None:
    """Appending past the capacity would write over the newest rows."""
    experience = Experience.create(make_logs(CONTINUOUS, 5), CONTINUOUS, num_deployments=1, rows_per_deployment=3)
    experience = experience.merge(make_logs(CONTINUOUS, 2), 1)
    with pytest.raises(DataError, match="room"):
        experience.merge(make_logs(CONTINUOUS, 2), 2)


def test_ends_of_episodes_are_kept_and_cuts_are_ends() -> None:
    """Terminal rows end episodes by themselves; time limits are told; the last row of what was logged is always one."""
    offline = make_logs(CONTINUOUS, 4)._replace(discount=jnp.array([1.0, 0.0, 1.0, 1.0]))
    told = np.array([True, True, False, False])
    start = Experience.create(offline, CONTINUOUS, num_deployments=2, rows_per_deployment=2)
    np.testing.assert_array_equal(start.ends(), [0, 1, 0, 1, 0, 0, 0, 0])
    start = Experience.create(offline, CONTINUOUS, num_deployments=2, rows_per_deployment=2, ends=told)
    logs = make_logs(CONTINUOUS, 2)._replace(discount=jnp.array([1.0, 1.0]))
    twice = start.merge(logs, 1, ends=np.array([True, False])).merge(logs, 2)
    np.testing.assert_array_equal(twice.ends(), [1, 1, 0, 1, 1, 1, 0, 1])
    assert not told[3], "what was given is not written into"


def test_one_program_appends_logs_of_any_length(caplog: pytest.LogCaptureFixture) -> None:
    """Robots never log the same number of rows twice, and a campaign may see hundreds of deployments."""
    logs = [make_logs(CONTINUOUS, num_rows, seed) for seed, num_rows in enumerate((5, 1, 4, 2))]
    experience = Experience.create(make_logs(CONTINUOUS, 6), CONTINUOUS, num_deployments=4, rows_per_deployment=5)
    experience = experience.merge(logs[0], 1)
    with jax.log_compiles(), caplog.at_level(logging.WARNING, logger="jax"):
        for number, more in enumerate(logs[1:], start=2):
            experience = experience.merge(more, number)
    assert [record.getMessage() for record in caplog.records if record.getMessage().startswith("Compiling")] == []
    assert_same(rows_of(experience, np.arange(6, 18)), jax.tree.map(lambda *parts: np.concatenate(parts), *logs))


def test_rows_fit_in_up_to_the_last_place() -> None:
    """More deployments than were planned may come, of fewer rows each."""
    logs = [make_logs(CONTINUOUS, num_rows, seed) for seed, num_rows in enumerate((2, 3, 1))]
    experience = Experience.create(make_logs(CONTINUOUS, 4), CONTINUOUS, num_deployments=2, rows_per_deployment=3)
    for number, more in enumerate(logs, start=1):
        experience = experience.merge(more, number)
    assert_same(rows_of(experience, np.arange(4, 10)), jax.tree.map(lambda *parts: np.concatenate(parts), *logs))
    np.testing.assert_array_equal(deployment(experience, np.arange(4, 10)), [1, 1, 2, 2, 2, 3])
    cut = np.concatenate([last_of_episodes(more) for more in logs])
    np.testing.assert_array_equal(experience.online_ends, cut)
