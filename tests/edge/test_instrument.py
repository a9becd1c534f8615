import json
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge.cells import Box, Cell, Frame, Image, Skip
from edge.classify import Classifier
from edge.config import Config
from edge.demo import DemoSource
from edge.errors import UserError
from edge.gates import GOOD, Verdict
from edge.instrument import Instrument, _Frozen, open_flat_field
from edge.live import Release, View
from edge.localise import Located, Locator
from edge.preprocess import crop
from edge.quality import Inspector
from edge.release import Releases
from edge.report import Status
from edge.session import Session
from edge.sightings import Decision, Sightings
from edge.store import Store


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """Twelve frames of the demo."""
    path = tmp_path / "film.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 15, (640, 480))
    for frame, _ in zip(DemoSource(pace=False).frames(), range(12), strict=False):
        writer.write(cv2.cvtColor(frame.image, cv2.COLOR_RGB2BGR))
    writer.release()
    return path


@pytest.fixture
def instrument(film: Path, tmp_path: Path) -> Iterator[Instrument]:
    with Store(tmp_path / "c.sqlite") as store:
        config = Config(video=film, headless=True)
        yield Instrument(config, store, Classifier(), threading.Event(), None)


def newest(instrument: Instrument) -> View:
    view = instrument.latest.get(0, 1.0)[1]
    assert view is not None
    return view


def test_the_last_picture_and_the_map_stay_when_the_count_has_ended(instrument: Instrument) -> None:
    outcome = instrument.count("S")
    instrument.wishes.ask_specimen("S-2")
    assert instrument.idle(outcome)[0] == "S-2"
    view = newest(instrument)
    assert (view.state["phase"], view.state["message"]) == ("finished", "the input has ended")
    assert view.image is not None
    assert view.map is not None
    assert view.state["map"]["fields"] == view.state["fields"] == 1


@pytest.mark.parametrize("sides", [(80, 120, 120, 80), (0, 200, 0, 200)])
def test_within_a_black_rim_the_boxes_are_those_of_the_source(
    tmp_path: Path, sides: tuple[int, int, int, int]
) -> None:
    path = tmp_path / "rim.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 15, (840, 680))
    pictures = []
    for frame, _ in zip(DemoSource(pace=False).frames(), range(12), strict=False):
        pictures.append(cv2.copyMakeBorder(frame.image, *sides, cv2.BORDER_CONSTANT))
        writer.write(cv2.cvtColor(pictures[-1], cv2.COLOR_RGB2BGR))
    writer.release()
    with Store(tmp_path / "c.sqlite") as store:
        config = Config(video=path, headless=True)
        instrument = Instrument(config, store, Classifier(), threading.Event(), None)
        session = instrument.count("S").session
        cells, told = session.cells, session.state("finished")["rim"]
    assert cells
    assert told
    for cell in cells:
        kept = cv2.imdecode(np.frombuffer(cell.crop, np.uint8), cv2.IMREAD_COLOR_RGB)
        shown = crop(pictures[int(cell.source)], cell.box, len(kept))
        assert np.abs(shown.astype(float) - kept).mean() < 8


def test_a_specimen_stopped_before_its_first_picture_leaves_the_files_of_the_one_before(
    film: Path, tmp_path: Path
) -> None:
    stop, config = threading.Event(), Config(video=film, headless=True)
    config = replace(config, json=tmp_path / "r.json", map=tmp_path / "m.png")
    with Store(tmp_path / "c.sqlite") as store:
        instrument = Instrument(config, store, Classifier(), stop, None)
        assert instrument.count("S").unwritten is None
        stop.set()
        assert instrument.count("S-2").unwritten is None
    assert json.loads((tmp_path / "r.json").read_text())["specimen"] == "S"


