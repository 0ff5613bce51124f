"""Write what follows from the code: docs/api.md, docs/command_line.md, and what is public, docs/public.json.

    python docs/reference.py

Tests compare these files with the code. A difference in public.json is a change that users may notice, see
docs/compatibility.md.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, get_args

import marline
from marline.cli.entry import COMMANDS
from marline.data import migrations

DOCS = Path(__file__).parent
SOURCES = DOCS.parent / "src" / "marline"
API = """# Public names

<!-- written by docs/reference.py -->
Everything here is `marline.NAME`, imported on first use. What is not listed is for marline itself and may change
without notice; so may what begins with an underscore. [What is promised of these names](compatibility.md).
Beside them, `marline.testing` checks parts of your own ([plugins](plugins.md#check-it)).
"""
COMMAND_LINE = """# Command line

<!-- written by docs/reference.py -->
`marline COMMAND --help` says the same. A list takes its values one after the other: `--sampler otc-value uniform`.
What has no value is a flag, and off unless given. The commands exit with

| status | |
|---|---|
| 0 | done |
| 1 | a failure that nobody foresaw |
| 2 | something that you can mend: options, logs, a run of a newer marline. The message says what to do |
| 3 | a file is not what was written |
| 4 | an agent diverged and was stopped; the others went on |
| 129, 130, 143 | stopped by SIGHUP, Ctrl-C, SIGTERM; what was done is kept, and the command printed goes on |
"""


def pages() -> dict[Path, str]:
    """Each file, and what it should hold."""
    return {
        DOCS / "api.md": api(),
        DOCS / "command_line.md": command_line(),
        DOCS / "public.json": json.dumps(public(), indent=1, ensure_ascii=False) + "\n",
    }


def api() -> str:
    """A table of public names for each group of them in `marline/__init__.py`."""
    text = API
    for group, names in _groups().items():
        text += f"\n## {group[0].upper() + group[1:]}\n| name | |\n|---|---|\n"
        for name in names:
            found = getattr(marline, name)
            where = Path(inspect.getsourcefile(inspect.unwrap(found)) or "").relative_to(SOURCES.parent)
            first = _escaped(_first_sentence(inspect.getdoc(found) or ""))
            text += f"| [`{name}`](../src/{where}) | {first} |\n"
    return text


def command_line() -> str:
    """A section per command."""
    text = COMMAND_LINE
    for name, (kind, _) in COMMANDS.items():
        definition = _definition(kind)
        text += f"\n## marline {name}\n{_escaped(ast.get_docstring(definition) or '', lines=True)}\n"
        text += "\n| option, value; default | |\n|---|---|\n"
        for option in sorted(_options(kind), key=lambda option: not option.is_positional):
            text += f"| `{option.flag}` {option.value} | {_escaped(option.text)} |\n"
    return text


def public() -> dict[str, Any]:
    """Names with their signatures, commands with their options, and the schemas of files."""
    schemas = [value for value in vars(migrations).values() if isinstance(value, migrations.Schema)]
    return {
        "names": {name: _interface(getattr(marline, name)) for name in marline.__all__},
        "commands": {
            name: {option.flag: option.value for option in _options(kind)} for name, (kind, _) in COMMANDS.items()
        },
        "schemas": {schema.kind: schema.newest for schema in schemas},
    }


def _groups() -> dict[str, list[str]]:
    """Public names by the comment that stands before them in `marline/__init__.py`."""
    source = (SOURCES / "__init__.py").read_text("utf-8").split("_HOMES = {")[1].split("}")[0]
    groups: dict[str, list[str]] = {}
    for line in source.strip().splitlines():
        if comment := re.match(r"\s*# ([^,:]+)", line):
            groups[comment[1]] = []
        elif name := re.match(r'\s*"(\w+)"', line):
            groups[list(groups)[-1]].append(name[1])
    return groups


def _interface(found: Any) -> Any:
    """How something public is called: one signature, or of a class those of everything public in it."""
    if not inspect.isclass(found):
        definition = _definition(found)
        return _signature(definition) if isinstance(definition, ast.FunctionDef) else ast.unparse(definition)
    members: dict[str, str] = {}
    for kind in reversed([kind for kind in found.__mro__ if kind.__module__.startswith("marline")]):
        for node in _definition(kind).body:
            if isinstance(node, ast.FunctionDef) and (node.name == "__init__" or not node.name.startswith("_")):
                members[node.name] = _signature(node)
            elif isinstance(node, ast.AnnAssign) and not ast.unparse(node.target).startswith("_"):
                default = "" if node.value is None else f" = {ast.unparse(node.value)}"
                members[ast.unparse(node.target)] = ast.unparse(node.annotation) + default
    return members


def _signature(node: ast.FunctionDef) -> str:
    kinds = [f"@{ast.unparse(kind)} " for kind in node.decorator_list if ast.unparse(kind) in _KINDS]
    returns = "" if node.returns is None else f" -> {ast.unparse(node.returns)}"
    return f"{''.join(kinds)}({ast.unparse(node.args)}){returns}"


_KINDS = ("property", "staticmethod", "classmethod", "functools.cached_property")


def _definition(found: Any) -> Any:
    """Where a class or function is written, as it is written; whatever wraps it does not matter."""
    tree = ast.parse(Path(inspect.getsourcefile(inspect.unwrap(found)) or "").read_text("utf-8"))
    return next(node for node in tree.body if getattr(node, "name", None) == found.__name__)


class Option(NamedTuple):
    """What a command can be told.

    Attributes:
        flag: as it is written on the command line.
        value: what to give, and what holds otherwise.
        text: what it means.
        is_positional: given by its place, without a name.
    """

    flag: str
    value: str
    text: str
    is_positional: bool


def _options(kind: type[Any]) -> Iterator[Option]:
    """The options of a command."""
    body = _definition(kind).body
    texts = {
        ast.unparse(node.target): inspect.cleandoc(str(after.value.value))
        for node, after in zip(body, body[1:], strict=False)
        if isinstance(node, ast.AnnAssign) and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
    }
    for field in dataclasses.fields(kind):
        extras = get_args(kind.__annotations__[field.name])[1:]
        positional = any("positional" in str(extra).lower() for extra in extras)
        words = [extra.metavar for extra in extras if getattr(extra, "metavar", None)]
        flag = field.name.upper() if positional else f"--{field.name.replace('_', '-')}"
        yield Option(flag, _value(words[-1] if words else "", field.default), texts[field.name], positional)


def _value(word: str, default: Any) -> str:
    if default is dataclasses.MISSING:
        return f"{word}, required".removeprefix(", ")
    if default is None or default is False or default == ():
        return word
    return f"{word}; {' '.join(map(str, default)) if isinstance(default, tuple) else default}"


def _first_sentence(text: str) -> str:
    return re.split(r"(?<!et al)(?<!Eq)(?<!Eqs)\. |\n\n", " ".join(text.split("\n\n")[0].split()))[0].rstrip(".")


def _escaped(text: str, *, lines: bool = False) -> str:
    """Text for Markdown, and for a cell of a table unless it has `lines`."""
    parts = re.split(r"(`[^`]+`)", text if lines else " ".join(text.split()))
    return "".join(part if part.startswith("`") else re.sub(r"([<*|\[])", r"\\\1", part) for part in parts)


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text, "utf-8")
