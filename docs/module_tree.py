"""Write the tree of packages and modules, with the purpose of each, into docs/architecture.md.

    python docs/module_tree.py

The purpose is the first sentence of the docstring.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "src" / "marline"
PAGE = Path(__file__).with_name("architecture.md")
BEGIN, END = "<!-- tree: written by docs/module_tree.py -->\n```\n", "```\n<!-- end of tree -->"


def tree(folder: Path = PACKAGE, depth: int = 0) -> list[str]:
    """A line per module, those of a package below it: name, of a package about how many lines, purpose."""
    lines = []
    for path in sorted(folder.iterdir(), key=lambda path: (path.is_dir(), path.name)):
        if path.is_dir() and (path / "__init__.py").exists():
            num_lines = round(sum(map(_num_lines, path.rglob("*.py"))), -2)
            lines.append(_line(depth, f"{path.name}/", num_lines, path / "__init__.py"))
            lines += tree(path, depth + 1)
        elif path.suffix == ".py" and path.name not in ("__init__.py", "__main__.py"):
            lines.append(_line(depth, path.stem, 0, path))
    return lines


def page() -> str:
    """The page with the tree of now in it."""
    before, rest = PAGE.read_text("utf-8").split(BEGIN)
    return before + BEGIN + "\n".join(tree()) + "\n" + END + rest.split(END)[1]


def _num_lines(path: Path) -> int:
    return len(path.read_text("utf-8").splitlines())


def _line(depth: int, name: str, num_lines: int, path: Path) -> str:
    docstring = " ".join((ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "").split("\n\n")[0].split())
    purpose = re.split(r"(?<!et al)(?<!Eq)(?<!Eqs)(?<!Fig)(?<!Figs)\. |; ", docstring)[0].rstrip(".")
    return f"{'    ' * depth + name:32}{num_lines or '':5}  {purpose}"


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