@pytest.mark.parametrize("phase", ["counting", "paused", "finished"])
def test_a_person_names_a_cell(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, phase: str
) -> None:
    decide = Decision.cell

    def decide_and_doubt(self: Decision, number: int, sightings: Sightings, *, again: bool = False) -> Cell:
        return replace(decide(self, number, sightings, again=again), review=True)

    monkeypatch.setattr(Decision, "cell", decide_and_doubt)
    asked: list[Future[Any]] = []
    show = Instrument._show

    def show_then_ask(self: Instrument, session: Session, state: dict[str, Any]) -> None:
        show(self, session, state)
        if state["phase"] == "counting" and not asked:
            self.wishes.pause(phase == "paused")
        if state["phase"] == phase and not asked:
            for specimen, number in (("OTHER", 1), ("S", 1), ("S", 999)):
                asked.append(self.wishes.ask_naming(specimen, number, "platelet", 0))
        if state["phase"] == "paused" and state["namings"]:
            self.wishes.pause(False)
        if state["phase"] == "finished" and state["namings"]:
            self.wishes.ask_specimen("S-2")

    result = tmp_path / "s.json"
    with Store(tmp_path / "c.sqlite") as store:
        config = Config(video=film, headless=True, json=result)
        instrument = Instrument(config, store, Classifier(), threading.Event(), None)
        instrument.count("S")  # so that there are cells from the first frame of the next time
        monkeypatch.setattr(Instrument, "_show", show_then_ask)
        outcome = instrument.count("S")
        instrument.idle(outcome)
    assert "the count is now that of S" in str(asked[0].exception(0))
    assert asked[1].result(0) is None
    assert "no cell 999" in str(asked[2].exception(0))
    first, *others = newest(instrument).cells
    marks = [mark for mark in newest(instrument).labels if mark.number == 1]
    assert all((mark.name, mark.confidence) == ("platelet", None) for mark in marks)
    assert (first.name, first.namings, first.review) == ("platelet", 1, False)
    assert others
    assert all(cell.review for cell in others)
    kept = json.loads(result.read_text())
    assert (kept["namings"], kept["cells"][0]["class"]) == (1, "platelet")


def test_a_target_that_names_take_away_is_no_longer_reached(film: Path, tmp_path: Path) -> None:
    with Store(tmp_path / "c.sqlite") as store:
        config = Config(video=film, headless=True)
        whole = Instrument(config, store, Classifier(), threading.Event(), None).count("S")
        config = replace(config, target=whole.session.total)
        instrument = Instrument(config, store, Classifier(), threading.Event(), None)
        outcome = instrument.count("S")
        assert outcome.complete
        assert not outcome.ended
        instrument.wishes.ask_naming("S", 1, "platelet", 0)
        seen: list[str] = []
        put = instrument.latest.put

        def put_and_look(view: View) -> None:
            put(view)
            seen.append(view.state["message"])
            if view.state["namings"]:
                instrument.wishes.ask_specimen("S-2")

        instrument.latest.put = put_and_look  # type: ignore[method-assign]
        instrument.idle(outcome)
    assert not outcome.complete
    assert seen[0] == "target reached"
    assert seen[-1].startswith("fewer cells than the target")


