import numpy as np
import pytest

from edge.cells import CellClass, Probabilities, Role
from edge.sizes import TYPICAL, Sizes

NAMES = ("lymphocyte", "monocyte", "neutrophil", "smudge")
CLASSES = tuple(CellClass(name, Role.COUNTED) for name in NAMES)
MIX = {"neutrophil": 18, "lymphocyte": 9, "monocyte": 3}


def said(**shares: float) -> Probabilities:
    return np.array([shares.get(name, 0.0) for name in NAMES], np.float32)


def specimen(unit_px: float, mix: dict[str, int] = MIX, spread: float = 0.08) -> Sizes:
    """A smear whose sure cells have the sizes of their classes."""
    sizes, rng = Sizes(CLASSES), np.random.default_rng(1)
    for name, number in mix.items():
        for _ in range(number):
            sizes.note(
                said(**{name: 1.0}), unit_px * np.exp(TYPICAL[name][0] + spread * rng.standard_normal())
            )
    return sizes


@pytest.mark.parametrize("unit_px", [23.0, 140.0, 600.0])
def test_the_cells_are_the_ruler_at_any_scale(unit_px: float) -> None:
    sizes = specimen(unit_px)
    assert sizes.neutrophil_px == pytest.approx(unit_px, rel=0.06)
    doubted = np.stack([said(lymphocyte=0.45, monocyte=0.55), said(lymphocyte=0.55, monocyte=0.45)])
    small, large = sizes.weigh(doubted, [0.78 * unit_px, 1.2 * unit_px])
    assert small[0] > 0.8
    assert large[1] > 0.8
    assert [small.sum(), large.sum()] == pytest.approx([1, 1])


def test_a_box_that_is_no_measure_of_its_cell_does_not_change_a_sure_class() -> None:
    sizes = specimen(140)
    for side in (1.0, 40.0, 500.0, 1e5):
        assert sizes.weigh(said(lymphocyte=0.97, monocyte=0.03)[None], [side])[0].argmax() == 0


def test_sizes_tell_nothing_before_enough_cells_are_sure() -> None:
    few = {"neutrophil": 12, "lymphocyte": 7}
    assert specimen(140, few).neutrophil_px is None
    assert specimen(140, few | {"lymphocyte": 8}).neutrophil_px is not None
    doubted = said(lymphocyte=0.45, monocyte=0.55)[None]
    assert np.array_equal(specimen(140, few).weigh(doubted, [100.0]), doubted)


def test_doubtful_cells_and_unmeasured_ones_are_no_ruler() -> None:
    sizes = Sizes(CLASSES)
    for _ in range(40):
        sizes.note(said(lymphocyte=0.9, monocyte=0.1), 100.0)
        sizes.note(said(smudge=1.0), 100.0)
        sizes.note(said(lymphocyte=1.0), float("nan"))
    assert sizes.neutrophil_px is None


def test_sizes_tell_nothing_where_they_are_not_those_of_the_classes() -> None:
    rng = np.random.default_rng(2)
    cut_out, mixed, alike = Sizes(CLASSES), Sizes(CLASSES), Sizes(CLASSES)
    for name, number in MIX.items():
        for _ in range(10 * number):
            size = np.exp(TYPICAL[name][0])
            cut_out.note(said(**{name: 1.0}), 100 * np.exp(0.05 * rng.standard_normal()))
            mixed.note(said(**{name: 1.0}), size * rng.choice((50.0, 100.0, 250.0)))
            alike.note(said(neutrophil=1.0), size * 100)
    assert cut_out.neutrophil_px is None, "each image scaled to its cell"
    assert mixed.neutrophil_px is None, "images of several scales"
    assert alike.neutrophil_px is None, "all of one class: nothing to compare"


def test_an_unmeasured_cell_keeps_its_probabilities_and_an_unknown_class_its_share() -> None:
    sizes = specimen(140)
    doubted = np.stack([said(lymphocyte=0.5, monocyte=0.3, smudge=0.2)] * 2)
    unmeasured, small = sizes.weigh(doubted, [np.nan, 105.0])
    assert unmeasured == pytest.approx(doubted[0])
    assert small[1] < small[3] < small[0]
