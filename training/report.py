"""The report of a run: `python -m training.report RUN [--data DIR]` makes it again from the run's files.

Reads what training and evaluation left in RUN (evaluation.json; recipe.json, split.csv, history.csv and
model.keras where they are) and writes figures/ (PNG and SVG), tables/ (CSV) and report.html, which
needs no other file. The same input gives the same output, byte for byte.
"""

import csv
import io
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from edge.errors import UserError
from edge.startup import Parser, run
from training import data, division, history, page, pictures, plots, sections, study
from training.compare import read_evaluation
from training.corruptions import KINDS
from training.predict import Predictor, open_model

_DPI = 160
_PHOTOGRAPHS = ("cells", "grad_cam", "mistakes")
_DRAWN = "drawn by the run"
"""Figures of crops: as PNG in the page, where an SVG would only wrap pixels."""

Row = Sequence[float | str | None]


def write(
    run: Path,
    evaluation: Mapping[str, Any],
    shown: pictures.Pictures | None = None,
    *,
    remark: str = "",
) -> Path:
    """Write figures, tables and report.html of a run into its folder; return the page's path.

    Args:
        run: folder of the run; its recipe, split and history are read from there.
        evaluation: the content of its evaluation.json.
        shown: crops and heat maps; None leaves the galleries out.
        remark: said at the top, such as why the galleries are missing.

    Raises:
        UserError: a file of the run cannot be read, or the report cannot be written.
    """
    epochs, split = read_history(run / "history.csv"), read_split(run / "split.csv")
    recipe = read_recipe(run / "recipe.json")
    figures = draw(evaluation, epochs, split, shown)
    name, file = run.resolve().name, run / "report.html"
    try:
        drawn = save_figures(run / "figures", figures)
        save_tables(run / "tables", name, evaluation, split)
        rows = _split_table(split) if split else None
        parts = sections.parts(name, evaluation, recipe, rows, drawn)
    except OSError as error:
        place = error.filename or run
        told = error.strerror or error
        raise UserError(f"{place}: {told}; the report needs a folder to write to") from None
    notes = [page.note(remark)] if remark else []
    page.write(file, f"Run {name}", [*notes, *parts])
    return file


def draw(
    evaluation: Mapping[str, Any],
    epochs: Mapping[str, Sequence[float]],
    split: Mapping[str, Mapping[str, int]],
    shown: pictures.Pictures | None,
) -> dict[str, Figure]:
    """Return the figures, by name, of whatever is there to be drawn."""
    figures = {"confusion": plots.confusion(evaluation["confusion"], evaluation["classes"])}
    if epochs:
        figures["curves"] = plots.curves(epochs)
    if split:
        figures["split"] = plots.split_diagram(split)
    if evaluation.get("reliability"):
        figures["reliability"] = plots.reliability(evaluation["reliability"], evaluation["ece"])
    if evaluation.get("review_curve"):
        figures["review_curve"] = plots.review_curve(evaluation["review_curve"])
    if evaluation.get("robustness"):
        curves = evaluation["robustness"]
        figures["robustness"] = plots.robustness(curves, {k: _unit(k, p) for k, p in curves.items()})
    if shown:
        figures |= _galleries(shown)
    return figures


def _galleries(shown: pictures.Pictures) -> dict[str, Figure]:
    figures = {}
    if shown.cells:
        figures["cells"] = plots.cells(shown.cells)
    explained = [p for p in shown.explained if p.overlay is not None]
    for name, row in (("grad_cam", explained), ("mistakes", shown.mistakes)):
        if row:
            columns = [p.crop for p in row], [p.overlay for p in row], [p.caption for p in row]
            figures[name] = plots.heat_map_grid(*columns)
    return figures


def _unit(kind: str, points: Sequence[Mapping[str, float]]) -> str:
    """Return what the levels of a fault measure: its amounts, or just its steps."""
    known = kind in KINDS and all(p["level"] in KINDS[kind].amounts for p in points)
    return KINDS[kind].unit if known else "level"


def save_figures(folder: Path, figures: Mapping[str, Figure]) -> dict[str, tuple[bytes, str]]:
    """Write each figure as PNG and SVG; return what the page shows of it: content and kind."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {}
    for name, figure in figures.items():
        contents = {"png": _render(figure, "png"), "svg": _render(figure, "svg")}
        for ending, content in contents.items():
            (folder / f"{name}.{ending}").write_bytes(content)
        drawn[name] = (contents["png"], "png") if name in _PHOTOGRAPHS else (contents["svg"], "svg+xml")
    return drawn


def _render(figure: Figure, kind: str) -> bytes:
    """Return a figure's file without dates, versions or random names."""
    facts = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
    with mpl.rc_context({"svg.hashsalt": "wbc"}), io.BytesIO() as file:
        figure.savefig(file, format=kind, dpi=_DPI, metadata=facts)
        return file.getvalue()


