"""Checkpoints: bit-identical round trips, and damage or mismatch that must be named."""

import json
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from marline.algorithms.td3_bc import TD3BC, State
from marline.data import checkpoints
from marline.data.checkpoints import leaf_names, load_checkpoint, save_checkpoint, verify
from marline.data.experience import Experience
from marline.data.manifest import record_file, write_sealed
from marline.data.migrations import CHECKPOINT
from marline.errors import ConfigError, CorruptionError, DataError, MarlineError, NewerError
from marline.types import Spec, Transition

TREE = {"w": jax.device_put(np.arange(6, dtype=np.float32).reshape(2, 3)), "n": jnp.int32(7)}


def learner() -> State:
    """A learner with random bits in every leaf, some of them NaN; nothing is compiled for it."""
    rng = np.random.default_rng(0)
    row = Transition(*(jax.device_put(np.zeros(shape, np.float32)) for shape in ((1, 5), (1, 2), (1,), (1,), (1, 5))))
    experience = Experience.create(row, Spec(5, 2), num_deployments=0, rows_per_deployment=0)
    shapes = jax.eval_shape(lambda key: TD3BC(hidden=(8, 8)).init(experience, key=key), jax.random.key(0))
    return jax.tree.map(
        lambda leaf: jax.device_put(np.frombuffer(rng.bytes(4 * leaf.size), leaf.dtype).reshape(leaf.shape)), shapes
    )


def assert_identical(a: Any, b: Any) -> None:
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for left, right in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert isinstance(right, jax.Array)
        assert (left.shape, left.dtype) == (right.shape, right.dtype)
        assert np.asarray(left).tobytes() == np.asarray(right).tobytes()


def test_a_learner_comes_back_bit_for_bit(tmp_path: Path) -> None:
    state = learner()
    save_checkpoint(tmp_path / "c", {"agent_0/seed_1": state, "other": TREE}, {"round": 3, "records": [{"x": 0.5}]})
    assert sorted(os.listdir(tmp_path / "c")) == ["agent_0", "manifest.json", "other.safetensors"]
    for template in (state, jax.eval_shape(lambda: state)):
        trees, manifest = load_checkpoint(tmp_path / "c", {"agent_0/seed_1": template})
        assert list(trees) == ["agent_0/seed_1"]
        assert_identical(state, trees["agent_0/seed_1"])
    assert manifest["round"] == 3 and manifest["records"] == [{"x": 0.5}]
    assert manifest["versions"]["jax"] == jax.__version__
    assert set(manifest["files"]) == {"agent_0/seed_1.safetensors", "other.safetensors"}
    assert checkpoints.read_manifest(tmp_path / "c") == manifest
    verify(tmp_path / "c")


def test_names_are_readable(tmp_path: Path) -> None:
    state = learner()
    names = leaf_names(state)
    assert names[:3] == [f"actor.model.mlp.layers.0.{name}" for name in ("weight", "bias")] + [
        "actor.model.mlp.layers.1.weight"
    ]
    assert "num_updates" in names and "normalizer.mean" in names
    save_checkpoint(tmp_path / "c", {"a": state}, {})
    stored = safetensors.numpy.load_file(tmp_path / "c" / "a.safetensors")
    assert sorted(stored) == sorted(names)
    np.testing.assert_array_equal(stored["normalizer.mean"], state.normalizer.mean)


def test_every_supported_kind_of_leaf(tmp_path: Path) -> None:
    tree = {
        "float": jnp.array([0.0, -0.0, jnp.nan, jnp.inf, 1e-45], jnp.float32),
        "nan": jax.device_put(np.array([0x7FC01234], np.uint32).view(np.float32)),
        "half": jnp.array([0.5], jnp.float16),
        "int": (jnp.int32(-3), jnp.array([1], jnp.int8)),
        "uint": jax.random.key_data(jax.random.key(5)),
        "bool": jnp.array([[True], [False]]),
        "empty": jax.device_put(np.zeros((0, 3), np.float32)),
        "none": None,
        "transposed": np.arange(6, dtype=np.float32).reshape(2, 3).T,
        "list": [jnp.float32(1)],
    }
    save_checkpoint(tmp_path / "c", {"x": tree}, {})
    assert_identical(tree, load_checkpoint(tmp_path / "c", {"x": tree})[0]["x"])


