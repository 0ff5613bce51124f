"""Vaults of flashbax, in which OG-MARL keeps its datasets (Formanek et al. 2023): all agents stacked.

A vault is an OCDBT database of Zarr arrays [batch, time, agent, ...], which tensorstore reads, and
an index of how much of the time axis, declared endless, is filled.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from marline.data.files import open_regular, require_plausible
from marline.data.formats.log import Block, block_rows
from marline.data.formats.optional import require_package
from marline.data.layout import require_keys
from marline.errors import CorruptionError, DataError

METADATA = "metadata.json"
_KEYS = {
    "observations": "observations",
    "actions": "actions",
    "rewards": "rewards",
    "terminals": "terminals",
    "truncations": "timeouts",
}
_LEGALS = ("infos", "legals")
_LARGEST = 1 << 24  # bytes of metadata
_ROWS = 1 << 14  # at once: each holds all agents
_CACHE_BYTES = 1 << 27


def is_vault(folder: Path) -> bool:
    """Whether a folder is one vault, such as `5m_vs_6m.vlt/Good`."""
    return (folder / METADATA).is_file() and (folder / "manifest.ocdbt").is_file()


def vault_blocks(folder: Path) -> Iterator[Block]:
    """The rows of every agent, named agent_0, agent_1, ... for the format only numbers them."""
    tensorstore = require_package("tensorstore", "Vaults", "vault")
    structure = _structure(folder)
    require_keys(structure, list(_KEYS)[:4], str(folder / METADATA))
    names = {mine: f"{key}." for key, mine in _KEYS.items() if key in structure}
    infos = structure.get(_LEGALS[0])
    if isinstance(infos, Mapping) and _LEGALS[1] in infos:
        names["action_masks"] = f"{'.'.join(_LEGALS)}."
    # a chunk holds many blocks
    context = tensorstore.Context({"cache_pool": {"total_bytes_limit": _CACHE_BYTES}})

    def opened(name: str) -> Any:
        database = {"driver": "ocdbt", "base": folder.resolve().as_uri(), "path": name}
        return tensorstore.open({"driver": "zarr", "kvstore": database}, open=True, read=True, context=context).result()

    try:
        filled = int(opened("vault_index").read().result()[0])
        stores = {key: opened(name) for key, name in names.items()}
        num_batches, time, num_agents = _require_shapes(folder, {key: store.shape for key, store in stores.items()})
        if not 0 <= filled <= time:
            raise ValueError(f"{filled} of {time} steps are filled")
        row_bytes = sum(math.prod(store.shape[2:]) * store.dtype.numpy_dtype.itemsize for store in stores.values())
        size = block_rows(str(folder), row_bytes, _ROWS)
        stored = sum(path.lstat().st_size for path in folder.rglob("*"))
        require_plausible(str(folder), num_batches * filled * row_bytes, stored)
        for batch in range(num_batches):
            for start in range(0, filled, size):
                stop = min(start + size, filled)
                reads = {key: store[batch, start:stop].read() for key, store in stores.items()}
                columns = {key: np.asarray(read.result()) for key, read in reads.items()}
                timeouts = columns.get("timeouts", np.zeros_like(columns["terminals"])).copy()
                if stop == filled:
                    timeouts[-1] = 1 - columns["terminals"][-1]  # the next batch is another episode
                columns["timeouts"] = timeouts
                for i in range(num_agents):
                    yield Block(f"agent_{i}", {key: column[:, i] for key, column in columns.items()})
    except (ValueError, OSError, IndexError, MemoryError) as error:
        raise CorruptionError(f"{folder} is not a whole vault ({str(error)[:200]}); download it again") from error


def _structure(folder: Path) -> Mapping[str, Any]:
    """Names of the arrays; of what else the metadata say nothing is believed."""
    with open_regular(folder / METADATA) as file:
        try:
            structure = json.loads(file.read(_LARGEST))["structure_shape"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise DataError(f"{folder / METADATA} is not the metadata of a vault; download it again") from error
    if not isinstance(structure, dict):
        raise DataError(f"{folder / METADATA} is not the metadata of a vault; download it again")
    return structure


def _require_shapes(folder: Path, shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, ...]:
    """Batches, time and agents, of which all arrays have the same."""
    leading = shapes["rewards"]
    for key, shape in shapes.items():
        if len(leading) != 3 or shape[:3] != leading:
            raise DataError(
                f"{folder}: {key} have shape {shape} and rewards {leading}; all of them need a row for every batch, "
                "step and agent"
            )
    return leading
