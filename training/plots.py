"""Figures of a run, nothing computed: numbers and pictures in, matplotlib figures out.

Text is sized for a figure that is shown at the width of a page. The colours are those of Okabe and
Ito (2008), which hold for every kind of colour vision; lines differ in dash or marker too.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from edge.cells import Image

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#767676"
_SHARES = (
    (BLUE, "white"),
    ("#E69F00", "black"),
    (GREEN, "black"),
    ("#CC79A7", "black"),
    ("#56B4E9", "black"),
    (GREY, "white"),
)
"""Colour of a part, and of the number on it."""
_WIDTH = 7.0
"""Inches: the text width of a page."""


def curves(history: Mapping[str, Sequence[float]]) -> Figure:
    """Return loss and accuracy against the epoch, training and validation.

    Args:
        history: columns epoch (from 0), loss, accuracy (0..1), val_loss, val_accuracy.
    """
    figure, (left, right) = _panels(1, 2, height=3.2)
    epochs = [int(e) + 1 for e in history["epoch"]]
    _pair(left, epochs, history["loss"], history["val_loss"])
    _pair(right, epochs, _percent(history["accuracy"]), _percent(history["val_accuracy"]))
    best = max(range(len(epochs)), key=lambda i: history["val_accuracy"][i])
    for axes in (left, right):
        axes.axvline(epochs[best], color=GREY, linestyle=":", label=f"best validation: epoch {epochs[best]}")
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    left.set(ylabel="loss (cross-entropy)", title="Loss")
    right.set(ylabel="accuracy (%)", title="Accuracy")
    right.legend(loc="best", fontsize=8)
    return figure


def confusion(matrix: Sequence[Sequence[int]], names: Sequence[str]) -> Figure:
    """Return the confusion matrix: counts as text, the share of the true class as colour."""
    figure, (axes,) = _panels(1, 1, height=1.6 + 0.62 * len(names))
    shares = [[100 * n / max(1, sum(row)) for n in row] for row in matrix]
    drawn = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    for y, row in enumerate(matrix):
        for x, count in enumerate(row):
            colour = "white" if shares[y][x] > 55 else ("black" if count else GREY)
            axes.text(x, y, str(count), ha="center", va="center", color=colour, fontsize=10)
    labels = [_words(n) for n in names]
    axes.set_xticks(range(len(names)), labels, rotation=35, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(names)), labels)
    axes.set(xlabel="predicted class", ylabel="true class", title="Confusion matrix (cells)")
    figure.colorbar(drawn, ax=axes, label="share of the true class (%)", shrink=0.85)
    return figure


def split_diagram(counts: Mapping[str, Mapping[str, int]]) -> Figure:
    """Return how the images of each class, and all, are shared between the splits.

    Args:
        counts: split -> class -> number of images.
    """
    names = list(dict.fromkeys(name for of_class in counts.values() for name in of_class))
    rows = {"all classes": {split: sum(c.values()) for split, c in counts.items()}}
    rows |= {name: {split: c.get(name, 0) for split, c in counts.items()} for name in names}
    figure, (axes,) = _panels(1, 1, height=1.3 + 0.4 * len(rows))
    for y, row in enumerate(rows.values()):
        _stack(axes, y, list(row.values()))
    axes.set_yticks(range(len(rows)), [f"{_words(n)} ({sum(r.values())})" for n, r in rows.items()])
    axes.invert_yaxis()
    axes.set(xlim=(0, 100), xlabel="share of the images (%); numbers are images")
    handles = [axes.patches[i] for i in range(len(counts))]
    figure.legend(handles, [_words(s) for s in counts], loc="outside upper center", ncols=4, fontsize=8)
    return figure


def cells(crops: Mapping[str, Sequence[Image]]) -> Figure:
    """Return sample cells: a row for each class, its crops from left to right."""
    across = max(len(row) for row in crops.values())
    figure, panels = _panels(len(crops), across, height=_WIDTH / (across + 1) * len(crops))
    for y, (name, row) in enumerate(crops.items()):
        for x in range(across):
            axes = panels[y * across + x]
            _show(axes, row[x] if x < len(row) else None)
        first = panels[y * across]
        first.text(-0.08, 0.5, _words(name), ha="right", va="center", fontsize=9, transform=first.transAxes)
    return figure


def heat_map_grid(
    crops: Sequence[Image], overlays: Sequence[Image | None], captions: Sequence[str], pairs: int = 3
) -> Figure:
    """Return crops, each with its heat map at its right (where there is one) and its caption above.

    Args:
        crops: RGB.
        overlays: the same crops with the heat laid over them; None leaves the place out.
        captions: one for each crop.
        pairs: crops in a row.
    """
    wide = 2 if any(o is not None for o in overlays) else 1
    rows, across = math.ceil(len(crops) / pairs), wide * pairs
    figure, panels = _panels(rows, across, height=rows * (_WIDTH / across + 0.42))
    for axes in panels:
        _show(axes, None)
    for i, (crop, heat, caption) in enumerate(zip(crops, overlays, captions, strict=True)):
        left = panels[i * wide]
        _show(left, crop)
        left.set_title(caption, fontsize=7.5, loc="left", pad=3)
        if heat is not None:
            _show(panels[i * wide + 1], heat)
    return figure


def reliability(bars: Sequence[Mapping[str, float]], error: float) -> Figure:
    """Return the reliability diagram: accuracy against confidence, and how many cells lie where.

    Args:
        bars: confidence (mean, 0..1), accuracy (0..1) and cells of each bin.
        error: the expected calibration error, 0..1.
    """
    figure, (upper, lower) = _panels(2, 1, height=4.6, width=5.0, height_ratios=(3, 1), sharex=True)
    confidence = _percent([b["confidence"] for b in bars])
    upper.plot([0, 100], [0, 100], color=GREY, linestyle="--", label="perfectly calibrated")
    accuracy = _percent([b["accuracy"] for b in bars])
    upper.plot(confidence, accuracy, color=BLUE, marker="o", linestyle="", label="cells of like confidence")
    upper.set(ylabel="accuracy (%)", xlim=(0, 101), ylim=(0, 101))
    upper.set_title(f"Reliability (expected calibration error {100 * error:.2f} %)")
    upper.legend(loc="upper left", fontsize=8)
    lower.bar(confidence, [b["cells"] for b in bars], width=3, color=BLUE)
    lower.set(xlabel="confidence (%)", ylabel="cells", yscale="log", ylim=(0.5, None))
    return figure


def review_curve(points: Sequence[Sequence[float]]) -> Figure:
    """Return the accuracy of what the program keeps against the share that a person reviews.

    Args:
        points: (share, accuracy), both 0..1.
    """
    figure, (axes,) = _panels(1, 1, height=3.2, width=5.0)
    shown = [p for p in points if p[0] <= 0.5]
    axes.plot(_percent([p[0] for p in shown]), _percent([p[1] for p in shown]), color=BLUE)
    axes.set(xlabel="cells sent to review, most doubtful first (%)", ylabel="accuracy of the rest (%)")
    axes.set(title="Accuracy against review rate", xlim=(0, 50))
    axes.ticklabel_format(useOffset=False)
    return figure


def robustness(
    curves: Mapping[str, Sequence[Mapping[str, float]]], units: Mapping[str, str] | None = None
) -> Figure:
    """Return accuracy against the level of each fault, a panel for each kind.

    Args:
        curves: kind -> points with level and accuracy (0..1).
        units: kind -> what its level measures; "level" where it is missing.
    """
    across = min(3, len(curves))
    rows = math.ceil(len(curves) / across)
    figure, panels = _panels(rows, across, height=2.2 * rows + 0.3, sharey=True)
    for axes, (kind, points) in zip(panels, curves.items(), strict=False):
        places = range(len(points))
        axes.plot(places, _percent([p["accuracy"] for p in points]), color=BLUE, marker="o", markersize=4)
        axes.set_xticks(places, [f"{p['level']:g}" for p in points])
        axes.set_title(_words(kind), fontsize=10)
        axes.set_xlabel((units or {}).get(kind, "level"), fontsize=8)
    for axes in panels[::across]:
        axes.set_ylabel("accuracy (%)")
    for axes in panels[len(curves) :]:
        axes.set_axis_off()
    return figure


def _panels(
    rows: int, across: int, *, height: float, width: float = _WIDTH, **options: Any
) -> tuple[Figure, list[Axes]]:
    """Return a figure of `width` x `height` inches and its panels, row by row."""
    figure = Figure(figsize=(width, height), layout="constrained")
    panels: NDArray[Any] = figure.subplots(rows, across, squeeze=False, **options)
    for axes in panels.flat:
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
    return figure, list(panels.flat)


def _pair(axes: Axes, epochs: Sequence[int], learned: Sequence[float], judged: Sequence[float]) -> None:
    axes.plot(epochs, learned, color=BLUE, marker=".", label="training")
    axes.plot(epochs, judged, color=ORANGE, marker=".", linestyle="--", label="validation")


def _stack(axes: Axes, y: int, numbers: Sequence[int]) -> None:
    """Draw one bar of 100 %; a part too narrow for its number goes without."""
    total, left = max(1, sum(numbers)), 0.0
    for i, number in enumerate(numbers):
        share = 100 * number / total
        colour, ink = _SHARES[i % len(_SHARES)]
        axes.barh(y, share, left=left, height=0.75, color=colour, edgecolor="white")
        if share >= 6:
            axes.text(left + share / 2, y, str(number), ha="center", va="center", fontsize=8, color=ink)
        left += share


def _show(axes: Axes, image: Image | None) -> None:
    axes.set_axis_off()
    if image is not None:
        axes.imshow(image)


def _percent(shares: Sequence[float]) -> list[float]:
    return [100 * s for s in shares]


def _words(name: str) -> str:
    return name.replace("_", " ")