def test_random_keys_come_back_as_keys(tmp_path: Path) -> None:
    tree = {"one": jax.random.key(3), "many": jax.random.split(jax.random.key(4), 5)}
    save_checkpoint(tmp_path / "c", {"x": tree}, {})
    for template in (tree, jax.eval_shape(lambda: tree)):
        loaded = load_checkpoint(tmp_path / "c", {"x": template})[0]["x"]
        assert loaded["one"].dtype == tree["one"].dtype
        assert_identical(jax.tree.map(jax.random.key_data, tree), jax.tree.map(jax.random.key_data, loaded))
    with pytest.raises(ConfigError, match=r"leaf 'many' of .* is uint32\[5, 2\] and should be uint32\[4, 2\]"):
        load_checkpoint(tmp_path / "c", {"x": tree | {"many": jax.random.split(jax.random.key(4), 4)}})


def test_a_bare_array_is_a_tree_too(tmp_path: Path) -> None:
    ones, zeros = jnp.array([1.0, 1.0, 1.0]), jnp.array([0.0, 0.0, 0.0])
    save_checkpoint(tmp_path / "c", {"x": ones}, {})
    assert_identical(ones, load_checkpoint(tmp_path / "c", {"x": zeros})[0]["x"])


def test_the_same_trees_make_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_checkpoint(tmp_path / name, {"x": learner()}, {"round": 1})
    for file in ("x.safetensors", "manifest.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_a_checkpoint_is_replaced_unless_told_otherwise(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "c", {"x": TREE}, {"round": 1})
    (tmp_path / "c" / "manifest.json").unlink()  # as a damaged one is, too
    save_checkpoint(tmp_path / "c", {"y": TREE}, {"round": 2})
    assert sorted(os.listdir(tmp_path / "c")) == ["manifest.json", "y.safetensors"]
    with pytest.raises(ConfigError, match=r"exists already and holds"):
        save_checkpoint(tmp_path / "c", {"x": TREE}, {"round": 3}, replace=False)
    (tmp_path / "c" / "thesis.tex").write_text("")
    with pytest.raises(ConfigError, match=r"exists already and holds .*thesis\.tex"):
        save_checkpoint(tmp_path / "c", {"x": TREE}, {"round": 3})
    assert checkpoints.read_manifest(tmp_path / "c")["round"] == 2


@pytest.mark.parametrize(
    ("trees", "manifest", "message"),
    [
        ({"../x": TREE}, {}, "part of the tree name '../x' '..' cannot name a file"),
        ({"a//b": TREE}, {}, "cannot name a file"),
        ({"": TREE}, {}, "tree name '' cannot name a file"),
        ({"x": {"a": 0.5}}, {}, "leaf 'a' of x is a float; store it in the manifest, or make it an array"),
        ({"x": {"a": np.float32(1)}}, {}, "leaf 'a' of x is a float32; store it"),
        ({"x": {"a": np.zeros(2)}}, {}, "leaf 'a' of x is of type float64, which JAX would not give back"),
        ({"x": {"a": np.array(["b"])}}, {}, "leaf 'a' of x is of type <U1"),
        ({"x": {"a.b": jnp.array([1.0]), "a": {"b": jnp.array([1.0])}}}, {}, "x has two leaves named 'a.b'"),
        ({"x": TREE}, {"versions": 1}, "manifest.json keeps the key 'versions' for itself"),
        ({"x": TREE}, {"files": 1}, "manifest.json keeps the key 'files' for itself"),
        ({"x": TREE}, {"what": object()}, "object has no JSON form"),
    ],
)
def test_what_cannot_be_saved(tmp_path: Path, trees: dict[str, Any], manifest: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        save_checkpoint(tmp_path / "c", trees, manifest)
    assert message in str(caught.value)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ({"w": TREE["w"]}, "x.safetensors has a leaf 'n' too many; load it with the configuration"),
        (TREE | {"b": jnp.array([1.0])}, "x.safetensors has no leaf 'b'; load it with the configuration"),
        (
            TREE | {"w": jnp.array([[1.0, 1.0]] * 3)},
            "is float32[2, 3] and should be float32[3, 2]; load it with the configuration",
        ),
        (TREE | {"w": jnp.array([[1, 1, 1]] * 2)}, "is float32[2, 3] and should be int32[2, 3]"),
        (TREE | {"n": jnp.array([1])}, "is int32[] and should be int32[1]"),
        (TREE | {"n": 3}, "is a int in the template; make it an array"),
    ],
)
def test_a_template_of_another_form(tmp_path: Path, template: Any, message: str) -> None:
    save_checkpoint(tmp_path / "c", {"x": TREE}, {})
    with pytest.raises(ConfigError) as caught:
        load_checkpoint(tmp_path / "c", {"x": template})
    assert message in str(caught.value)
    assert str(tmp_path / "c" / "x.safetensors") in str(caught.value)


