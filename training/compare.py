"""Runs side by side: `python -m training.compare RUN RUN ... [--html FILE] [--csv FILE]`.

RUN is the folder of a run (with evaluation.json) or such a file. Every pair is tested on the cells
that both judged: McNemar's exact test of who is right, and the difference of accuracy with Newcombe's
interval for paired proportions (Statistics in Medicine 1998, method 10). No p value is adjusted for
the number of pairs.
"""

import argparse
import csv
import json
import math
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from edge.errors import UserError
from edge.startup import Parser, run
from edge.whole import named
from training import metrics, page

Key = tuple[str, str, int]
"""One cell: its file, its true class, and which cell of that class in that file."""

_Z95 = 1.959963984540054

_FIGURES = (
    ("accuracy", "accuracy"),
    ("macro_f1", "macro F1"),
    ("balanced_accuracy", "balanced accuracy"),
    ("ece", "calibration error (ECE)"),
)


@dataclass(frozen=True, slots=True)
class Run:
    """One evaluated model."""

    name: str
    figures: Mapping[str, Any]
    """The content of its evaluation.json."""
    right: Mapping[Key, bool]
    """Whether each of its cells is named rightly."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two runs on the cells that both judged."""

    first: str
    second: str
    cells: int
    """Judged by both."""
    apart: int
    """Judged by one of them alone, and left out."""
    only_first: int
    """Cells that the first alone has right."""
    only_second: int
    p: float
    """Of McNemar's exact two-sided test."""
    difference: float
    """Accuracy of the first less that of the second, -1..1."""
    limits: tuple[float, float]
    """Its 95 % interval."""
    unlike: tuple[str, ...] = ()
    """In plain words, why the two may not have done the same task."""


def cell_keys(cells: Iterable[tuple[str, str]]) -> list[Key]:
    """Return the key of each cell, given (file, class), in their order."""
    seen: Counter[tuple[str, str]] = Counter()
    keys = []
    for file, name in cells:
        keys.append((file, name, seen[file, name]))
        seen[file, name] += 1
    return keys


