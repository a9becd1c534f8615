"""How many leukocytes the locator finds in whole fields: `python -m benchmarks.locator`.

Beside it, in the same run, stands the plainest alternative: the largest connected areas of an Otsu
threshold on saturation, the usual first step of classical WBC segmentation.
"""

import argparse
import csv
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from edge.cells import Box, Image
from edge.errors import UserError
from edge.localise import Locator
from training.data import read_image

Fields = dict[str, dict[str, list[Box]]]


def read_fields(data: Path, split: str) -> Fields:
    """Return the labelled leukocytes of a split: {source: {file: boxes}}."""
    fields: Fields = defaultdict(lambda: defaultdict(list))
    table = data / "fields.csv"
    if not table.is_file():
        raise UserError(f"{table}: not there; --data names the folder that holds fields.csv")
    with table.open(newline="") as file:
        for row in csv.DictReader(file):
            if row["split"] == split:
                boxes = fields[row["source"]][row["file"]]
                if row["object"] == "leukocyte":
                    boxes.append(Box(*(float(row[key]) for key in ("x", "y", "w", "h"))))
    return fields


def overlap(a: Box, b: Box) -> float:
    """Return intersection over union, 0..1."""
    width = min(a.x + a.width, b.x + b.width) - max(a.x, b.x)
    height = min(a.y + a.height, b.y + b.height) - max(a.y, b.y)
    common = max(width, 0) * max(height, 0)
    return common / (a.width * a.height + b.width * b.height - common)


def ours(image: Image) -> list[Box]:
    """The instrument's locator, which knows no other frame."""
    return [found.box for found in Locator().locate(image)]


def saturation(image: Image) -> list[Box]:
    """Otsu's threshold on saturation; areas of at least 1 % of the picture."""
    grey = cv2.GaussianBlur(cv2.cvtColor(image, cv2.COLOR_RGB2HSV)[..., 1], (0, 0), 2)
    _, mask = cv2.threshold(grey, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    _, _, stats, _ = cv2.connectedComponentsWithStats(mask)
    least = 0.01 * grey.size
    return [Box(float(x), float(y), float(w), float(h)) for x, y, w, h, area in stats[1:] if area >= least]


def measure(fields: dict[str, list[Box]], data: Path, locate: Callable[[Image], list[Box]]) -> list[float]:
    """Return recall and precision at IoU 0.5, and recall at IoU 0.3, each 0..1."""
    labelled = located = right = 0
    near = 0
    for file, cells in fields.items():
        boxes = locate(read_image(data / "fields" / file))
        best = [max((overlap(cell, box) for box in boxes), default=0.0) for cell in cells]
        labelled, located = labelled + len(cells), located + len(boxes)
        right += sum(value >= 0.5 for value in best)
        near += sum(value >= 0.3 for value in best)
    return [right / labelled, right / max(located, 1), near / labelled]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.locator", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with fields.csv")
    parser.add_argument("--split", default="validation")
    options = parser.parse_args(arguments)
    try:
        fields = read_fields(options.data, options.split)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(
        f"{'source':8}{'locator':12}{'fields':>7}{'cells':>7}{'recall':>8}{'precision':>11}{'at IoU 0.3':>15}"
    )
    misses: dict[str, list[float]] = defaultdict(list)
    for source, files in fields.items():
        for locate in (ours, saturation):
            figures = measure(files, options.data, locate)
            misses[locate.__name__].append(1 - figures[0])
            cells = sum(len(boxes) for boxes in files.values())
            shares = "".join(f"{100 * f:{w}.1f}" for f, w in zip(figures, (8, 11, 15), strict=True))
            print(f"{source:8}{locate.__name__:12}{len(files):7}{cells:7}{shares}", flush=True)
    ratio = np.mean(misses["saturation"]) / max(float(np.mean(misses["ours"])), 1e-9)
    print(f"the saturation threshold misses {ratio:.1f} times as many cells (mean over sources)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
