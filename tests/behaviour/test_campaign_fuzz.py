"""A run directory, logs and bundles with bytes flipped, cut out and put in: a sentence or the right answer, no more."""

from __future__ import annotations

import hashlib
import json
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from field import contents, copy
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from marline.campaign.campaign import Campaign
from marline.campaign.read_logs import read_logs
from marline.campaign.status import status
from marline.campaign.timeline import timeline
from marline.data import dataset
from marline.errors import MarlineError
from marline.report import write_report
from marline.runs.ledger import Ledger
from marline.runs.verify import verify

Read = Callable[[Path], Any]
FUZZ = settings(
    max_examples=12,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
FEW = settings(FUZZ, max_examples=6)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2**70) | st.floats() | st.sampled_from(["", "../x", "TD3BC", "\x00"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["type", "a", "agents"]), inner),
    max_leaves=5,
)


@st.composite
def damage(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """Bytes to bytes: some flipped, cut out or put in, at a place that is a fraction of the whole."""
    kind = draw(st.sampled_from(["flip", "cut", "insert", "truncate", "replace"]))
    place, some = draw(st.floats(0, 1, exclude_max=True)), draw(st.binary(min_size=1, max_size=8))
    bit, replacement = 1 << draw(st.integers(0, 7)), draw(st.sampled_from([b"", b"null", b"[" * 20_000, b"\x80\x04."]))

    def change(content: bytes) -> bytes:
        at = int(place * len(content))
        if kind == "flip":
            return content[:at] + bytes([content[at] ^ bit]) + content[at + 1 :]
        if kind == "cut":
            return content[:at] + content[at + len(some) :]
        if kind == "insert":
            return content[:at] + some + content[at:]
        return content[:at] if kind == "truncate" else replacement

    return change


@st.composite
def json_damage(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """JSON to JSON of another form: one value anywhere is another or is gone."""
    path, value, gone = draw(st.lists(st.integers(0, 100), min_size=1, max_size=4)), draw(JSON), draw(st.booleans())

    def change(content: bytes) -> bytes:
        document = json.loads(content)
        where = document
        for number in path:
            key = list(where)[number % len(where)] if isinstance(where, dict) else number % len(where)
            if number is path[-1] or not isinstance(where[key], dict | list) or not where[key]:
                if gone:
                    del where[key]
                else:
                    where[key] = value
                break
            where = where[key]
        return json.dumps(document).encode()

    return change


@pytest.fixture(scope="module")
def run(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy(world / "tuned", tmp_path_factory.mktemp("fuzz") / "run")


def endure(folder: Path, file: Path, change: Callable[[bytes], bytes], *reads: Read) -> None:
    """Damage a file, read it, and put it back: whatever is said is one sentence, and nothing else has changed."""
    content = file.read_bytes()
    try:
        file.write_bytes(change(content))
        before = contents(folder)
        for read in reads:
            try:
                read(folder)
            except MarlineError as error:
                told = str(error)
                assert "\n" not in told and all(letter.isprintable() for letter in told) and len(told) < 1000, told
            assert contents(folder) == before, read
    finally:
        file.write_bytes(content)


def report(folder: Path) -> None:
    write_report([folder], folder.parent / "report.html", {folder: timeline(Ledger(folder).events())})


def serve(bundle: Path) -> None:
    """What `run_policy.py` does before anything acts: it leaves with a sentence, or all is as it was."""
    try:
        runpy.run_path(str(bundle / "run_policy.py"))["Agent"](bundle.parent.parent / "nothing", bundle)
    except SystemExit as stop:
        raise MarlineError(str(stop.code)) from None


def sealed(content: bytes) -> bytes:
    """Somebody's list of files, sealed as ours are."""
    document = json.loads(content)
    if not isinstance(document, dict):
        return content
    text = json.dumps(document | {"seal": "0" * 64}).encode()
    head, tail = text.rsplit(b"0" * 64, 1)
    return head + hashlib.sha256(text).hexdigest().encode() + tail


def load_unlisted(folder: Path) -> None:
    """Load data as if others had written it: nothing vouches for its bytes."""
    listed = folder / "data" / "dataset.json"
    content = listed.read_bytes()
    listed.unlink()
    try:
        dataset.load(folder / "data")
    finally:
        listed.write_bytes(content)


def reopen(folder: Path) -> None:
    Campaign.open(folder)


LOOKS = (status, verify, report)


@pytest.mark.parametrize("name", ["run.json", "ledger.sqlite", "seed-0/*/metrics.jsonl"])
@FUZZ
@given(change=damage())
def test_bytes_of_a_run(run: Path, name: str, change: Callable[[bytes], bytes]) -> None:
    endure(run, max(run.glob(name)), change, *LOOKS)


@FUZZ
@given(change=json_damage())
def test_a_configuration_of_another_form(run: Path, change: Callable[[bytes], bytes]) -> None:
    endure(run, run / "run.json", change, *LOOKS)


@pytest.mark.parametrize("name", ["run.json", "data/dataset.json", "ledger.sqlite"])
@FEW
@given(change=damage())
def test_going_on_with_a_damaged_campaign(run: Path, name: str, change: Callable[[bytes], bytes]) -> None:
    endure(run, run / name, change, reopen)


@FUZZ
@given(change=damage() | json_damage(), which=st.integers(0, 100))
def test_lists_of_files(run: Path, change: Callable[[bytes], bytes], which: int) -> None:
    lists = [run / "data" / "dataset.json", *sorted(run.glob("seed-0/**/*.json"))]
    endure(run, lists[which % len(lists)], change, status, verify)


@FEW
@given(change=json_damage(), which=st.integers(0, 100))
def test_lists_of_files_that_are_sealed_and_of_another_form(
    run: Path, change: Callable[[bytes], bytes], which: int
) -> None:
    lists = [run / "data" / "dataset.json", *sorted(run.glob("seed-0/**/*.json"))]
    endure(run, lists[which % len(lists)], lambda content: sealed(change(content)), status, verify, reopen)


@FUZZ
@given(change=damage() | json_damage())
def test_contracts(world: Path, change: Callable[[bytes], bytes]) -> None:
    endure(world / "sent" / "arm", world / "sent" / "arm" / "contract.json", change, serve)


@FUZZ
@given(change=damage())
def test_rows_of_a_dataset(run: Path, change: Callable[[bytes], bytes]) -> None:
    endure(run, run / "data" / "cart.h5", change, load_unlisted, lambda folder: dataset.load(folder / "data"))


@FUZZ
@given(change=damage())
def test_logs_that_come_back(world: Path, change: Callable[[bytes], bytes]) -> None:
    endure(world / "logs", world / "logs" / "arm" / "000001.npz", change, read_logs)
