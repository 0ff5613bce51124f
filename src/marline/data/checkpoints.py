"""Pytrees of arrays on disk: safetensors files and a sealed `manifest.json`; no pickle, nothing executed.

A tree is stored as its array leaves under readable names such as `actor.model.mlp.layers.0.weight`.
Structure and static fields are not stored: they come from the template that a tree is loaded into.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from jaxtyping import PyTree

from marline.data.files import publish_directory, state_of
from marline.data.manifest import (
    Manifest,
    read_intact,
    read_sealed,
    require_file_name,
    verify_files,
    write_sealed,
)
from marline.data.migrations import CHECKPOINT, migrated
from marline.errors import ConfigError, CorruptionError

MANIFEST = "manifest.json"
NOT_IDENTICAL = "what comes from here on is not bit-identical to a run that was not interrupted"


def save_checkpoint(
    directory: Path | str,
    trees: Mapping[str, PyTree],
    manifest: Mapping[str, object],
    *,
    replace: bool = True,
) -> None:
    """Write a checkpoint folder, which appears as a whole or not at all.

    The same trees give the same bytes: no time of day is stored.

    Args:
        directory: the folder; missing parents are made.
        trees: pytrees of arrays by name; `agent_0/seed_1` is stored as `agent_0/seed_1.safetensors`.
            Leaves are JAX arrays, PRNG keys or NumPy arrays of a type that JAX keeps; None is no leaf.
        manifest: entries of `manifest.json`, anything with a JSON form; its own are kind, schema,
            versions, files and seal.
        replace: whether a checkpoint that is there already, intact or not, is replaced, in one step.

    Raises:
        ConfigError: a name cannot name a file, a leaf is no array, or the folder may not be replaced.
        StorageError: the disk is full or the folder may not be written.
    """
    if "versions" in manifest:
        raise ConfigError(f"{MANIFEST} keeps the key 'versions' for itself; name that entry otherwise")
    contents = {_file_name(name): _serialize(name, tree) for name, tree in trees.items()}
    records = {name: {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)} for name, data in contents.items()}
    num_bytes = sum(map(len, contents.values()))
    replaces = (MANIFEST, "*.safetensors") if replace else ()
    with publish_directory(Path(directory), replaces=replaces, num_bytes=num_bytes) as folder:
        for name, data in contents.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        write_sealed(
            folder / MANIFEST, CHECKPOINT.kind, CHECKPOINT.newest, {**manifest, "versions": versions()}, records
        )


def load_checkpoint(directory: Path | str, templates: Mapping[str, PyTree]) -> tuple[dict[str, PyTree], Manifest]:
    """Read trees of a checkpoint into the structure of their templates.

    Args:
        directory: a folder that `save_checkpoint` wrote.
        templates: by name, a pytree of arrays or of `jax.ShapeDtypeStruct` as `jax.eval_shape` makes
            them; trees that are not asked for are not read.

    Returns:
        The trees, with the stored values bit for bit in new device arrays, and the manifest.

    Raises:
        CorruptionError: a file is altered, truncated, missing, or no safetensors file.
        ConfigError: a tree is not in the checkpoint, or its leaves have other names, shapes or types
            than the template.
        DataError: it is no checkpoint.
        NewerError: a newer marline wrote it.
    """
    directory = Path(directory)
    manifest = read_sealed(directory / MANIFEST, CHECKPOINT)  # which is the caller's own
    trees = {}
    for name, template in templates.items():
        file_name = _file_name(name)
        if file_name not in manifest["files"]:
            known = ", ".join(file.removesuffix(".safetensors") for file in manifest["files"]) or "nothing"
            raise ConfigError(f"{directory} holds no {name!r}; it holds {known}")
        data = read_intact(directory / file_name, manifest["files"][file_name])
        trees[name] = _restore(directory / file_name, data, template)
    return trees, manifest


def read_manifest(directory: Path | str, *, as_written: bool = False) -> Manifest:
    """`manifest.json`: the entries given to `save_checkpoint`, versions, files with sha256 and size.

    Of an earlier marline it is as today's would have written it, unless `as_written`. Read once for as long as nobody
    touches the file, so not to be changed: the lists of a campaign grow with every deployment.
    """
    path = Path(directory) / MANIFEST
    written = _as_written(path, state_of(path))
    return written if as_written else migrated(written, CHECKPOINT, path)


@functools.lru_cache(maxsize=4)
def _as_written(path: Path, _: tuple[int, ...]) -> Manifest:
    """See `read_manifest`."""
    return read_sealed(path, CHECKPOINT, as_written=True)


def other_versions(manifest: Manifest) -> list[str]:
    """How what wrote a checkpoint differs from what runs here, as far as a bit of a result may: JAX, and the device."""
    now, then = versions(), manifest.get("versions")
    then = then if isinstance(then, dict) else {}
    return [
        f"{name} {then[name]}, not {now[name]}" for name in ("jax", "device") if then.get(name, now[name]) != now[name]
    ]


def tree_sha256(tree: PyTree) -> str:
    """SHA-256 of the file that a tree is stored as."""
    return hashlib.sha256(_serialize("tree", tree)).hexdigest()


def verify(directory: Path | str) -> None:
    """Raise `CorruptionError`, naming the file, unless every file of a checkpoint is what was written."""
    directory = Path(directory)
    verify_files(directory, read_sealed(directory / MANIFEST, CHECKPOINT))  # as it is now, and not as it was read


def leaf_names(tree: PyTree) -> list[str]:
    """Names of the array leaves in the order of `jax.tree.leaves`, such as `actor.model.mlp.layers.0.weight`."""
    return list(_named_leaves("tree", tree))


def _named_leaves(name: str, tree: PyTree) -> dict[str, Any]:
    """Leaves by readable name, in the order of the tree."""
    leaves: dict[str, Any] = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        key = jax.tree_util.keystr(path, simple=True, separator=".") or "value"
        if key in leaves:
            raise ConfigError(f"{name} has two leaves named {key!r}; rename one of its dictionary keys")
        leaves[key] = leaf
    return leaves


def _serialize(name: str, tree: PyTree) -> bytes:
    arrays = {key: _to_numpy(f"leaf {key!r} of {name}", leaf) for key, leaf in _named_leaves(name, tree).items()}
    return safetensors.numpy.save(arrays)


def _to_numpy(what: str, leaf: object) -> np.ndarray:
    """A contiguous array with the bits of the leaf; keys become their uint32 data."""
    if not isinstance(leaf, (jax.Array, np.ndarray)):
        raise ConfigError(f"{what} is a {type(leaf).__name__}; store it in the manifest, or make it an array")
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    array = np.asarray(leaf, order="C")
    if array.dtype.kind not in "fiub" or jax.dtypes.canonicalize_dtype(array.dtype) != array.dtype:
        raise ConfigError(f"{what} is of type {array.dtype}, which JAX would not give back; convert it first")
    return array


def _restore(file: Path, data: bytes, template: PyTree) -> PyTree:
    try:
        stored = safetensors.numpy.load(data)
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError) as error:
        raise CorruptionError(f"{file} is no safetensors file ({error}); restore a copy") from error
    wanted = _named_leaves(str(file), template)
    for key in wanted:
        if key not in stored:
            raise ConfigError(f"{file} has no leaf {key!r}; load it with the configuration that it was saved with")
    for key in stored:
        if key not in wanted:
            raise ConfigError(
                f"{file} has a leaf {key!r} too many; load it with the configuration that it was saved with"
            )
    leaves = [_to_device(f"leaf {key!r} of {file}", stored[key], leaf) for key, leaf in wanted.items()]
    return jax.tree.unflatten(jax.tree.structure(template), leaves)


def _to_device(what: str, stored: np.ndarray, template: Any) -> jax.Array:
    """A new device array of the template's type."""
    if not hasattr(template, "dtype"):
        raise ConfigError(f"{what} is a {type(template).__name__} in the template; make it an array")
    is_key = jnp.issubdtype(template.dtype, jax.dtypes.prng_key)
    expected = jax.eval_shape(jax.random.key_data, template) if is_key else template
    if stored.shape != expected.shape or stored.dtype != expected.dtype:
        raise ConfigError(
            f"{what} is {stored.dtype}{list(stored.shape)} and should be {expected.dtype}{list(expected.shape)}; "
            "load it with the configuration that it was saved with"
        )
    array = jnp.array(stored)
    if is_key:
        return jax.random.wrap_key_data(array, impl=jax.random.key_impl(jnp.empty(template.shape, template.dtype)))
    return array


def _file_name(name: str) -> str:
    for part in name.split("/"):
        require_file_name(part, f"part of the tree name {name!r}" if part != name else "tree name")
    return f"{name}.safetensors"


def versions() -> dict[str, str]:
    """What numbers depend on: versions of marline, JAX and Python."""
    return {
        "marline": importlib.metadata.version("marline"),
        "jax": jax.__version__,
        "device": jax.devices()[0].device_kind,
        "python": platform.python_version(),
    }
