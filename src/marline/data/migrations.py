"""How files of earlier versions are read: as if today's marline had written them. Imports no JAX.

A file on disk stays as it was written, and so do the seals over it: what is migrated is the document that a reader
gets. Where a hash is of what a file says, it is of what the file says, see `as_written` of `manifest.read_sealed`.

The layout of a document has a number, its schema. It goes up where a marline that does not know of a change would
misunderstand the document; what a reader may overlook leaves it as it is. From every number to the next there is a
small pure function. A function leaves alone what has the new form already, for a run that grew holds parts of both.

Types and their fields have no numbers, for a name is never used for something else. `TYPES`, `FIELDS`, `GONE` and
`SINCE` say how they were called, which are no more, and what it meant that a field was not there yet: what was done
then, whatever is the default now.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from marline.errors import CorruptionError, NewerError

Document = dict[str, Any]


class Schema(NamedTuple):
    """What a document is, and how it got its layout.

    Attributes:
        kind: what sealed lists call themselves.
        steps: the first makes a document of schema 2 out of one of schema 1, the next one of schema 3, and so on.
    """

    kind: str
    steps: tuple[Callable[[Document], Document], ...] = ()

    @property
    def newest(self) -> int:
        """The schema of what this marline writes."""
        return 1 + len(self.steps)


def _episodes_of_all_seeds(document: Document) -> Document:
    """Before, every seed was evaluated in episodes of its own."""
    return {"evaluation_seed": None, **document}


def _channels(document: Document) -> Document:
    """Before, actions were logged in [-1, 1], and columns had no names; that is what no entry `channels` means."""
    return document


RUN = Schema("marline run", (_episodes_of_all_seeds,))
LEDGER = Schema("marline ledger")
CHECKPOINT = Schema("marline checkpoint")  # with the lines of metrics up to it
DATASET = Schema("marline dataset", (_channels,))
BUNDLE = Schema("marline bundle")
SHELF = Schema("marline shelf")

TYPES: Mapping[str, str] = {}  # the former name of a type in run.json: its name now
FIELDS: Mapping[str, Mapping[str, str]] = {}  # by the name of a type now, the former name of a field: its name now
# by the name of a type now, a field: what it meant that there was none
SINCE: Mapping[str, Mapping[str, Any]] = {
    "OTC": {"relative_to": "first"},
    "DriftingNavigation": {"offline_beta_per": "step"},
    "TwoSided": {"pooled": False, "powers": []},
    "DynamicsRatio": {"powers": []},
}
# by the name of a type now, fields that it had for a while before 0.2.0: the discount is that of the algorithm
GONE: Mapping[str, frozenset[str]] = {
    name: frozenset({"gamma"}) for name in ("TwoSided", "DynamicsRatio", "AdaptiveShare")
}


def migrated(document: Document, schema: Schema, path: Path, writer: str = "") -> Document:
    """A document in today's form.

    Args:
        document: as it was read.
        schema: of what it is.
        path: where it was read, for messages.
        writer: the version that wrote it, where something beside it tells.

    Raises:
        CorruptionError: it does not say by which schema it was written.
        NewerError: this marline does not know that one yet.
    """
    number = document.get("schema")
    if type(number) is not int or number < 1:
        raise CorruptionError(f"{path} does not say by which schema it was written; restore a copy")
    require_known(number, schema, path, writer or written_by(document))
    for step in schema.steps[number - 1 :]:
        document = step(document)
    return {**document, "schema": schema.newest}


def migrated_configuration(document: Document, path: Path, writer: str = "") -> Document:
    """What a run.json says, by the names of today; as `migrated`."""
    document = migrated(document, RUN, path, writer)
    parts = {name: _renamed(document[name]) for name in ("algorithm", "samplers") if name in document}
    return {**document, **parts}


def require_known(number: int, schema: Schema, path: Path, writer: str = "") -> None:
    """Raise `NewerError` where a newer marline wrote what has this schema."""
    if number > schema.newest:
        by = f", by which marline {writer} wrote it" if writer else ""
        raise NewerError(
            f"{path} has schema {number}{by}, and marline {this_version()} reads those up to {schema.newest}: "
            "upgrade marline, or go on with the version that wrote it"
        )


def unknown_field(what: str, name: str, writer: str = "") -> NewerError:
    """What to say of a field that a type, or the whole configuration, does not have."""
    return _unknown(f"{what} has no field {name!r}", writer)


def unknown_type(name: str, writer: str = "") -> NewerError:
    """What to say of a type that is not built in."""
    return _unknown(f"there is no type {name!r}", writer)


def _unknown(told: str, writer: str) -> NewerError:
    by = f"marline {writer} wrote it" if writer and writer != this_version() else "a newer one may have written it"
    return NewerError(
        f"{told} in marline {this_version()}; {by}: upgrade marline, or restore a copy if nobody used another version"
    )


def written_by(document: Mapping[str, Any]) -> str:
    """The version of marline that wrote a document, if it tells; otherwise nothing."""
    versions = document.get("versions")
    found = versions.get("marline") if isinstance(versions, Mapping) else document.get("marline")
    return found if isinstance(found, str) and len(found) < 40 and found.isprintable() else ""


def this_version() -> str:
    """The version of marline that is running."""
    return importlib.metadata.version("marline")


def _renamed(value: Any) -> Any:
    """A part of a configuration, at any depth, by the names of today."""
    if isinstance(value, list):
        return [_renamed(part) for part in value]
    if not isinstance(value, dict):
        return value
    if not isinstance(value.get("type"), str):
        return {name: _renamed(part) for name, part in value.items()}
    kind = TYPES.get(value["type"], value["type"])
    names = FIELDS.get(kind, {})
    gone = GONE.get(kind, frozenset())
    fields = {names.get(name, name): _renamed(part) for name, part in value.items() if name not in gone}
    return {**SINCE.get(kind, {}), **fields, "type": kind}
