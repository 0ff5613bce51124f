"""Code of the user's own: imported when somebody says so, recorded by name, refused where that is not enough."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from marline import plugins
from marline.algorithms import TD3BC
from marline.configuration.run_config import RunConfig, require_recordable
from marline.configuration.selection import select_algorithm, select_samplers
from marline.envs import CooperativeNavigation, ParallelTask, make_task, name_task
from marline.errors import ConfigError
from marline.runs.verify import verify
from marline.samplers import OTC, Shuffled, Uniform

MODULE = """
import dataclasses
from marline.samplers import Uniform
from marline.algorithms import TD3BC
from marline.envs import CooperativeNavigation

@dataclasses.dataclass(frozen=True)
class Recent:
    last: int = 100
    batch_size: int = 128
    def init(self, experience, *, key): return ()
    def begin_deployment(self, state, experience, critic, *, key): return state, {}
    def sample(self, state, experience, critic, *, key): return Uniform().sample(state, experience, critic, key=key)

@dataclasses.dataclass(frozen=True)
class Near:
    scale: float = 1.0
    def init(self, experience, *, key): return ()
    def begin_deployment(self, state, experience): return state, {}
    def features(self, state, experience, critic, candidates, references, *, key): raise NotImplementedError

class Loose:
    def init(self, experience, *, key): return ()
    def begin_deployment(self, state, experience, critic, *, key): return state, {}
    def sample(self, state, experience, critic, *, key): return Uniform().sample(state, experience, critic, key=key)

