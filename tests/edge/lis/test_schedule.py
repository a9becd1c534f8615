"""The first schedules of the property run; `python -m tests.edge.lis.schedule 100000` runs them all."""

import pytest

from tests.edge.lis.schedule import bad_line, wild_line

SEEDS = range(0, 600, 100)


@pytest.mark.parametrize("first", SEEDS)
def test_every_message_is_taken_exactly_once_and_in_order(first: int) -> None:
    for seed in range(first, first + 100):
        receiver, names, _ = bad_line(seed)
        assert receiver.taken == names, seed


@pytest.mark.parametrize("first", SEEDS)
def test_whatever_the_line_makes_up_both_ends_come_to_rest(first: int) -> None:
    for seed in range(first, first + 100):
        wild_line(seed)