def save_tables(
    folder: Path, name: str, evaluation: Mapping[str, Any], split: Mapping[str, Mapping[str, int]]
) -> None:
    """Write Table 3, the confusion matrix, the split and the robustness sweep as CSV."""
    folder.mkdir(parents=True, exist_ok=True)
    header, rows = study.table(name, evaluation)
    _write_csv(folder / "table3.csv", header, rows)
    classes = evaluation["classes"]
    counts = [[n, *row] for n, row in zip(classes, evaluation["confusion"], strict=True)]
    _write_csv(folder / "confusion.csv", ["true class", *classes], counts)
    if split:
        _write_csv(folder / "split.csv", *_split_table(split))
    sweep = evaluation.get("robustness", {})
    points = [[k, _unit(k, row), p["level"], p["accuracy"]] for k, row in sweep.items() for p in row]
    if points:
        _write_csv(folder / "robustness.csv", ["kind", "unit", "level", "accuracy"], points)


def _write_csv(file: Path, header: Sequence[str], rows: Iterable[Row]) -> None:
    with file.open("w", newline="", encoding="utf-8") as out:
        csv.writer(out, lineterminator="\n").writerows([header, *rows])


def _split_table(split: Mapping[str, Mapping[str, int]]) -> tuple[list[str], list[list[int | str]]]:
    classes = list(dict.fromkeys(name for counts in split.values() for name in counts))
    rows: list[list[int | str]] = [[n, *(counts.get(n, 0) for counts in split.values())] for n in classes]
    return ["class", *split], [*rows, ["all", *(sum(counts.values()) for counts in split.values())]]


def read_history(file: Path) -> dict[str, list[float]]:
    """Return the columns of a history; empty where there is none.

    Raises:
        UserError: it holds something else than numbers, or lacks a column.
    """
    epochs = history.read(file)
    columns = ("epoch", "loss", "accuracy", "val_loss", "val_accuracy")
    if missing := [c for c in columns if epochs and c not in epochs[0]]:
        raise UserError(f"{file}: column {', '.join(missing)} is missing; train again")
    return {name: [epoch[name] for epoch in epochs] for name in (epochs[0] if epochs else ())}


def read_split(file: Path) -> dict[str, dict[str, int]]:
    """Return split -> class -> images of a split file, training first; empty where there is none.

    What the run drew for itself is a part of its own.

    Raises:
        UserError: it is no such file.
    """
    counts: dict[str, dict[str, int]] = {}
    for (source, _, name, _), split in (division.read(file) if file.exists() else {}).items():
        of_class = counts.setdefault(_DRAWN if source in division.DRAWN else split, {})
        of_class[name] = of_class.get(name, 0) + 1
    classes = [c.name for c in data.CLASSES]
    order = {name: place for place, name in enumerate(("train", _DRAWN, "validation", "test"))}
    return {
        split: {name: counts[split][name] for name in sorted(counts[split], key=_place(classes))}
        for split in sorted(counts, key=lambda s: (order.get(s, len(order)), s))
    }


def _place(names: Sequence[str]) -> Any:
    return lambda name: (names.index(name) if name in names else len(names), name)


def read_recipe(file: Path) -> dict[str, Any]:
    """Return the recipe of a run; empty where there is none.

    Raises:
        UserError: it is not a JSON object.
    """
    if not file.exists():
        return {}
    try:
        recipe = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{file}: not JSON ({error}); train again") from None
    if not isinstance(recipe, dict):
        raise UserError(f"{file}: an object of settings expected; train again")
    return recipe


def look(
    predictor: Predictor, samples: Sequence[data.Sample], evaluation: Mapping[str, Any]
) -> pictures.Pictures:
    """Return the crops of a report as the model sees them, with heat maps where it draws some.

    Raises:
        UserError: an image cannot be read, or the evaluation speaks of cells that are not in `samples`.
    """
    from training.batches import find_cells

    def see(chosen: Sequence[data.Sample]) -> NDArray[np.uint8]:
        return find_cells(chosen).views(predictor.size, predictor.framing)

    return pictures.gather(evaluation, samples, see, predictor.explain)


def remake(run: Path, folder: Path | None = None) -> Path:
    """Make the report of a run again from the files in its folder; return the page's path.

    Without the model or the images it is made without the galleries, and says so.

    Args:
        run: folder of the run.
        folder: of the data set; None takes the one of the recipe.

    Raises:
        UserError: a file of the run is missing or cannot be read.
    """
    evaluation = read_evaluation(run)
    folder = folder or Path(read_recipe(run / "recipe.json").get("data", "."))
    try:
        shown = look(open_model(run / "model.keras"), data.load(folder), evaluation)
    except UserError as missing:
        return write(run, evaluation, remark=f"Sample cells, Grad-CAM and mistakes are left out: {missing}")
    return write(run, evaluation, shown)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    parser = Parser(prog="python -m training.report", description=__doc__)
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of the run")
    parser.add_argument("--data", type=Path, help="folder of the data set; the recipe's if not given")
    options = parser.parse_args(arguments)
    return run(lambda: print(remake(options.run, options.data)))


if __name__ == "__main__":
    sys.exit(main())