slow = TD3BC(learning_rate=1e-5)
small = CooperativeNavigation(2)
number = 7
def broken(): raise OSError("no such robot")
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Its name; nobody has said yet that it may be imported."""
    name = f"mine_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(MODULE, "utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(plugins, "_trusted", set())
    monkeypatch.setattr(plugins, "_types", {})
    return name


def test_nothing_is_imported_before_somebody_says_so(module: str) -> None:
    for choose in (
        lambda: select_samplers((f"{module}:Recent",)),
        lambda: select_algorithm((f"{module}:slow",), ("a",)),
        lambda: select_samplers((f"otc-value(distance={module}:Near)",)),
        lambda: make_task(f"{module}:small"),
    ):
        with pytest.raises(ConfigError, match="is code that will be imported and run; add --trust"):
            choose()
    assert module not in sys.modules


def test_a_trusted_name_stands_for_an_object(module: str) -> None:
    plugins.trust([f"{module}:{name}" for name in ("Recent", "slow", "Near", "small")])
    samplers, matches = select_samplers(
        (f"mine={module}:Recent(last=7)", f"near=otc-value(distance={module}:Near(scale=2))", "shuffled"),
        options={"batch_size": 4},
    )
    recent = sys.modules[module].Recent
    assert samplers["mine"] == recent(last=7, batch_size=4)
    assert samplers["near"] == OTC(sys.modules[module].Near(scale=2.0), batch_size=4)
    assert samplers["shuffled-mine"] == Shuffled(samplers["mine"]) and matches["shuffled-near"] == "near"
    assert select_algorithm((f"{module}:slow(hidden=(4,))",), ("a",)) == TD3BC(learning_rate=1e-5, hidden=(4,))
    assert make_task(f"{module}:small") == CooperativeNavigation(2)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("Recnt", "did you mean 'Recent'"),
        ("Recent(lst=3)", "did you mean 'last'"),
        ("Recent(last=many)", "last of .* is 'many', but must be a whole number"),
        ("number", "is 7, but must be a sampler"),
        ("broken", "but must be a sampler"),
        ("Loose", "is no frozen dataclass"),
    ],
)
def test_what_is_no_sampler_is_refused(module: str, name: str, told: str) -> None:
    plugins.trust(plugins.code_in_text(f"{module}:{name}"))
    with pytest.raises(ConfigError, match=told):
        select_samplers((f"{module}:{name}",))


def config(**samplers: Any) -> RunConfig:
    return RunConfig(task="cooperative-navigation-2", algorithm=TD3BC(), samplers=samplers, dataset_size=10)


def test_a_run_records_the_name_of_the_code_and_reading_it_imports_nothing(module: str, tmp_path: Path) -> None:
    plugins.trust([f"{module}:Recent"])
    mine = select_samplers((f"{module}:Recent(last=3)",)).samplers[f"{module}-Recent-last-3"]
    path = tmp_path / "run.json"
    path.write_text(json.dumps(config(mine=mine, shuffled=Shuffled(mine)).to_json()))
    assert json.loads(path.read_text())["samplers"]["mine"]["type"] == f"{module}:Recent"
    plugins._trusted.clear()
    plugins._types.clear()
    kind = sys.modules.pop(module).Recent
    with pytest.raises(ConfigError, match=f"'{module}:Recent' is code that will be imported and run; add --trust"):
        RunConfig.read(path)
    assert module not in sys.modules
    read = RunConfig.read(path, types=[kind])
    assert read.samplers["mine"] == mine and module not in sys.modules
    plugins._trusted.clear()
    plugins._types.clear()
    again = RunConfig.read(path, trust=True)
    assert dataclasses.asdict(again.samplers["shuffled"].of) == {"last": 3, "batch_size": 128}  # pyright: ignore[reportAttributeAccessIssue]
    path.write_text(path.read_text().replace('"last": 3', '"lost": 3'))
    with pytest.raises(ConfigError, match=r"run\.json: .*:Recent has no field 'lost': another version of that code"):
        RunConfig.read(path)


def test_a_type_that_was_moved_is_found_by_its_former_name(module: str, tmp_path: Path) -> None:
    plugins.trust([f"{module}:Recent"])
    mine = select_samplers((f"{module}:Recent(last=3)",)).samplers[f"{module}-Recent-last-3"]
    path = tmp_path / "run.json"
    path.write_text(json.dumps(config(mine=mine).to_json()))
    kind = sys.modules.pop(module).Recent
    Path(f"{module}_now.py").write_text(MODULE.replace("Recent", "Newest"), "utf-8")
    Path(f"{module}.py").write_text(f"from {module}_now import Newest as Recent\n", "utf-8")
    plugins._trusted.clear()
    plugins._types.clear()
    read = RunConfig.read(path, trust=True).samplers["mine"]  # the old module still knows it
    assert type(read).__name__ == "Newest" and dataclasses.asdict(read) == dataclasses.asdict(mine)  # pyright: ignore[reportArgumentType]
    Path(f"{module}.py").unlink()
    sys.modules.pop(module)
    plugins._trusted.clear()
    plugins._types.clear()
    kind.__module__ = f"{module}_now"
    kind.formerly = (f"{module}:Recent",)
    again = RunConfig.read(path, types=[kind])  # the type itself does
    assert again.samplers["mine"] == mine
    assert again.to_json()["samplers"]["mine"]["type"] == f"{module}_now:Recent"


def test_a_file_that_names_code_of_python_itself_is_not_obeyed(tmp_path: Path) -> None:
    document = config(mine=Uniform()).to_json()
    document["samplers"]["mine"] = {"type": "subprocess:Popen", "args": ["true"]}
    (tmp_path / "run.json").write_text(json.dumps(document))
    with pytest.raises(ConfigError, match="'subprocess:Popen' is code"):
        RunConfig.read(tmp_path / "run.json")


@dataclasses.dataclass(frozen=True)
class Listing(Uniform):
    things: Any = None


def test_what_cannot_be_recorded_is_refused() -> None:
    require_recordable(Listing(things=(1, "two")), "it")
    with pytest.raises(ConfigError, match="it holds what a run cannot record"):
        require_recordable(Listing(things=print), "it")
    with pytest.raises(ConfigError, match="is not what is made again of its fields"):
        require_recordable(Listing(things={"type": "Uniform"}), "it")

    @dataclasses.dataclass(frozen=True)
    class Inner(Uniform):
        pass

    with pytest.raises(ConfigError, match="move it to the top of its module"):
        require_recordable(Inner(), "it")
    with pytest.raises(ConfigError, match="has a field .'matches'., a word that run.json needs itself"):
        require_recordable(Matching(), "it")


def test_code_of_a_script_is_not_looked_for_elsewhere() -> None:
    plugins.trust(["__main__:Mine"])
    with pytest.raises(ConfigError, match="is of a script or notebook, where no other process finds it"):
        plugins.find_type("__main__:Mine")


def test_untrusted_code_is_no_damage(module: str, tmp_path: Path) -> None:
    plugins.trust([f"{module}:Recent"])
    mine = select_samplers((f"mine={module}:Recent",)).samplers["mine"]
    (tmp_path / "run.json").write_text(json.dumps(config(mine=mine).to_json()))
    plugins._trusted.clear()
    plugins._types.clear()
    with pytest.raises(ConfigError, match="add --trust"):
        verify(tmp_path)


@dataclasses.dataclass(frozen=True)
class Matching(Uniform):
    matches: str = "much"


def make_env() -> Any:
    gymnasium = pytest.importorskip("gymnasium")
    return gymnasium.make("CartPole-v1")


def test_tasks_are_named_by_what_makes_them_again() -> None:
    assert name_task("cooperative-navigation-4") == "cooperative-navigation-4"
    assert name_task(CooperativeNavigation(4)) == "cooperative-navigation-4"
    short = dataclasses.replace(CooperativeNavigation(4), horizon=7)
    assert name_task(short) == "cooperative-navigation-4(horizon=7)"
    assert make_task(name_task(short)) == short
    task = ParallelTask(make_env, max_steps=9)
    assert name_task(task) == f"{__name__}:make_env(max_steps=9)"
    with pytest.raises(ConfigError, match="cannot be found again by its name"):
        name_task(ParallelTask(lambda: make_env()))


def test_packages_offer_code_that_needs_no_further_trust(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        plugins, "installed", lambda group: {"recent": f"{module}:Recent"} if group == "samplers" else {}
    )
    (sampler,) = select_samplers(("recent(last=2)",)).samplers.values()
    assert sampler == sys.modules[module].Recent(last=2)
    with pytest.raises(ConfigError, match="did you mean 'recent'"):
        select_samplers(("rescent",))