def test_a_tree_that_is_not_there(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "c", {"x": TREE, "a/b": TREE}, {})
    with pytest.raises(ConfigError, match="holds no 'y'; it holds x, a/b"):
        load_checkpoint(tmp_path / "c", {"y": TREE})
    with pytest.raises(CorruptionError, match=r"nowhere/manifest\.json cannot be read: No such file"):
        load_checkpoint(tmp_path / "nowhere", {"x": TREE})


def test_a_flipped_byte_anywhere_is_noticed(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, {"x": TREE, "a/b": TREE}, {"round": 1})
    for path in (tmp_path / "manifest.json", tmp_path / "x.safetensors", tmp_path / "a" / "b.safetensors"):
        data = path.read_bytes()
        for at in range(0, len(data), 3):
            altered = bytearray(data)
            altered[at] ^= 1 << (at % 8)
            path.write_bytes(altered)
            with pytest.raises(CorruptionError, match="altered after it was written") as caught:
                load_checkpoint(tmp_path, {"x": TREE, "a/b": TREE})
            assert str(path) in str(caught.value)
        with pytest.raises(CorruptionError):
            verify(tmp_path)
        path.write_bytes(data)
    verify(tmp_path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: os.truncate(path, 40), r"x\.safetensors has 40 bytes instead of \d+; restore a copy"),
        (lambda path: path.write_bytes(path.read_bytes() + b"\0"), r"x\.safetensors has \d+ bytes instead of"),
        (lambda path: path.unlink(), r"x\.safetensors is missing; restore a copy"),
        (lambda path: path.with_name("manifest.json").unlink(), r"manifest\.json cannot be read: No such file"),
        (lambda path: os.truncate(path.with_name("manifest.json"), 40), r"manifest\.json was altered"),
    ],
)
def test_damage_is_named(tmp_path: Path, damage: Callable[[Path], None], message: str) -> None:
    save_checkpoint(tmp_path, {"x": TREE}, {})
    damage(tmp_path / "x.safetensors")
    with pytest.raises(CorruptionError, match=message):
        load_checkpoint(tmp_path, {"x": TREE})
    with pytest.raises(CorruptionError, match=message):
        verify(tmp_path)