def test_a_pipe_that_nobody_reads_any_more_holds_nothing_up(film: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = threading.Thread(target=pipe.read_bytes, daemon=True)
    reader.start()
    with Store(tmp_path / "c.sqlite") as store:
        config = Config(video=film, headless=True, json=pipe)
        instrument = Instrument(config, store, Classifier(), threading.Event(), None)
        outcome = instrument.count("S")
        reader.join(5)
        answer = instrument.wishes.ask_naming("S", 1, "platelet", 0)
        answer.add_done_callback(lambda _: instrument.wishes.ask_specimen("S-2"))
        assert instrument.idle(outcome)[0] == "S-2"


def test_a_file_that_could_not_be_written_is_told_until_it_could(film: Path, tmp_path: Path) -> None:
    folder = tmp_path / "results"
    folder.mkdir()
    with Store(tmp_path / "c.sqlite") as store:
        config = Config(video=film, headless=True, json=folder / "s.json")
        instrument = Instrument(config, store, Classifier(), threading.Event(), None)
        outcome = instrument.count("S")
        (folder / "s.json").unlink()
        folder.rmdir()
        seen: list[str] = []
        put = instrument.latest.put

        def put_and_look(view: View) -> None:
            put(view)
            seen.append(view.state["message"])
            if len(seen) == 1:
                instrument.wishes.ask_naming("S", 1, "platelet", 0)
            elif "No such file" in seen[-1] and not folder.exists():
                folder.mkdir()
                instrument.wishes.ask_naming("S", 1, "monocyte", 1)
            elif folder.exists() and seen[-1] == "the input has ended":
                instrument.wishes.ask_specimen("S-2")

        instrument.latest.put = put_and_look  # type: ignore[method-assign]
        _, outcome = instrument.idle(outcome)
    assert outcome.unwritten is None
    assert json.loads((folder / "s.json").read_text())["cells"][0]["class"] == "monocyte"


def test_without_a_locator_no_specimen_is_begun(
    instrument: Instrument, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "edge.instrument.Locator",
        lambda *_, steady: Locator(steady=steady, model=tmp_path / "locator.tflite"),
    )
    with pytest.raises(UserError, match=r"locator\.json: No such file"):
        instrument.count("S")
    with closing(sqlite3.connect(tmp_path / "c.sqlite")) as database:
        assert database.execute("SELECT count(*) FROM specimen").fetchone() == (0,)


def test_a_paused_film_holds_its_place(instrument: Instrument) -> None:
    instrument.wishes.pause(True)
    seen: list[View] = []

    def resume() -> None:
        deadline = time.monotonic() + 10
        while newest(instrument).state["phase"] != "paused" and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.5)
        seen.append(newest(instrument))
        instrument.wishes.pause(False)

    instrument.latest.put(View(None, (), {"phase": "starting"}))
    helper = threading.Thread(target=resume)
    helper.start()
    outcome = instrument.count("S")
    helper.join()
    (paused,) = seen
    assert paused.state["frames"] == 0
    assert paused.image is not None, "what will be counted first is shown"
    assert outcome.session.state("finished")["frames"] == 12


class Silent:
    """A stream that gives no picture at first."""

    moving = live = True
    length = None

    def frames(self) -> Iterator[Frame | Skip]:
        yield Skip(0, 0, "no answer for 5 s")
        yield Frame(1, 0.0, np.full((480, 640, 3), 235, np.uint8))

    def settle(self) -> None:
        pass

    def close(self) -> None:
        pass


def test_a_stream_that_is_silent_while_paused_is_told(
    instrument: Instrument, monkeypatch: pytest.MonkeyPatch
) -> None:
    show, told = Instrument._show, list[str]()

    def show_and_note(self: Instrument, session: Session, state: dict[str, Any]) -> None:
        show(self, session, state)
        if state["phase"] == "paused":
            told.append(state["message"])

    monkeypatch.setattr("edge.instrument.open_source", lambda _: Silent())
    monkeypatch.setattr(Instrument, "_show", show_and_note)
    instrument.wishes.pause(True)
    instrument.count("S")
    assert told[0] == "no picture: no answer for 5 s"
    assert "no picture" not in told[1]


