"""Tables for notebooks, in HTML; whatever names hold, it is text."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence


def html_table(title: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """What `_repr_html_` returns: a caption, a header, and rows of text."""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in header)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><caption>{html.escape(title)}</caption><tr>{head}</tr>{body}</table>"
