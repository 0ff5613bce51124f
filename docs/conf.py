"""How Sphinx makes a site of these pages: `make docs`.

The pages are Markdown that reads on its own, with links as files have them; so the site's source is the whole checkout.
What a page must not hold for that is added here: the navigation, from the links of index.md, and docstrings, after the
table of api.md.
"""

from __future__ import annotations

import re
from pathlib import Path

import marline

ROOT = Path(__file__).parents[1]
project = "marline"
author = "The marline authors"
release = version = marline.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "docs/index"
include_patterns = ["README.md", "CHANGELOG.md", "docs/*.md", "results/*.md", "benchmarks/*.md", "examples/*.ipynb"]
exclude_patterns = ["build", "**/.*"]
suppress_warnings = ["config.cache", "myst.header"]  # parts of results begin at any level

myst_heading_anchors = 4  # as GitHub names them
myst_links_external_new_tab = True
nb_execution_mode = "off"  # a test runs notebooks; what they printed is kept in them
highlight_language = "text"  # commands, and what they print, where a block says nothing else
smartquotes = False  # two hyphens are an option

html_theme = "furo"
html_title = f"marline {release}"
html_static_path = ["site"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {"top_of_page_buttons": []}

autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_type_aliases = {"ArrayLike": "ArrayLike"}  # which is a page of its own
autodoc_member_order = "bysource"
autodoc_class_signature = "mixed"
python_use_unqualified_type_names = True
python_display_short_literal_types = True
maximum_signature_line_length = 88
napoleon_numpy_docstring = False
napoleon_use_ivar = True


def without_links_to_folders(page: str, text: str) -> str:
    """A site has no folders to link to: only the words of such a link stay."""
    here = (ROOT / page).parent

    def words(link: re.Match[str]) -> str:
        return link[1] if (here / link[2]).is_dir() else link[0]

    return re.sub(r"\[([^\]]+)\]\(([\w./-]+)\)", words, text)


def add_navigation(text: str) -> str:
    """A list of links below each heading becomes a part of the navigation."""
    for heading, part in re.findall(r"^## (.+)\n((?:(?!## ).*\n?)+)", text, flags=re.MULTILINE):
        links = re.findall(r"^- \[(.+?)\]\(([^)#]+?)\.(?:md|ipynb)\)", part, flags=re.MULTILINE)
        entries = "\n".join(f"{title} <{_from_root(target)}>" for title, target in links)
        if heading == "Results":  # and the tables of each run, which come and go
            linked = {_from_root(target)[1:] for _, target in links}
            pages = (path.relative_to(ROOT).with_suffix("").as_posix() for path in sorted(ROOT.glob("results/*.md")))
            entries += "".join(f"\n{Path(page).name} </{page}>" for page in pages if page not in linked)
        text += f"\n```{{toctree}}\n:hidden:\n:caption: {heading}\n\n{entries}\n```\n"
    return text


def _from_root(target: str) -> str:
    return "/" + (Path("/docs") / target).resolve().relative_to("/").as_posix()


def add_docstrings(text: str) -> str:
    """Below the table of a group of names, what each of them says of itself."""
    parts = re.split(r"^(?=## )", text, flags=re.MULTILINE)
    for index, part in enumerate(parts[1:], 1):
        names = re.findall(r"^\| \[`(\w+)`\]", part, flags=re.MULTILINE)
        parts[index] += "\n" + "\n".join(f"```{{eval-rst}}\n{_directive(name)}\n```\n" for name in names)
    return "".join(parts)


def _directive(name: str) -> str:
    found = getattr(marline, name)
    if isinstance(found, type):
        return f".. autoclass:: marline.{name}\n   :members:\n   :inherited-members: Module, Exception, tuple, Protocol"
    return f".. autofunction:: marline.{name}"


def read(app: object, page: str, source: list[str]) -> None:
    """What is added to pages when they are read."""
    source[0] = without_links_to_folders(page, source[0])
    if page == root_doc:
        source[0] = add_navigation(source[0])
    elif page == "docs/api":
        source[0] = add_docstrings(source[0])


def as_restructured_text(app: object, what: str, name: str, found: object, options: object, lines: list[str]) -> None:
    """Docstrings are written as Markdown has code, and with stars that mean nothing."""
    for index, line in enumerate(lines):
        if not line.lstrip().startswith((">>>", "...")):
            parts = re.split(r"(`[^`]+`)", line)
            lines[index] = "".join(
                f"`{part}`" if part.startswith("`") else re.sub(r"([*|]|_(?=\W))", r"\\\1", part) for part in parts
            )


def setup(app) -> None:
    app.connect("source-read", read)
    app.connect("autodoc-process-docstring", as_restructured_text, priority=400)  # before napoleon adds its own stars
