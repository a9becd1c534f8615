"""Tables 1 and 3 of the study: its own figures, and rows of the same layout for a run of ours.

Katar et al., Automatic classification of white blood cells using pre-trained deep models, Sakarya
University Journal of Computer and Information Sciences: 10 % test split of Raabin-WBC, drawn at random.
"""

from collections.abc import Mapping
from typing import Any

from training import data

SOURCE = (
    "Katar et al., Sakarya University Journal of Computer and Information Sciences, Table 3: their 10 % test "
    "split of Raabin-WBC, drawn at random over all blood films. Figures on other cells, or on films kept "
    "apart, do not compare with them directly."
)

TABLE_1 = {
    "LISC": (54, 42, 59, 55, 56),
    "BCCD": (3, 86, 33, 19, 208),
    "MISP": (0, 42, 36, 33, 38),
    "ALL-IDB": (1, 2, 60, 3, 18),
    "Zheng et al.": (1, 22, 53, 48, 176),
    "Raabin-WBC": (301, 1066, 3609, 795, 10862),
}
"""Images of the data sets that it lists, in the order of `training.data.STUDY_CLASSES`."""

_P_S_F1 = tuple[float, float, float]

STUDY: dict[str, tuple[float, tuple[_P_S_F1, _P_S_F1, _P_S_F1, _P_S_F1, _P_S_F1]]] = {
    "ResNet-50": (
        98.79,
        (
            (100, 100, 100),
            (100, 96.26, 98.09),
            (97.78, 97.78, 97.78),
            (91.46, 93.75, 92.59),
            (99.54, 99.72, 99.62),
        ),
    ),
    "VGG-19": (
        98.19,
        (
            (96.55, 93.33, 94.91),
            (97.19, 97.19, 97.19),
            (96.95, 96.95, 96.95),
            (86.51, 96.25, 91.12),
            (99.72, 98.98, 99.34),
        ),
    ),
    "MobileNet-V3-Small": (
        98.86,
        (
            (100, 100, 100),
            (100, 93.45, 96.61),
            (98.61, 98.33, 98.46),
            (92.85, 97.50, 95.11),
            (99.26, 99.63, 99.44),
        ),
    ),
}
"""Model -> accuracy, then precision, sensitivity and F1 of `data.STUDY_CLASSES`, all in percent."""

MEASURES = ("precision", "sensitivity", "f1")


def comparable(evaluation: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the part of an evaluation that is of the study's five classes, no fewer and no more, if any."""
    if set(evaluation["classes"]) == set(data.STUDY_CLASSES):
        return evaluation
    five: Mapping[str, Any] | None = evaluation.get("five")
    return five


def table(name: str, evaluation: Mapping[str, Any]) -> tuple[list[str], list[list[float | str | None]]]:
    """Return header and rows of Table 3 in percent: the run, then the study where it is comparable.

    Args:
        name: of the run.
        evaluation: its accuracy, classes and per_class.
    """
    five = comparable(evaluation)
    judged = evaluation if five is None else five
    classes = list(evaluation["classes"]) if five is None else list(data.STUDY_CLASSES)
    own = [judged["per_class"][c][m] for c in classes for m in MEASURES]
    header = ["model", "accuracy", *(f"{c} {m}" for c in classes for m in MEASURES)]
    rows: list[list[float | str | None]] = [[name, *(_percent(v) for v in [judged["accuracy"], *own])]]
    if five is not None:
        rows += [[f"study: {m}", a, *(v for c in of_class for v in c)] for m, (a, of_class) in STUDY.items()]
    return header, rows


def _percent(share: float | None) -> float | None:
    return None if share is None else round(100 * share, 2)
