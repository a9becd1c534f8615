from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.cells import Box
from edge.errors import UserError
from edge.strangeness import Familiar
from training import data, head

RNG = np.random.default_rng(1)
KERNEL, BIAS = RNG.normal(0, 2, (3, 64)), RNG.normal(0, 2, 64)


def features(crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return random functions of colour, over all places."""
    return np.asarray(np.maximum((crops / 64 - 2) @ KERNEL + BIAS, 0).mean(axis=(1, 2)), np.float32)


@pytest.fixture
def body() -> head.Body:
    """A network with a head that knows nothing."""
    ends = [(RNG.normal(0, 0.3, (64, n)).astype(np.float32), np.zeros(n, np.float32)) for n in (8, 32)]
    familiar = Familiar(RNG.normal(0, 1, (8, 32)).astype(np.float32), 1.0)
    return head.Body(tuple(c.name for c in data.CLASSES), 64, features, *ends, familiar)


def site(made_data: Path) -> list[data.Sample]:
    """Four cells of each class."""
    return [s for s in data.load(made_data) if s.path.stem in "0123"]


def test_a_temperature_is_not_chosen_by_the_cells_that_it_is_judged_on() -> None:
    """In the first part the sure answers are wrong: by itself it would be cooled down."""
    truth = np.array([0] * 8, np.int64)
    said = np.array([[0.01, 0.99]] * 4 + [[0.99, 0.01]] * 4, np.float32)
    parts = [np.arange(4), np.arange(4, 8)]
    home = np.array([[0.99, 0.01]], np.float32), np.array([0], np.int64)
    cooled = head._cross_cool(said, truth, home, parts)
    assert cooled[0, 1] > 0.99
    assert cooled[4, 0] < 0.9


def test_the_head_learns_a_new_site(body: head.Body, made_data: Path) -> None:
    home = head.see_home(body, data.load(made_data))
    fitted, figures = head.fit(body, site(made_data), home)
    assert figures["site"]["cells"] == 32
    assert figures["site"]["after"]["accuracy"] > figures["site"]["before"]["accuracy"] + 0.2
    assert fitted.degree != 1
    sure = head._cooled(head._answer(fitted.head, home.judged), 1.0).max(axis=1)
    assert fitted.review_below == pytest.approx(np.quantile(sure, 0.05), abs=2e-3)
    assert head.accuracy(fitted.head, home.judged) == figures["home"]["after"]["accuracy"]
    assert fitted.seen.shape == (32 * 9, 64)
    assert head.why_worse(figures) is None
    assert len(fitted.familiar.means) == 16
    assert fitted.familiar.limit >= body.familiar.limit


@pytest.mark.parametrize(
    ("site_after", "home_after", "reason"),
    [
        ((0.9, 0.1), (0.99, 0.02), None),
        ((0.7, 0.1), (0.99, 0.01), "site's cells 80.0 % were right, now 70.0 %"),
        ((0.9, 0.1), (0.98, 0.01), "first training 99.0 %"),
        ((0.9, 0.2), (0.99, 0.01), "site's cells the confidences were wrong by 10.0 %, now 20.0 %"),
        ((0.9, 0.1), (0.99, 0.04), "first training the confidences were wrong by 1.0 %, now 4.0 %"),
    ],
)
def test_a_worse_model_is_told_with_figures(
    site_after: tuple[float, float], home_after: tuple[float, float], reason: str | None
) -> None:
    before = {"site": (0.8, 0.1), "home": (0.99, 0.01)}
    after = {"site": site_after, "home": home_after}
    figures = {
        key: {
            when: dict(zip(("accuracy", "ece"), pair[key], strict=True))
            for when, pair in (("before", before), ("after", after))
        }
        for key in before
    }
    told = head.why_worse(figures)
    assert told is None if reason is None else reason in str(told)


def test_a_cell_that_comes_twice_counts_once_and_has_one_label(body: head.Body, made_data: Path) -> None:
    samples = site(made_data)
    copy = replace(samples[0], file="copy.png")
    assert head.check_site(body, [*samples, copy]) == samples
    with pytest.raises(UserError, match=r"0\.png \(basophil\) and copy\.png \(monocyte\) show one cell"):
        head.check_site(body, [*samples, replace(copy, name="monocyte")])


def test_too_few_cells_and_unknown_classes_are_told(body: head.Body, made_data: Path) -> None:
    samples = site(made_data)
    with pytest.raises(UserError, match="10 labelled cells of 3 classes; give 20"):
        head.check_site(body, samples[:10])
    with pytest.raises(UserError, match="no output for blast"):
        head.check_site(body, [replace(samples[0], name="blast"), *samples])


def test_a_cell_outside_its_image_is_told(body: head.Body, made_data: Path) -> None:
    samples = site(made_data)
    samples[0] = replace(samples[0], box=Box(10, 10, 0, 0))
    with pytest.raises(UserError, match=r"boxes of no size or outside the image: basophil/0\.png"):
        head.check_site(body, samples)