def test_a_pause_counts_what_was_pending_and_nothing_twice(
    instrument: Instrument, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = instrument.count("WHOLE").session.total
    show, paused = Instrument._show, list[View]()

    def show_and_pause_once(self: Instrument, session: Session, state: dict[str, Any]) -> None:
        show(self, session, state)
        if state["phase"] == "paused":
            paused.append(newest(self))
            self.wishes.pause(False)
        elif state["frames"] == 6 and not paused:
            assert state["total"] == 0, "all are pending"
            self.wishes.pause(True)

    monkeypatch.setattr(Instrument, "_show", show_and_pause_once)
    outcome = instrument.count("S")
    (held,) = paused
    assert held.state["total"] == len(held.labels) == whole > 0
    assert sorted(label.number or 0 for label in held.labels) == [cell.number for cell in held.cells]
    assert outcome.session.total == whole
    assert outcome.session.frames == 12


@pytest.mark.parametrize("live", [True, False])
def test_a_specimen_asked_for_on_the_page_begins_paused_where_the_slide_must_be_changed(
    instrument: Instrument, monkeypatch: pytest.MonkeyPatch, live: bool
) -> None:
    monkeypatch.setattr("edge.replay.VideoFile.live", live)
    settled: list[int] = []
    monkeypatch.setattr("edge.replay.VideoFile.settle", lambda _: settled.append(len(paused)))
    show, paused = Instrument._show, list[dict[str, Any]]()

    def show_and_go_on(self: Instrument, session: Session, state: dict[str, Any]) -> None:
        show(self, session, state)
        if state["phase"] == "paused":
            paused.append(state)
            self.wishes.pause(len(paused) < 3)

    monkeypatch.setattr(Instrument, "_show", show_and_go_on)
    outcome = instrument.count("S", asked=True)
    assert [(state["total"], state["message"]) for state in paused] == [
        (0, "paused: put the slide in place, then continue")
    ] * (3 * live)
    assert settled == [3] * live, "exposure and colours fit the slide that was put in place"
    assert outcome.session.total > 0


def test_a_pause_that_reaches_the_target_ends_the_count(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    show = Instrument._show

    def show_and_pause(self: Instrument, session: Session, state: dict[str, Any]) -> None:
        show(self, session, state)
        if state["frames"] == 6:
            self.wishes.pause(True)

    monkeypatch.setattr(Instrument, "_show", show_and_pause)
    with Store(tmp_path / "c.sqlite") as store:
        config = Config(video=film, headless=True, target=1)
        outcome = Instrument(config, store, Classifier(), threading.Event(), None).count("S")
    assert outcome.complete
    assert outcome.session.frames == 6
    assert [cell.number for cell in outcome.session.cells] == [1]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Five images; the cells of the first, the second and the fourth lie near the border, and wait."""
    near, far = (Located(Box(x, 60, 50, 50), whole=True, sure=True) for x in (5, 75))
    monkeypatch.setattr(Locator, "locate", lambda _, image: [near if image[0, 0, 0] > 180 else far])
    images = tmp_path / "images"
    images.mkdir()
    rng = np.random.default_rng(1)
    for number, level in enumerate((200, 190, 170, 185, 150)):
        grain = cv2.GaussianBlur(rng.normal(0, 60, (200, 200, 3)), (0, 0), 2)
        picture = np.clip(level + grain, 0, 255).astype(np.uint8)
        picture[0, 0] = level
        cv2.imwrite(str(images / f"{number}.png"), picture)
    monkeypatch.setattr("edge.instrument.Inspector", Passing)
    return images


class Passing(Inspector):
    """Refuses no picture."""

    def inspect(self, image: Image) -> Verdict:
        return GOOD


def test_every_pause_counts_the_images_that_wait(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    show, locate, held = Instrument._show, Locator.locate, list[int]()

    def show_and_pause(self: Instrument, session: Session, state: dict[str, Any]) -> None:
        show(self, session, state)
        if state["phase"] == "paused":
            held.append(len(session.cells))
            self.wishes.pause(False)
        elif len(session.cells) == 1:
            self.wishes.pause(True)

    with Store(tmp_path / "c.sqlite") as store:
        config = Config(images=folder, headless=True)
        instrument = Instrument(config, store, Classifier(), threading.Event(), None)

        def locate_and_pause(self: Locator, image: Image) -> list[Located]:
            if image[0, 0, 0] == 185:  # the pause before has just ended
                instrument.wishes.pause(True)
            return locate(self, image)

        monkeypatch.setattr(Locator, "locate", locate_and_pause)
        monkeypatch.setattr(Instrument, "_show", show_and_pause)
        outcome = instrument.count("S")
    assert outcome.ended
    assert held == [3, 4]
    assert len(outcome.session.cells) == 5


def test_what_waits_is_left_for_later_by_an_interruption(folder: Path, tmp_path: Path) -> None:
    stop = threading.Event()
    with Store(tmp_path / "c.sqlite") as store:
        instrument = Instrument(Config(images=folder, headless=True), store, Classifier(), stop, None)
        put = instrument.latest.put

        def put_and_stop(view: View) -> None:
            put(view)
            if view.state["frames"] == 1:
                stop.set()

        instrument.latest.put = put_and_stop  # type: ignore[method-assign]
        outcome = instrument.count("S")
        assert [cell.source for cell in outcome.session.cells] == ["2.png"]
        stop.clear()
        instrument.latest.put = put  # type: ignore[method-assign]
        outcome = instrument.count("S")
    assert outcome.ended
    assert [cell.source for cell in outcome.session.cells] == ["2.png", "4.png", "0.png", "1.png", "3.png"]


def test_a_next_specimen_that_cannot_begin_leaves_the_last_result_final(
    instrument: Instrument, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = replace(instrument.count("S"), unbegun=UserError("counted by another model"))
    phases: list[str] = []

    def answer(self: Releases, asked: Release, session: Session, phase: str) -> None:
        phases.append(phase)
        instrument.wishes.ask_specimen("S-3")

    monkeypatch.setattr(Releases, "answer", answer)
    instrument.wishes.ask_release("S", {}, 0, Status.FINAL, operator="", wbc=None)
    assert instrument.idle(outcome)[0] == "S-3"
    assert phases == ["finished"]
    view = newest(instrument)
    assert (view.state["phase"], view.state["message"]) == ("failed", "counted by another model")


def test_the_field_beside_the_database_is_for_a_camera_alone(tmp_path: Path) -> None:
    (tmp_path / "flat-field.png").write_bytes(b"Dear colleague")
    database = tmp_path / "c.sqlite"
    assert open_flat_field(Config(demo=True, database=database)) is None
    with pytest.raises(UserError, match="not a flat field"):
        open_flat_field(Config(camera="0", database=database))
    (tmp_path / "other").mkdir()
    assert open_flat_field(Config(camera="0", database=tmp_path / "other" / "c.sqlite")) is None


def test_what_cannot_be_stored_to_the_end_breaks_the_input_off_and_is_told(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise UserError("disk full")

    config, stop = Config(video=film, headless=True, json=tmp_path / "r.json"), threading.Event()
    with Store(tmp_path / "c.sqlite") as store:
        instrument = Instrument(config, store, Classifier(), stop, None)
        monkeypatch.setattr("edge.live_map._STORED_S", 0.0)
        with monkeypatch.context() as disk:
            disk.setattr(Store, "add", full)
            outcome = instrument.count("S")
            threading.Timer(0.5, stop.set).start()
            assert instrument.idle(outcome) == (None, outcome)
    assert (str(outcome.error), outcome.ended, outcome.unwritten) == ("disk full", False, None)
    result = json.loads((tmp_path / "r.json").read_text())
    assert (result["specimen"], result["complete"]) == ("S", False)


def test_a_camera_that_gives_one_picture_again_and_again_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("edge.instrument.time.monotonic", lambda: now[0])
    frozen, picture = _Frozen(), np.full((48, 64, 3), 235, np.uint8)
    for now[0] in np.arange(0.0, 10.0, 0.5):
        assert not frozen.tick(picture.copy())
    now[0] = 10.1
    assert frozen.tick(picture.copy())
    assert not frozen.tick(picture + 1)


def test_images_that_were_read_before_are_told_while_they_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        image = np.full((60, 80, 3), 200 + number, np.uint8)
        image[..., 1] -= 40
        assert cv2.imwrite(str(tmp_path / f"{number}.png"), image)
    show, told = Instrument._show, list[str]()

    def show_and_note(self: Instrument, session: Session, state: dict[str, Any]) -> None:
        show(self, session, state)
        told.append(state["message"])

    monkeypatch.setattr(Instrument, "_show", show_and_note)
    with Store(tmp_path / "c.sqlite") as store:
        for _ in range(2):
            Instrument(
                Config(images=tmp_path, headless=True), store, Classifier(), threading.Event(), None
            ).count("S")
    assert told[-3:] == [f"images read before: {number}" for number in (1, 2, 3)]
