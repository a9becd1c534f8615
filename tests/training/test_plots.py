import io

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from training import plots

HISTORY = {
    "epoch": [0, 1, 2],
    "loss": [1.0, 0.5, 0.4],
    "accuracy": [0.5, 0.7, 0.9],
    "val_loss": [1.1, 0.6, 0.7],
    "val_accuracy": [0.4, 0.8, 0.75],
}
CURVES = {"blur": [{"level": 0, "accuracy": 0.9}, {"level": 1.5, "accuracy": 0.8}]}
BARS = [{"confidence": 0.4, "accuracy": 0.5, "cells": 3}, {"confidence": 0.9, "accuracy": 0.8, "cells": 40}]


def crop(level: int) -> np.ndarray:
    return np.full((8, 8, 3), level, np.uint8)


def texts(figure: Figure) -> list[str]:
    figure.draw_without_rendering()
    return [t.get_text() for t in figure.findobj(Text) if t.get_text()]


ALL = {
    "curves": lambda: plots.curves(HISTORY),
    "one epoch": lambda: plots.curves({name: column[:1] for name, column in HISTORY.items()}),
    "confusion": lambda: plots.confusion([[3, 1], [0, 0]], ["basophil", "monocyte"]),
    "split": lambda: plots.split_diagram({"train": {"basophil": 70}, "test": {"monocyte": 30}}),
    "cells": lambda: plots.cells({"basophil": [crop(1), crop(2)], "monocyte": [crop(3)]}),
    "heat maps": lambda: plots.heat_map_grid([crop(1)] * 4, [crop(2), None, crop(2), crop(3)], ["a"] * 4),
    "no heat": lambda: plots.heat_map_grid([crop(1)], [None], ["a"]),
    "reliability": lambda: plots.reliability(BARS, 0.0123),
    "review": lambda: plots.review_curve([[0, 0.98], [0.25, 0.99], [0.9, 1.0]]),
    "robustness": lambda: plots.robustness(CURVES),
}


@pytest.mark.parametrize("name", ALL)
def test_every_figure_can_be_saved_at_the_width_of_a_page(name: str) -> None:
    figure = ALL[name]()
    assert 4 <= figure.get_figwidth() <= 7
    for kind in ("png", "svg"):
        with io.BytesIO() as file:
            figure.savefig(file, format=kind)
            assert len(file.getvalue()) > 1000


@pytest.mark.parametrize("name", ["curves", "confusion", "split", "reliability", "review", "robustness"])
def test_every_axis_of_numbers_says_what_it_shows(name: str) -> None:
    figure = ALL[name]()
    for axes in figure.axes:
        named = axes.get_xlabel() or axes.get_ylabel()
        assert named, f"an axis of {name} has no label"


def test_the_best_epoch_is_counted_from_one() -> None:
    figure = plots.curves(HISTORY)
    assert "best validation: epoch 2" in texts(figure)
    training, validation = figure.axes[1].lines[:2]
    assert list(training.get_ydata()) == [50, 70, 90]
    assert list(validation.get_xdata()) == [1, 2, 3]


def test_the_confusion_matrix_shows_counts_and_the_share_of_the_true_class() -> None:
    figure = plots.confusion([[3, 1], [0, 0]], ["immature_granulocyte", "monocyte"])
    assert {"3", "1", "0", "immature granulocyte"} <= set(texts(figure))
    shares = figure.axes[0].images[0].get_array()
    assert shares is not None
    assert shares.tolist() == [[75, 25], [0, 0]]


def test_the_split_diagram_sums_all_classes() -> None:
    figure = plots.split_diagram({"train": {"a": 70, "b": 1}, "test": {"a": 20, "b": 9}})
    assert {"all classes (100)", "a (90)", "b (10)", "71", "29", "train", "test"} <= set(texts(figure))
    assert [round(p.get_width()) for p in figure.axes[0].patches[:2]] == [71, 29]


def test_galleries_show_what_they_are_given() -> None:
    figure = plots.heat_map_grid(
        [crop(1), crop(2)], [crop(3), crop(4)], ["monocyte to\nlymphocyte 0.98", "b"]
    )
    shown = [int(image.get_array()[0, 0, 0]) for axes in figure.axes for image in axes.images]
    assert shown == [1, 3, 2, 4]
    assert "monocyte to\nlymphocyte 0.98" in texts(figure)


def test_robustness_names_kind_level_and_unit() -> None:
    figure = plots.robustness(CURVES, {"blur": "disc, pixels"})
    assert {"blur", "disc, pixels", "1.5", "accuracy (%)"} <= set(texts(figure))
    assert list(figure.axes[0].lines[0].get_ydata()) == [90, 80]
    assert "level" in texts(plots.robustness(CURVES))


def test_the_review_curve_ends_at_one_half() -> None:
    line = plots.review_curve([[0, 0.98], [0.25, 0.99], [0.9, 1.0]]).axes[0].lines[0]
    assert list(line.get_xdata()) == [0, 25]
    assert list(line.get_ydata()) == [98, 99]
