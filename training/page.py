"""A self-contained HTML page: no script, no other file, nothing fetched; text is escaped here alone."""

import base64
import html
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NewType

from edge.errors import UserError
from edge.report import NOTICE
from edge.whole import named

Html = NewType("Html", str)
"""Markup that is safe to put in a page."""

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1b1b; --paper: #fff; --line: #c9c9c9; --soft: #f3f4f6; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e8e8; --paper: #17191c; --line: #4a4d52; --soft: #23262b; }
}
body { color: var(--ink); background: var(--paper); font: 16px/1.5 system-ui, sans-serif;
  max-width: 60rem; margin: 0 auto; padding: 1rem; }
h1, h2 { line-height: 1.2; }
h2 { margin-top: 2.2rem; border-bottom: 1px solid var(--line); padding-bottom: .2rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .88rem; margin: .8rem 0; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding: .2rem 0; }
th, td { border: 1px solid var(--line); padding: .25rem .55rem; text-align: right; }
th { background: var(--soft); }
th:first-child, td:first-child, .text th, .text td { text-align: left; }
.text td { overflow-wrap: anywhere; }
img { display: block; max-width: 100%; height: auto; background: #fff; padding: .4rem; margin: .8rem auto;
  box-sizing: border-box; border-radius: 4px; }
.note { background: var(--soft); border-left: 4px solid #D55E00; padding: .4rem .8rem; }
@media print {
  :root { --ink: #000; --paper: #fff; --line: #999; --soft: #eee; }
  body { max-width: none; font-size: 10.5pt; padding: 0; }
  img, tr { break-inside: avoid; } h2 { break-after: avoid; } .wide { overflow: visible; }
}
"""


def document(title: str, parts: Sequence[Html]) -> str:
    """Return a whole page; it says at the top that it is for research use only."""
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    body = "\n".join([f"<h1>{_safe(title)}</h1>", note(NOTICE), *parts])
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head>{head}\n'
        f"<title>{_safe(title)}</title><style>{_STYLE}</style></head>\n"
        f"<body>\n{body}\n</body></html>\n"
    )


def write(file: Path, title: str, parts: Sequence[Html]) -> None:
    """Write a whole page, or leave the file as it was.

    Raises:
        UserError: it cannot be written.
    """
    try:
        with named(file) as part:
            part.write_text(document(title, parts), encoding="utf-8")
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}; the page needs a place to be written to") from None


def section(heading: str, *parts: Html) -> Html:
    """Return a headed part of the page."""
    return Html(f"<section><h2>{_safe(heading)}</h2>\n" + "\n".join(parts) + "</section>")


def paragraph(text: str) -> Html:
    """Return a paragraph."""
    return Html(f"<p>{_safe(text)}</p>")


def note(text: str) -> Html:
    """Return a paragraph that stands out."""
    return Html(f'<p class="note">{_safe(text)}</p>')


def table(
    header: Sequence[str], rows: Sequence[Sequence[str]], *, caption: str = "", text: bool = False
) -> Html:
    """Return a table; the first column is at the left, the others at the right unless they are `text`."""
    head = "".join(f'<th scope="col">{_safe(h)}</th>' for h in header)
    body = "\n".join("<tr>" + "".join(f"<td>{_safe(value)}</td>" for value in row) + "</tr>" for row in rows)
    above = f"<caption>{_safe(caption)}</caption>" if caption else ""
    style = ' class="text"' if text else ""
    inside = f"{above}<thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody>"
    return Html(f'<div class="wide"><table{style}>{inside}</table></div>')


def image(content: bytes, kind: str, alternative: str) -> Html:
    """Return a picture that lies in the page itself.

    Args:
        content: the picture's file.
        kind: "png" or "svg+xml".
        alternative: what it shows, for who does not see it.
    """
    data = base64.b64encode(content).decode("ascii")
    return Html(f'<img src="data:image/{kind};base64,{data}" alt="{_safe(alternative)}">')


def percent(share: float | None) -> str:
    """Return a share (0..1) in percent with two decimals; a dash where there is none."""
    return "-" if share is None or math.isnan(share) else f"{100 * share:.2f}"


def interval(limits: Sequence[float] | None) -> str:
    """Return two shares (0..1) in percent as "low to high"; a dash where there are none."""
    return f"{percent(limits[0])} to {percent(limits[1])}" if limits else "-"


def _safe(text: str) -> str:
    return html.escape(text, quote=True)
