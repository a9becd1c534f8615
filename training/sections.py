"""The parts of a run's page: its figures in words and tables, beside the pictures of them."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from training import page, study
from training.page import Html
from training.pictures import mistakes

Drawn = Mapping[str, tuple[bytes, str]]
"""Figure name -> file content and kind ("png" or "svg+xml")."""

_FIGURES = (
    ("accuracy", "accuracy"),
    ("balanced_accuracy", "balanced accuracy (mean sensitivity)"),
    ("macro_f1", "macro F1 (mean over the classes)"),
    ("ece", "expected calibration error (ECE)"),
    ("accuracy_after_review", "accuracy of the rest where 5 % go to review"),
)

_GALLERIES = (
    ("cells", "Sample cells", "Cells of each class as the network sees them, spread evenly over the list."),
    (
        "grad_cam",
        "What the network looks at",
        "The lighter, the more the place speaks for the class, on rightly named cells: Grad-CAM (Selvaraju "
        "et al. 2017) of a Keras model; of an integer file the maps that it draws itself. The number is the "
        "confidence.",
    ),
)
_MISTAKES = (
    "Wrong answers, the surest first: true class, predicted class, confidence; what speaks for the wrong "
    "answer where the model can tell. Their files, in the same order, stand below."
)


def parts(
    name: str,
    evaluation: Mapping[str, Any],
    recipe: Mapping[str, Any],
    split: tuple[Sequence[str], Sequence[Sequence[int | str]]] | None,
    drawn: Drawn,
) -> list[Html]:
    """Return the sections of the page in their order; what the run does not have is left out.

    Args:
        name: of the run.
        evaluation: the content of its evaluation.json.
        recipe: the content of its recipe.json, empty if there is none.
        split: header and rows of the table of images, None if it is not known.
        drawn: the figures to show.
    """
    found = [
        _summary(evaluation),
        _recipe(recipe),
        _split(split, drawn),
        _figure("Training", "curves", "Loss and accuracy against the epoch", drawn),
        _table3(name, evaluation),
        _confusion(evaluation, drawn),
        _figure("Calibration", "reliability", "Reliability diagram: accuracy against confidence", drawn),
        _figure("Review", "review_curve", "Accuracy of the rest against the share sent to review", drawn),
        _figure("Robustness", "robustness", "Accuracy against the level of each fault", drawn),
        *(_figure(heading, key, heading, drawn, text) for key, heading, text in _GALLERIES),
        _mistakes(evaluation, drawn),
    ]
    return [section for section in found if section is not None]


def _summary(evaluation: Mapping[str, Any]) -> Html:
    intervals = evaluation.get("intervals", {})
    rows = [
        [words, f"{page.percent(evaluation[key])} %", page.interval(intervals.get(key))]
        for key, words in _FIGURES
        if key in evaluation
    ]
    told = [cell["strangeness"] for cell in evaluation["predictions"] if "strangeness" in cell]
    if told:
        strange = sum(value > 1 for value in told) / len(told)
        rows.append(["cells unlike the training (strangeness above 1)", f"{page.percent(strange)} %", "-"])
    number = len(evaluation["predictions"])
    cells = page.paragraph(
        f"{number} cells of {evaluation['images']} were judged by {evaluation['model']}."
        if {"images", "model"} <= evaluation.keys()
        else f"{number} cells were judged."
    )
    return page.section("Figures", cells, page.table(["figure", "value", "95 % interval, %"], rows))


def _recipe(recipe: Mapping[str, Any]) -> Html | None:
    if not recipe:
        return None
    rows = [[k, v if isinstance(v, str) else json.dumps(v, sort_keys=True)] for k, v in recipe.items()]
    return page.section("Recipe", page.table(["setting", "value"], rows, text=True))


def _split(split: tuple[Sequence[str], Sequence[Sequence[int | str]]] | None, drawn: Drawn) -> Html | None:
    if split is None:
        return None
    header, rows = split
    cells = [[str(value) for value in row] for row in rows]
    return page.section(
        "Split", *_image("split", "Images of each split and class", drawn), page.table(header, cells)
    )


def _table3(name: str, evaluation: Mapping[str, Any]) -> Html:
    """Return Table 3 turned on its side, so that it fits a page."""
    if study.comparable(evaluation) is None:
        why = (
            "The study tells five classes apart; its figures stand only beside a run that was judged on the "
            "same five (--classes five). This run's own are under Confusion."
        )
        return page.section("Table 3", page.paragraph(why))
    (_, *titles), rows = study.table(f"this run ({name})", evaluation)
    body = [
        [title.replace("f1", "F1"), *(_text(row[i]) for row in rows)]
        for i, title in enumerate(titles, start=1)
    ]
    table = page.table(["percent", *(str(row[0]) for row in rows)], body)
    heading = "Table 3: among the study's five classes, beside its figures"
    return page.section(heading, table, page.paragraph(f"Study: {study.SOURCE}"))


def _mistakes(evaluation: Mapping[str, Any], drawn: Drawn) -> Html | None:
    if "mistakes" not in drawn:
        return None
    rows = [
        [c["file"], *(c[k].replace("_", " ") for k in ("class", "predicted")), page.percent(c["confidence"])]
        for _, c in mistakes(evaluation)
    ]
    table = page.table(["file", "true class", "predicted", "confidence %"], rows, text=True)
    heading = "Worst mistakes"
    return page.section(heading, page.paragraph(_MISTAKES), *_image("mistakes", heading, drawn), table)


def _text(value: float | str | None) -> str:
    return value if isinstance(value, str) else page.percent(None if value is None else value / 100)


def _confusion(evaluation: Mapping[str, Any], drawn: Drawn) -> Html:
    rows = [
        [name.replace("_", " "), *(page.percent(f[m]) for m in study.MEASURES), str(f["support"])]
        for name, f in evaluation["per_class"].items()
    ]
    matrix = _image("confusion", "Confusion matrix: a row for each true class", drawn)
    table = page.table(["class", "precision %", "sensitivity %", "F1 %", "cells"], rows)
    return page.section("Confusion", *matrix, table)


def _figure(heading: str, key: str, alternative: str, drawn: Drawn, text: str = "") -> Html | None:
    if key not in drawn:
        return None
    words = [page.paragraph(text)] if text else []
    return page.section(heading, *words, *_image(key, alternative, drawn))


def _image(key: str, alternative: str, drawn: Drawn) -> list[Html]:
    return [page.image(*drawn[key], alternative)] if key in drawn else []
