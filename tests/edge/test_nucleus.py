import cv2
import numpy as np
import pytest

from edge.cells import CellClass, Image, Probabilities, Role
from edge.nucleus import Nuclei, density, reduced

CLASSES = (
    CellClass("neutrophil", Role.COUNTED),
    CellClass("erythroblast", Role.PER_100),
    CellClass("platelet", Role.REJECTED),
)


def said(*shares: float) -> Probabilities:
    return np.array(shares, np.float32)


SURE, DOUBTED = said(0.98, 0.01, 0.01), said(0.7, 0.28, 0.02)


def picture(nucleus: int, light: int = 220, side: int = 192) -> Image:
    """A cell with a red cell beside it, and a speck of dirt in the corner."""
    crop = np.full((192, 192, 3), light, np.uint8)
    cv2.circle(crop, (30, 60), 40, (200, 150, 160), -1)
    cv2.circle(crop, (96, 96), 60, (190, 170, 200), -1)
    cv2.circle(crop, (96, 96), 34, (80, nucleus, 120), -1)
    cv2.circle(crop, (4, 4), 8, (0, 0, 0), -1)
    return np.asarray(cv2.resize(crop, (side, side), interpolation=cv2.INTER_AREA), np.uint8)


def specimen(densities: list[float]) -> Nuclei:
    nuclei = Nuclei(CLASSES)
    for dark in densities:
        nuclei.note(SURE, 0.5, dark)
    return nuclei


@pytest.mark.parametrize("side", [48, 96, 192, 224])
def test_density_is_that_of_the_nucleus_against_the_background(side: int) -> None:
    assert density(picture(40, side=side)) == pytest.approx(np.log(221 / 41), abs=0.03)
    assert density(picture(120, side=side)) == pytest.approx(np.log(221 / 121), abs=0.03)


def test_a_darker_lamp_does_not_change_the_density() -> None:
    bright = picture(40)
    dim = (bright * 0.6).astype(np.uint8)
    assert density(dim) == pytest.approx(density(bright), abs=0.05)


def test_a_burnt_out_background_tells_nothing() -> None:
    assert np.isnan(density(picture(150, light=255)))


def test_a_reduced_crop_measures_the_same() -> None:
    assert density(reduced(picture(40))) == density(picture(40))


def test_nothing_lacks_a_nucleus_by_a_crop_that_shows_nothing() -> None:
    nuclei = specimen([2.0] * 20)
    assert nuclei.lacks(DOUBTED, 0.5)
    for grey in (0, 40, 255):
        assert not nuclei.lacks(DOUBTED, density(np.full((192, 192, 3), grey, np.uint8)))


def test_what_is_half_as_dark_as_the_sure_cells_has_no_nucleus() -> None:
    nuclei = specimen([2.0, 2.1, 1.9, 2.0, 2.2, 1.8, 2.0, 2.05])
    assert nuclei.lacks(DOUBTED, 1.0)
    assert not nuclei.lacks(DOUBTED, 1.2)


def test_a_cell_that_the_network_is_sure_of_is_left_to_it() -> None:
    assert not specimen([2.0] * 20).lacks(SURE, 0.1)


def test_pale_cells_are_believed_where_the_specimen_scatters() -> None:
    scattered = [2.0, 2.8, 1.4, 2.0, 3.0, 1.1, 2.4, 1.6]
    assert not specimen(scattered).lacks(DOUBTED, 0.7)
    assert specimen(scattered).lacks(DOUBTED, 0.1)


def test_pale_cells_are_believed_where_a_few_of_another_stain_are_sure() -> None:
    two_stains = [2.0 + 0.01 * i for i in range(40)] + [0.8, 0.75, 0.7]
    assert not specimen(two_stains).lacks(DOUBTED, 0.72)
    assert specimen(two_stains).lacks(DOUBTED, 0.65)


def test_a_person_looks_at_what_is_too_pale_though_a_few_such_are_sure() -> None:
    alike = [2.0 + 0.01 * i for i in range(40)]
    assert specimen(alike).doubts(1.1)
    assert not specimen(alike).doubts(1.3)
    assert specimen([*alike, 0.7, 0.7, 0.7]).doubts(0.7)
    two_stains = specimen([*alike, *[0.7, 0.75] * 5])
    assert not two_stains.doubts(0.7)
    assert two_stains.doubts(0.5)


def test_nothing_is_said_before_eight_cells_are_sure() -> None:
    nuclei = specimen([2.0] * 7)
    nuclei.note(DOUBTED, 0.5, 2.0)
    nuclei.note(SURE, 1.1, 2.0)  # strange
    nuclei.note(said(0.01, 0.01, 0.98), 0.5, 2.0)  # a platelet says nothing of nuclei
    nuclei.note(SURE, 0.5, float("nan"))
    nuclei.note(SURE, 0.5, 0.0)
    assert not nuclei.known
    assert not nuclei.lacks(DOUBTED, 0.1)
    assert not nuclei.doubts(0.1)
    nuclei.note(SURE, 0.5, 2.0)
    assert nuclei.known
    assert nuclei.lacks(DOUBTED, 0.1)
    assert nuclei.doubts(0.1)


def test_without_a_nucleus_it_is_what_has_none() -> None:
    told = Nuclei(CLASSES).without(DOUBTED)
    assert told.argmax() == 2
    assert told.sum() == pytest.approx(1)
    # Bayes' rule: 0.02 beside a thousandth of 0.98.
    assert told[2] == pytest.approx(0.02 / (0.02 + 0.00098))


def test_a_class_that_the_network_excludes_is_still_possible_without_a_nucleus() -> None:
    assert Nuclei(CLASSES).without(said(0.6, 0.4, 0.0)).argmax() == 2


def test_a_model_that_knows_no_cell_without_a_nucleus_keeps_its_answer() -> None:
    assert Nuclei(CLASSES[:2]).without(said(0.6, 0.4)).tolist() == said(0.6, 0.4).tolist()
