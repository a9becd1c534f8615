"""The report of a model that was fitted to a new site: its answers before and after, side by side."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from training import page, plots
from training.report import save_figures

_SETS = {
    "site": "this site, by cross-validation",
    "home": "the first training's validation",
}
_WHEN = ("before", "after")


def overview(figures: Mapping[str, Any]) -> tuple[Sequence[str], list[list[str]]]:
    """Return header and rows of the table that says whether the new model is the better one."""
    header = [
        "cells of",
        "cells",
        "before %",
        "after %",
        "now right",
        "now wrong",
        "p",
        "ECE before",
        "after",
    ]
    rows = []
    for key, label in _SETS.items():
        f = figures[key]
        shares = [page.percent(f[when]["accuracy"]) for when in _WHEN]
        changes = [str(f["now_right"]), str(f["now_wrong"]), f"{f['p']:.2g}"]
        errors = [page.percent(f[when]["ece"]) for when in _WHEN]
        rows.append([label, str(f["cells"]), *shares, *changes, *errors])
    return header, rows


def warning(figures: Mapping[str, Any]) -> str:
    """Return what the figures cannot tell, of classes that the site never showed; "" where it showed all."""
    names = ", ".join(name.replace("_", " ") for name in figures["never_shown"])
    return names and (
        f"Never shown by this site: {names}. Its cells of these may be named worse than before, which no "
        "figure here shows: fit again with some of each class that you count."
    )


def write(folder: Path, figures: Mapping[str, Any]) -> Path:
    """Write report.html and its figures into `folder`; return the page's path.

    Args:
        folder: of the new model.
        figures: what `training.adapt.adapt` returns.
    """
    matrices = {
        f"{key}_{when}": plots.confusion(figures[key][when]["confusion"], figures[key][when]["classes"])
        for key in _SETS
        for when in _WHEN
    }
    drawn = save_figures(folder / "figures", matrices)
    learned = ", ".join(f"{name.replace('_', ' ')} {number}" for name, number in figures["cells"].items())
    parts = [
        page.paragraph(f"Cells of the new site that were learned: {learned}."),
        page.paragraph(
            "Each cell of the site was judged by a head that learned neither from it nor from its blood "
            "film; p is McNemar's, of the cells that only one of the two models has right."
        ),
        page.table(*overview(figures)),
    ]
    if told := warning(figures):
        parts.append(page.paragraph(told))
    for key, label in _SETS.items():
        images = [page.image(*drawn[f"{key}_{when}"], f"Confusion matrix {when}") for when in _WHEN]
        captioned = [
            part for when, i in zip(_WHEN, images, strict=True) for part in (page.paragraph(when), i)
        ]
        parts.append(page.section(label[0].upper() + label[1:], _per_class(figures[key]), *captioned))
    file = folder / "report.html"
    page.write(file, "Fitted to a new site", parts)
    return file


def _per_class(f: Mapping[str, Any]) -> page.Html:
    rows = [
        [name.replace("_", " "), str(old["support"]), *(page.percent(row["f1"]) for row in (old, new))]
        for name, old, new in (
            (name, old, f["after"]["per_class"][name]) for name, old in f["before"]["per_class"].items()
        )
        if old["support"]
    ]
    return page.table(["class", "cells", "F1 before %", "F1 after %"], rows)
