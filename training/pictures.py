"""The cells that a report shows: samples of each class, what the network looked at, its worst mistakes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.cells import Image
from edge.errors import UserError
from training import data, gradcam
from training.compare import cell_keys

_SAMPLES, _RIGHT = 6, 12
"""Sample cells of each class; rightly named cells that are explained, shared evenly between the classes."""
See = Callable[[Sequence[data.Sample]], NDArray[np.uint8]]
"""Yields what the network sees of the samples, RGB, shape (samples, size, size, 3)."""
Explain = Callable[[NDArray[np.uint8], Sequence[str]], NDArray[np.float32] | None]
"""Tells of crops how much each place speaks for the class named, as `training.predict.Predictor.explain`."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One cell with what was said of it."""

    crop: Image
    """RGB."""
    truth: str
    predicted: str
    confidence: float
    """0..1."""
    overlay: Image | None = None
    """The crop under the heat map of the predicted class; None without a model that draws one."""

    @property
    def caption(self) -> str:
        """What the cell is, what it was taken for, and how surely."""
        truth, predicted = self.truth.replace("_", " "), self.predicted.replace("_", " ")
        said = f"{self.confidence:.2f}"
        return (
            f"{truth} {said}" if truth == predicted else f"{truth} \N{RIGHTWARDS ARROW}\n{predicted} {said}"
        )


@dataclass(frozen=True, slots=True)
class Pictures:
    """All pictures of one report."""

    cells: Mapping[str, Sequence[Image]]
    """Class -> sample crops."""
    explained: Sequence[Picture]
    """Rightly named cells of every class."""
    mistakes: Sequence[Picture]
    """The surest of the wrong answers, worst first."""


def gather(
    evaluation: Mapping[str, Any],
    samples: Sequence[data.Sample],
    see: See,
    explain: Explain | None = None,
) -> Pictures:
    """Read the crops that a report shows, and explain them; the same cells for the same evaluation.

    Args:
        evaluation: with classes and predictions.
        samples: where the judged cells are; others among them are passed over.
        see: cuts the crops out of the samples.
        explain: draws heat maps of the answers; None leaves them out.

    Raises:
        UserError: a cell is not among `samples`, or its image cannot be read.
    """
    judged = list(_judged(evaluation))
    rows = [[j for j in judged if j[1]["class"] == name] for name in evaluation["classes"]]
    each = max(1, _RIGHT // len(rows))
    shown = [j for row in rows for j in _spread(row, _SAMPLES)]
    right = [j for row in rows for j in _spread([j for j in row if _is_right(j[1])], each)]
    wrong = mistakes(evaluation)
    drawn = _draw(shown + right + wrong, samples, see)
    crops: dict[str, list[Image]] = {}
    for picture in drawn[: len(shown)]:
        crops.setdefault(picture.truth, []).append(picture.crop)
    asked = drawn[len(shown) :]
    if explain is not None and asked:
        asked = _explained(asked, explain)
    return Pictures(crops, asked[: len(right)], asked[len(right) :])


_MISTAKES = 12
"""Wrong answers, at most, that a report shows."""
_Judged = tuple[tuple[str, str, int], Mapping[str, Any]]
"""Key and prediction of a cell."""


def mistakes(evaluation: Mapping[str, Any]) -> list[_Judged]:
    """Return the wrong answers that a report shows, the surest first."""
    wrong = [j for j in _judged(evaluation) if not _is_right(j[1])]
    return sorted(wrong, key=lambda j: -j[1]["confidence"])[:_MISTAKES]


def _judged(evaluation: Mapping[str, Any]) -> Iterator[_Judged]:
    cells = evaluation["predictions"]
    return zip(cell_keys((c["file"], c["class"]) for c in cells), cells, strict=True)


def _draw(chosen: Sequence[_Judged], samples: Sequence[data.Sample], see: See) -> list[Picture]:
    where = dict(zip(cell_keys((s.file, s.name) for s in samples), samples, strict=True))
    unknown = [key for key, _ in chosen if key not in where]
    if unknown:
        file, name, _ = unknown[0]
        raise UserError(f"{file} ({name}) was evaluated, but the data set does not list it; check --data")
    crops = see([where[key] for key, _ in chosen])
    return [
        Picture(crop, cell["class"], cell["predicted"], float(cell["confidence"]))
        for crop, (_, cell) in zip(crops, chosen, strict=True)
    ]


def _is_right(cell: Mapping[str, Any]) -> bool:
    return bool(cell["class"] == cell["predicted"])


def _spread(row: Sequence[_Judged], number: int) -> list[_Judged]:
    """Return `number` of the row at even distances, neither the best nor the worst of them."""
    if len(row) <= number:
        return list(row)
    return [row[(2 * i + 1) * len(row) // (2 * number)] for i in range(number)]


def _explained(drawn: Sequence[Picture], explain: Explain) -> list[Picture]:
    heats = explain(np.stack([p.crop for p in drawn]), [p.predicted for p in drawn])
    if heats is None:
        return list(drawn)
    return [replace(p, overlay=gradcam.overlay(p.crop, h)) for p, h in zip(drawn, heats, strict=True)]
