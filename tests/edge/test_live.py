import threading

import pytest

from edge.errors import UserError
from edge.live import Latest, View, Wishes


def view(number: int) -> View:
    return View(None, (), {"number": number})


def test_a_reader_gets_the_newest_and_misses_the_rest() -> None:
    latest = Latest()
    latest.put(view(1))
    latest.put(view(2))
    version, newest = latest.get(0, 1.0)
    assert newest is not None
    assert newest.state["number"] == 2
    assert latest.get(version, 0.01) == (version, None)


def test_a_waiting_reader_is_woken() -> None:
    latest = Latest()
    timer = threading.Timer(0.05, latest.put, [view(7)])
    timer.start()
    _, newest = latest.get(0, 5.0)
    timer.join()
    assert newest is not None
    assert newest.state["number"] == 7


def test_a_specimen_is_taken_once() -> None:
    wishes = Wishes()
    assert wishes.take_specimen() is None
    wishes.ask_specimen("S-2")
    assert wishes.specimen_asked
    assert wishes.take_specimen() == "S-2"
    assert not wishes.specimen_asked
    assert wishes.take_specimen() is None


def test_a_release_is_taken_once_and_answered() -> None:
    wishes = Wishes()
    assert wishes.take_release() is None
    answer = wishes.ask_release("S-1", {"monocyte": 2}, 1, "final", operator="Dr A", wbc=7.2)
    asked = wishes.take_release()
    assert asked is not None
    assert (asked.specimen, asked.operator, asked.wbc) == ("S-1", "Dr A", 7.2)
    assert (asked.counts, asked.review, asked.status) == ({"monocyte": 2}, 1, "final")
    assert wishes.take_release() is None
    asked.answer.set_result("done")
    assert answer.result(0) == "done"


def test_a_newer_release_takes_the_place_of_one_that_nobody_took() -> None:
    wishes = Wishes()
    first = wishes.ask_release("S-1", {}, 0, "final", operator="A", wbc=None)
    wishes.ask_release("S-1", {}, 0, "final", operator="B", wbc=None)
    with pytest.raises(UserError, match="at the same moment"):
        first.result(0)
    asked = wishes.take_release()
    assert asked is not None
    assert asked.operator == "B"


def test_namings_are_taken_in_their_order_but_for_those_given_up() -> None:
    wishes = Wishes()
    assert wishes.take_naming() is None
    wishes.ask_naming("S-1", 1, "monocyte", 0).cancel()
    for number in (2, 3):
        wishes.ask_naming("S-1", number, "monocyte", 0)
    taken = [wishes.take_naming() for _ in range(3)]
    assert [asked and (asked.specimen, asked.number, asked.name) for asked in taken] == [
        ("S-1", 2, "monocyte"),
        ("S-1", 3, "monocyte"),
        None,
    ]


def test_a_release_that_was_given_up_is_not_taken() -> None:
    wishes = Wishes()
    wishes.ask_release("S-1", {}, 0, "final", operator="A", wbc=None).cancel()
    assert wishes.take_release() is None


def test_a_release_may_follow_one_that_was_given_up() -> None:
    wishes = Wishes()
    wishes.ask_release("S-1", {}, 0, "final", operator="A", wbc=None).cancel()
    wishes.ask_release("S-1", {}, 0, "final", operator="B", wbc=None)
    asked = wishes.take_release()
    assert asked is not None
    assert asked.operator == "B"