def read_evaluation(path: Path) -> dict[str, Any]:
    """Return the figures of a run folder, or of an evaluation file.

    Raises:
        UserError: there are none, or they lack what every evaluation has.
    """
    file = path / "evaluation.json" if path.is_dir() else path
    try:
        figures = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            f"{file}: {error.strerror}; name the --output of a training.train that has ended, or the --json "
            "of training.evaluate"
        ) from None
    except ValueError as error:
        raise UserError(f"{file}: not JSON ({error}); evaluate the model again") from None
    try:
        _check_keys(file, "", figures, ("accuracy", "classes", "confusion", "per_class", "predictions"))
        _check_keys(file, "", figures, ("ece",) if "reliability" in figures else ())
        size = len(figures["classes"])
        if not isinstance(figures["accuracy"], int | float):
            raise ValueError("accuracy is no number")
        if not isinstance(figures.get("intervals", {}), dict):
            raise ValueError("intervals are none")
        if np.array(figures["confusion"]).shape != (size, size):
            raise ValueError(f"confusion is no table of {size} classes")
        for number, cell in enumerate(figures["predictions"], 1):
            _check_keys(file, f"prediction {number}: ", cell, ("file", "class", "predicted"))
        for name, of_class in figures["per_class"].items():
            _check_keys(file, f"per_class, {name}: ", of_class, ("precision", "sensitivity", "f1", "support"))
    except (TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{file}: not an evaluation ({error}); evaluate the model again") from None
    found: dict[str, Any] = figures
    return found


def _check_keys(file: Path, place: str, part: Any, keys: Sequence[str]) -> None:
    missing = [key for key in keys if not isinstance(part, dict) or key not in part]
    if missing:
        raise UserError(f"{file}: {place}{', '.join(missing)} missing; evaluate the model again")


def read_runs(paths: Sequence[Path]) -> list[Run]:
    """Return the runs, named by their folder or file, or by the whole path where names repeat."""
    names = [p.resolve().name if p.is_dir() else p.stem for p in paths]
    if len(set(names)) < len(names):
        names = [str(p) for p in paths]
    return [_run(name, read_evaluation(path)) for name, path in zip(names, paths, strict=True)]


def _run(name: str, figures: Mapping[str, Any]) -> Run:
    cells = figures["predictions"]
    keys = cell_keys((c["file"], c["class"]) for c in cells)
    right = {k: c["class"] == c["predicted"] for k, c in zip(keys, cells, strict=True)}
    return Run(name, figures, right)


def compare(first: Run, second: Run) -> Pair:
    """Return the test of two runs on the cells that both judged.

    Raises:
        UserError: there is no such cell.
    """
    common = sorted(first.right.keys() & second.right.keys())
    if not common:
        raise UserError(
            f"{first.name} and {second.name} have no cell in common; evaluate both on the same split"
        )
    a, b = (np.array([run.right[k] for k in common]) for run in (first, second))
    only_first, only_second, p = metrics.mcnemar(a, b)
    both = int((a & b).sum())
    return Pair(
        first.name,
        second.name,
        len(common),
        len(first.right.keys() ^ second.right.keys()),
        only_first,
        only_second,
        p,
        (only_first - only_second) / len(common),
        paired_interval(both, only_first, only_second, len(common) - both - only_first - only_second),
        _unlike(first, second),
    )


def _unlike(first: Run, second: Run) -> tuple[str, ...]:
    """Return what differs in what two runs were asked: their images are known by their names alone."""
    said = []
    images = [run.figures.get("images") for run in (first, second)]
    if all(images) and images[0] != images[1]:
        said.append(
            f"images of {images[0]} and of {images[1]}, taken for the same where name and class agree"
        )
    classes = [run.figures["classes"] for run in (first, second)]
    if set(classes[0]) != set(classes[1]):
        said.append(f"a choice of {len(classes[0])} and of {len(classes[1])} classes")
    return tuple(said)


def paired_interval(both: int, only_first: int, only_second: int, neither: int) -> tuple[float, float]:
    """Return the 95 % interval of the difference of two paired shares (Newcombe 1998, method 10).

    Args:
        both: cells that both have right.
        only_first: cells that the first alone has right.
        only_second: cells that the second alone has right.
        neither: cells that neither has right.
    """
    total = both + only_first + only_second + neither
    p, q = (both + only_first) / total, (both + only_second) / total
    (low_p, high_p), (low_q, high_q) = _wilson(p, total), _wilson(q, total)
    phi = _correlation(both, only_first, only_second, neither)
    down, up = _reach(p - low_p, high_q - q, phi), _reach(high_p - p, q - low_q, phi)
    return p - q - down, p - q + up


def _reach(a: float, b: float, phi: float) -> float:
    return math.sqrt(max(0.0, a * a - 2 * phi * a * b + b * b))


def _wilson(share: float, total: int) -> tuple[float, float]:
    middle = share + _Z95**2 / (2 * total)
    half = _Z95 * math.sqrt(share * (1 - share) / total + _Z95**2 / (4 * total**2))
    scale = 1 + _Z95**2 / total
    return (middle - half) / scale, (middle + half) / scale


def _correlation(both: int, only_first: int, only_second: int, neither: int) -> float:
    """Return phi of the two-by-two table with Newcombe's correction for continuity."""
    total = both + only_first + only_second + neither
    margins = (both + only_first) * (both + only_second) * (only_second + neither) * (only_first + neither)
    if not margins:
        return 0.0
    raw = both * neither - only_first * only_second
    corrected = max(raw - total / 2, 0.0) if raw > 0 else raw
    return float(corrected / math.sqrt(margins))


def figure_rows(runs: Sequence[Run]) -> list[list[str]]:
    """Return the figures, a row each, a column for each run: percent, with intervals where known."""
    rows = [["cells", *(str(len(run.right)) for run in runs)]]
    for key, words in _FIGURES:
        rows.append([f"{words} %", *(page.percent(run.figures.get(key)) for run in runs)])
        limits = [run.figures.get("intervals", {}).get(key) for run in runs]
        if any(limits):
            rows.append(["  95 % interval", *(page.interval(pair) for pair in limits)])
    for name in dict.fromkeys(name for one in runs for name in one.figures["classes"]):
        values = [run.figures["per_class"].get(name, {}).get("f1") for run in runs]
        rows.append([f"F1 {name} %", *(page.percent(v) for v in values)])
    return rows


PAIR_HEADER = ("pair", "cells", "difference %", "95 % interval", "only first right", "only second right", "p")


def pair_rows(pairs: Sequence[Pair]) -> list[list[str]]:
    """Return a row for each pair, under `PAIR_HEADER`."""
    return [
        [
            f"{pair.first} - {pair.second}",
            str(pair.cells),
            f"{100 * pair.difference:+.2f}",
            f"{100 * pair.limits[0]:+.2f} to {100 * pair.limits[1]:+.2f}",
            str(pair.only_first),
            str(pair.only_second),
            f"{pair.p:.4f}" if pair.p >= 1e-4 else f"{pair.p:.1e}",
        ]
        for pair in pairs
    ]


def remarks(pairs: Sequence[Pair]) -> list[str]:
    """Return what a reader of the pairs must know."""
    said = [
        f"{p.first} and {p.second} judged different cells: {p.apart} that only one of them judged are left "
        f"out of their test, {p.cells} are in it."
        for p in pairs
        if p.apart
    ]
    said += [f"Caution: {p.first} and {p.second} judged {' and '.join(p.unlike)}." for p in pairs if p.unlike]
    method = "Difference: accuracy of the first less the second, with Newcombe's paired interval (method 10);"
    several = f" {len(pairs)} pairs, p is not adjusted for their number." if len(pairs) > 1 else ""
    return [*said, f"{method} p: McNemar's exact test, two-sided.{several}"]


def as_text(runs: Sequence[Run], pairs: Sequence[Pair]) -> str:
    """Return both tables in columns, with the remarks."""
    figures = _columns([["", *(run.name for run in runs)], *figure_rows(runs)])
    tests = _columns([list(PAIR_HEADER), *pair_rows(pairs)])
    return "\n".join([figures, "", tests, "", *remarks(pairs)])


def write_html(file: Path, runs: Sequence[Run], pairs: Sequence[Pair]) -> None:
    """Write both tables as a page of their own; raises UserError where that cannot be done."""
    figures = page.table(["", *(run.name for run in runs)], figure_rows(runs))
    tests = page.table(PAIR_HEADER, pair_rows(pairs))
    notes = [page.paragraph(text) for text in remarks(pairs)]
    parts = [page.section("Figures", figures), page.section("Pairs", tests, *notes)]
    page.write(file, "White-blood-cell classifiers side by side", parts)


def write_csv(file: Path, runs: Sequence[Run], pairs: Sequence[Pair]) -> None:
    """Write one figure a line; shares are 0..1, `against` is the second run of a pair.

    Raises:
        OSError: the file cannot be written.
    """
    with named(file) as part, part.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["figure", "run", "against", "value", "low", "high", "p", "cells"])
        for run in runs:
            for key, _ in _FIGURES:
                limits = run.figures.get("intervals", {}).get(key) or ("", "")
                writer.writerow([key, run.name, "", run.figures.get(key, ""), *limits, "", len(run.right)])
            for name, f in run.figures["per_class"].items():
                writer.writerow([f"f1 {name}", run.name, "", f["f1"], "", "", "", f["support"]])
        for p in pairs:
            writer.writerow(["difference", p.first, p.second, p.difference, *p.limits, p.p, p.cells])


def _columns(rows: Sequence[Sequence[str]]) -> str:
    wide = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join([row[0].ljust(wide[0]), *(v.rjust(w) for v, w in zip(row[1:], wide[1:], strict=True))])
        for row in rows
    )


def _compare(options: argparse.Namespace) -> None:
    if len(options.runs) < 2:
        raise UserError("two runs or more are compared; name another one")
    runs = read_runs(options.runs)
    pairs = [compare(a, b) for a, b in combinations(runs, 2)]
    print(as_text(runs, pairs))
    if options.html:
        write_html(options.html, runs, pairs)
    if options.csv:
        try:
            write_csv(options.csv, runs, pairs)
        except OSError as error:
            raise UserError(f"{options.csv}: {error.strerror}; name another file") from None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    parser = Parser(prog="python -m training.compare", description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run folder or evaluation file")
    parser.add_argument("--html", type=Path, help="write the tables as a page")
    parser.add_argument("--csv", type=Path, help="write the figures, one a line")
    options = parser.parse_args(arguments)
    return run(lambda: _compare(options))


if __name__ == "__main__":
    sys.exit(main())
