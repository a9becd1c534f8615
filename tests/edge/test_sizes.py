import numpy as np
import pytest

from edge.cells import CellClass, Probabilities, Role
from edge.sizes import TYPICAL, Sizes

NAMES = ("lymphocyte", "monocyte", "neutrophil", "smudge")
CLASSES = tuple(CellClass(name, Role.COUNTED) for name in NAMES)
MIX = {"neutrophil": 18, "lymphocyte": 9, "monocyte": 3}


def said(**shares: float) -> Probabilities:
    return np.array([shares.get(name, 0.0) for name in NAMES], np.float32)


def doubtful(sizes: Sizes, number: int) -> None:
    for _ in range(number):
        sizes.note(said(lymphocyte=0.5, monocyte=0.5), 100.0)


def specimen(unit_px: float, mix: dict[str, int] = MIX, spread: float = 0.08) -> Sizes:
    """A smear whose sure cells have the sizes of their classes."""
    sizes, rng = Sizes(CLASSES), np.random.default_rng(1)
    for name, number in mix.items():
        doubtful(sizes, number // 2)
        for _ in range(number):
            sizes.note(
                said(**{name: 1.0}), unit_px * np.exp(TYPICAL[name][0] + spread * rng.standard_normal())
            )
    return sizes


def tells_nothing(sizes: Sizes) -> bool:
    doubted = said(lymphocyte=0.45, monocyte=0.55)[None]
    return all(np.array_equal(sizes.weigh(doubted, [side]), doubted) for side in (60.0, 110.0, 160.0))


@pytest.mark.parametrize("unit_px", [23.0, 140.0, 600.0])
def test_the_cells_are_the_ruler_at_any_scale(unit_px: float) -> None:
    sizes = specimen(unit_px)
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
    assert tells_nothing(specimen(140, few))
    assert not tells_nothing(specimen(140, few | {"lymphocyte": 8}))


def test_a_network_that_is_sure_of_four_cells_in_five_needs_no_help() -> None:
    sizes = Sizes(CLASSES)
    for _ in range(20):
        sizes.note(said(neutrophil=1.0), 100.0)
        sizes.note(said(lymphocyte=1.0), 78.0)
    doubtful(sizes, 10)
    assert tells_nothing(sizes)
    doubtful(sizes, 1)
    assert not tells_nothing(sizes)


def test_doubtful_cells_and_unmeasured_ones_are_no_ruler() -> None:
    sizes = Sizes(CLASSES)
    for _ in range(40):
        sizes.note(said(lymphocyte=0.9, monocyte=0.1), 100.0)
        sizes.note(said(smudge=1.0), 100.0)
        sizes.note(said(lymphocyte=1.0), float("nan"))
    assert tells_nothing(sizes)


def test_sizes_tell_nothing_where_they_are_not_those_of_the_classes() -> None:
    rng = np.random.default_rng(2)
    cut_out, mixed, alike, equal = (Sizes(CLASSES) for _ in range(4))
    for sizes in (cut_out, mixed, alike, equal):
        doubtful(sizes, 200)
    for name, number in MIX.items():
        for _ in range(10 * number):
            size = np.exp(TYPICAL[name][0])
            cut_out.note(said(**{name: 1.0}), 100 * np.exp(0.05 * rng.standard_normal()))
            mixed.note(said(**{name: 1.0}), size * rng.choice((50.0, 100.0, 250.0)))
            alike.note(said(neutrophil=1.0), size * 100)
            equal.note(said(neutrophil=1.0), 100.0)
    assert tells_nothing(cut_out), "each image scaled to its cell"
    assert tells_nothing(mixed), "images of several scales"
    assert tells_nothing(alike), "all of one class: nothing to compare"
    assert tells_nothing(equal), "of one class and one size"


def test_an_unmeasured_cell_keeps_its_probabilities_and_an_unknown_class_its_share() -> None:
    sizes = specimen(140)
    doubted = np.stack([said(lymphocyte=0.5, monocyte=0.3, smudge=0.2)] * 2)
    unmeasured, small = sizes.weigh(doubted, [np.nan, 105.0])
    assert unmeasured == pytest.approx(doubted[0])
    assert small[0] > 0.6
    assert small[3] == pytest.approx(0.2)
    only = said(smudge=1.0)
    assert sizes.weigh(only[None], [105.0])[0] == pytest.approx(only)


def test_the_posterior_is_that_of_the_formula() -> None:
    sizes = Sizes(CLASSES)
    # 20 neutrophils 0.1 about their usual ln(size), 16 lymphocytes 0.1 about 0.12 less than theirs: the mean
    # distance to the middle of its class is 0.1, a standard deviation of 0.1253.
    for side in (0.1, -0.1) * 10:
        sizes.note(said(neutrophil=1.0), 100 * np.exp(side))
    for side in (0.1, -0.1) * 8:
        sizes.note(said(lymphocyte=1.0), 100 * np.exp(TYPICAL["lymphocyte"][0] - 0.12 + side))
    doubtful(sizes, 36)

    typical = {name: TYPICAL[name] for name in ("lymphocyte", "neutrophil")}
    away = np.array([0.1, -0.1] * 10 + [-0.02, -0.22] * 8)
    unit = np.median(away)
    tops = ["neutrophil"] * 20 + ["lymphocyte"] * 16
    usual = np.sqrt(np.mean([typical[name][1] ** 2 for name in tops]))

    def posterior(name: str, within: float) -> tuple[float, float]:
        mine = away[[top == name for top in tops]] - unit
        variance = 1 / (1 / 0.15**2 + len(mine) / within**2)
        return float(np.median(mine) * len(mine) / within**2 * variance), variance

    def widening(residual: np.ndarray) -> float:
        return float(1.2533 * np.abs(residual - np.median(residual)).mean() / usual)

    first = widening(away - unit)
    shift = {name: posterior(name, first * typical[name][1])[0] for name in typical}
    wide = widening(away - unit - [shift[top] for top in tops])
    density, size = {}, -0.2
    for name, (middle, deviation) in typical.items():
        within = 2**0.5 * wide * deviation
        moved, variance = posterior(name, within)
        spread = np.sqrt(within**2 + variance)
        normal = np.exp(-0.5 * ((size - unit - middle - moved) / spread) ** 2) / spread / np.sqrt(2 * np.pi)
        density[name] = 0.9 * normal + 0.1 / 2
    expected = 0.4 * density["lymphocyte"] / (0.4 * density["lymphocyte"] + 0.6 * density["neutrophil"])
    told = sizes.weigh(said(lymphocyte=0.4, neutrophil=0.6)[None], [100 * np.exp(size)])[0]
    assert told[0] == pytest.approx(expected, abs=2e-4)


def test_only_leukocytes_of_the_five_types_are_the_ruler() -> None:
    classes = (*CLASSES, CellClass("erythroblast", Role.PER_100))
    sizes = Sizes(classes)
    for name, number in (("neutrophil", 10), ("erythroblast", 10), ("lymphocyte", 5)):
        for _ in range(number):
            answer = np.array([c.name == name for c in classes], np.float32)
            sizes.note(answer, 100 * np.exp(TYPICAL[name][0]))
            sizes.note(np.full(5, 0.2, np.float32), 100.0)
    doubted = np.array([[0.45, 0.55, 0, 0, 0]], np.float32)
    assert np.array_equal(sizes.weigh(doubted, [80.0]), doubted)


def test_how_large_a_class_is_here_is_learned_from_its_sure_cells() -> None:
    def with_lymphocytes(shift: float) -> Sizes:
        sizes, rng = specimen(140, {"neutrophil": 30, "monocyte": 3}), np.random.default_rng(3)
        for _ in range(12):
            size = np.exp(TYPICAL["lymphocyte"][0] + shift + 0.05 * rng.standard_normal())
            sizes.note(said(lymphocyte=1.0), 140 * size)
        return sizes

    doubted = said(lymphocyte=0.5, neutrophil=0.5)[None]
    small = 140 * np.exp(TYPICAL["lymphocyte"][0] - 0.2)
    usual, smaller = (with_lymphocytes(shift).weigh(doubted, [small])[0, 0] for shift in (0.0, -0.2))
    between = 140 * np.exp(TYPICAL["lymphocyte"][0] / 2)
    assert smaller > 0.9
    assert smaller > usual
    assert (
        with_lymphocytes(-0.2).weigh(doubted, [between])[0, 0]
        < with_lymphocytes(0).weigh(doubted, [between])[0, 0]
    )


def test_sizes_that_vary_more_count_less() -> None:
    doubted, side = said(lymphocyte=0.5, monocyte=0.5)[None], 105.0
    told = [
        specimen(140, {k: 10 * n for k, n in MIX.items()}, spread).weigh(doubted, [side])[0, 0]
        for spread in (0.05, 0.15)
    ]
    assert told[0] > told[1] > 0.5
