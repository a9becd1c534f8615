import pytest

from edge.cells import CellClass, Role
from edge.differential import clopper_pearson, differential, shown

CLASSES = (
    CellClass("neutrophil", Role.COUNTED),
    CellClass("lymphocyte", Role.COUNTED),
    CellClass("erythroblast", Role.PER_100),
    CellClass("platelet", Role.REJECTED),
)


# Ruemke's published limits, in percent to one decimal.
@pytest.mark.parametrize(
    ("count", "total", "low", "high"),
    [
        (1, 100, 0.0, 5.4),
        (5, 100, 1.6, 11.3),
        (60, 100, 49.7, 69.7),
        (120, 200, 52.9, 66.8),
        (0, 100, 0.0, 3.6),
        (100, 100, 96.4, 100.0),
        (0, 1, 0.0, 97.5),
    ],
)
def test_limits_are_those_of_the_published_tables(count: int, total: int, low: float, high: float) -> None:
    found = [100 * limit for limit in clopper_pearson(count, total)]
    assert found == pytest.approx([low, high], abs=0.051)


@pytest.mark.parametrize(("count", "total"), [(0, 0), (-1, 10), (11, 10)])
def test_impossible_counts_are_refused(count: int, total: int) -> None:
    with pytest.raises(ValueError, match="expected"):
        clopper_pearson(count, total)


def test_only_counted_classes_make_the_total() -> None:
    names = ["neutrophil"] * 6 + ["lymphocyte"] * 2 + ["erythroblast"] * 2 + ["platelet"] * 5
    found = differential(names, CLASSES)
    assert found.total == 8
    assert found.shares["neutrophil"].percent == 75
    assert set(found.shares) == {"neutrophil", "lymphocyte"}
    assert found.per_100 == {"erythroblast": 25.0}
    assert found.counts["platelet"] == 5


def test_nothing_counted_has_no_percentages() -> None:
    found = differential(["platelet"], CLASSES)
    assert found.total == 0
    assert found.shares["neutrophil"].percent is None
    assert found.per_100 == {"erythroblast": None}


def test_a_class_that_the_model_lacks_is_a_fault() -> None:
    with pytest.raises(KeyError):
        differential(["blast"], CLASSES)


@pytest.mark.parametrize(
    ("value", "decimals", "text"),
    [(0.25, 1, "0.3"), (30.25, 1, "30.3"), (0.35, 1, "0.3"), (0.0, 1, "0.0"), (0.125, 2, "0.13")],
)
def test_a_figure_is_shown_as_the_page_shows_it(value: float, decimals: int, text: str) -> None:
    """The texts are those of JavaScript's toFixed; 0.35 is stored as a number a little below."""
    assert shown(value, decimals) == text
