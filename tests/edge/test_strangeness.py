import numpy as np
import pytest

from edge.strangeness import Familiar, distance, read_familiar

MEANS = np.array([[0, 0], [10, 0]], np.float32)


def test_the_distance_is_to_the_nearest_class() -> None:
    found = distance(np.array([[3, 4], [10, 1], [5, 0]], np.float32), MEANS)
    assert found.tolist() == [5, 1, 5]


def test_above_the_limit_is_strange() -> None:
    familiar = Familiar(MEANS, 2.5)
    assert familiar.strangeness(np.array([[0, 2.5], [0, 5]], np.float32)).tolist() == [1, 2]


def test_a_card_keeps_it() -> None:
    again = read_familiar(Familiar(MEANS, 2.5).facts())
    assert np.array_equal(again.means, MEANS)
    assert again.limit == 2.5


@pytest.mark.parametrize(
    "facts", [{"means": [1, 2], "limit": 1}, {"means": [[1]], "limit": 0}, {"means": [[1]]}]
)
def test_a_card_that_says_something_else_is_refused(facts: dict) -> None:
    with pytest.raises((ValueError, KeyError)):
        read_familiar(facts)