class Exploit:
    """Unpickling this would make a file."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("/tmp/marline-was-here",)


def with_header(header: object, content: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + content


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps(Exploit()),
        b"",
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 10**9) + b"{}",
        with_header({"w": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}}),
        with_header({"w": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 24]}}, bytes(24)),
        with_header({"w": {"dtype": "F99", "shape": [6], "data_offsets": [0, 24]}}, bytes(24)),
        with_header(["w"]),
        with_header({name: {"dtype": "F32", "shape": [6], "data_offsets": [0, 24]} for name in "wv"}, bytes(24)),
        with_header({"w": {"dtype": "F32", "shape": [6], "data_offsets": [-24, 0]}}, bytes(24)),
        with_header({"w": {"dtype": "F32", "shape": [6], "data_offsets": [24, 0]}}, bytes(24)),
        with_header({"w": {"dtype": "F32", "shape": [-6], "data_offsets": [0, 24]}}, bytes(24)),
        with_header({"w": {"dtype": "F64", "shape": [6], "data_offsets": [0, 24]}}, bytes(24)),
        with_header({"w": {"dtype": "F32", "shape": [6], "data_offsets": [0, 24]}}, bytes(32)),
        with_header({"w": {"dtype": "F32", "shape": [6], "data_offsets": [8, 32]}}, bytes(32)),
        with_header(
            {"__metadata__": {"w": 1}, "w": {"dtype": "F32", "shape": [6], "data_offsets": [0, 24]}}, bytes(24)
        ),
        struct.pack("<Q", 10**8) + b" " * 100,
    ],
    ids=[
        "pickle",
        "empty",
        "header beyond 2^63",
        "header of 1 GB",
        "no data",
        "shape overflows",
        "unknown type",
        "list",
        "overlapping offsets",
        "negative offsets",
        "offsets backwards",
        "negative shape",
        "wider type",
        "bytes that belong to nothing",
        "a hole in front",
        "metadata that are no text",
        "header longer than the file",
    ],
)
def test_what_only_calls_itself_safetensors(tmp_path: Path, content: bytes) -> None:
    save_checkpoint(tmp_path, {"x": TREE}, {})
    file = tmp_path / "x.safetensors"
    file.write_bytes(content)
    with pytest.raises(CorruptionError, match=r"x\.safetensors"):
        load_checkpoint(tmp_path, {"x": TREE})
    # Someone who also makes a list with the right hashes gets no further.
    write_sealed(tmp_path / "manifest.json", CHECKPOINT.kind, 1, {}, {file.name: record_file(file)})
    verify(tmp_path)
    with pytest.raises(CorruptionError, match=r"x\.safetensors is no safetensors file \(.*\); restore a copy"):
        load_checkpoint(tmp_path, {"x": TREE})
    assert not Path("/tmp/marline-was-here").exists()


def test_lists_of_files_that_are_sealed_but_wrong(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, {"x": TREE}, {})
    record = record_file(tmp_path / "x.safetensors")
    cases: list[tuple[str, int, str, type[MarlineError], str]] = [
        (
            "something else",
            1,
            "x.safetensors",
            DataError,
            "belongs to a 'something else', not to a 'marline checkpoint'",
        ),
        (
            CHECKPOINT.kind,
            99,
            "x.safetensors",
            NewerError,
            "has schema 99, and marline .* reads those up to 1: upgrade marline",
        ),
        (CHECKPOINT.kind, 1, "../x.safetensors", CorruptionError, "has no proper list of files"),
        (CHECKPOINT.kind, 1, "/etc/passwd", CorruptionError, "has no proper list of files"),
    ]
    for kind, schema, name, error, message in cases:
        write_sealed(tmp_path / "manifest.json", kind, schema, {}, {name: record})
        with pytest.raises(error, match=message):
            verify(tmp_path)


def test_what_a_caller_does_to_a_list_hides_no_damage(tmp_path: Path) -> None:
    checkpoints.save_checkpoint(tmp_path / "c", {"a": jnp.zeros(3)}, {"round": 1})
    checkpoints.read_manifest(tmp_path / "c")
    _, listed = checkpoints.load_checkpoint(tmp_path / "c", {})
    listed["files"].clear()
    (tmp_path / "c" / "a.safetensors").write_bytes(b"rubbish")
    with pytest.raises(CorruptionError, match="safetensors"):
        checkpoints.verify(tmp_path / "c")
