from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.photographs import again, count
from edge import album
from edge.cells import Box, CellClass, Detection, Frame, Role
from edge.classify import Classifier
from edge.fields import StillFields
from edge.imagefile import decode_crop
from edge.landmarks import Fit
from edge.localise import Locator
from edge.pose import Pose
from edge.sightings import Decision
from edge.void import filled
from training.data import load, read_image

ON_CELL, FAR_FROM_IT = (150.0, 100.0), (300.0, 220.0)
DECISION = Decision((CellClass("leukocyte", Role.COUNTED),), 0.0)


def picture(seed: int) -> np.ndarray:
    """Discs of many sizes and greys on white, (240, 320, 3)."""
    rng = np.random.default_rng(seed)
    sheet = np.full((240, 320), 220, np.uint8)
    for _ in range(70):
        x, y = (int(v) for v in rng.uniform((0, 0), (320, 240)))
        cv2.circle(sheet, (x, y), int(rng.uniform(4, 18)), int(rng.uniform(60, 210)), -1)
    return np.repeat(cv2.GaussianBlur(sheet, (0, 0), 1)[..., None], 3, axis=2)


def turned(image: np.ndarray, degrees: float, x: float, y: float) -> tuple[np.ndarray, np.ndarray]:
    move = cv2.getRotationMatrix2D((160, 120), degrees, 1)
    move[:, 2] += (x, y)
    return cv2.warpAffine(image, move, (320, 240), borderValue=(220, 220, 220)), move


def detection(x: float, y: float) -> Detection:
    crop = np.zeros((8, 8, 3), np.uint8)
    return Detection(Box(x - 25, y - 25, 50, 50), np.ones(1, np.float32), crop, 100.0, 0.0, True)


def at(move: np.ndarray, x: float, y: float) -> Detection:
    return detection(*(move @ np.array([x, y, 1])))


def test_of_a_counted_cell_no_whole_picture_is_held() -> None:
    counter = StillFields(DECISION)
    large = replace(detection(150, 100), crop=np.zeros((224, 224, 3), np.uint8))
    (cell,) = counter.update(Frame(0, 0.0, picture(1), "a"), [large]).cells
    stored = decode_crop(cell.crop)
    assert stored is not None
    assert stored.shape == large.crop.shape
    assert all(s.best.crop.nbytes < 10_000 for s in counter._sightings.values())


def test_a_cell_seen_as_two_lobes_of_a_better_photograph_keeps_a_whole_picture(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counter = StillFields(DECISION)
    counter.update(Frame(0, 0.0, picture(1), "a"), [detection(150, 100)])
    large = replace(detection(150, 100), crop=np.zeros((224, 224, 3), np.uint8), sharpness=900.0)
    monkeypatch.setattr(album.Album, "known", lambda *_: [1, 1])
    lobes = [large, replace(large, box=Box(160, 75, 50, 50), sharpness=300.0)]
    tracked = counter.update(Frame(1, 0.0, picture(1), "b"), lobes)
    stored = [decode_crop(cell.crop) for cell in tracked.revised]
    assert [None if s is None else s.shape for s in stored] == [large.crop.shape] * 2


@pytest.mark.parametrize("degrees", [0, 7, 90, 131, 180, -45])
def test_a_place_photographed_again_adds_only_its_new_cells(degrees: float) -> None:
    counter = StillFields(DECISION)
    first = picture(1)
    assert (
        len(counter.update(Frame(0, 0.0, first, "a"), [detection(150, 100), detection(190, 130)]).cells) == 2
    )
    second, move = turned(first, degrees, 25, -15)
    darker = (second * 0.7).astype(np.uint8)
    seen = [at(move, 190, 130), at(move, 150, 100), at(move, 120, 140)]
    tracked = counter.update(Frame(1, 0.0, darker, "b"), seen)
    assert tracked.numbers == (2, 1, 3)
    assert [c.number for c in tracked.cells] == [3]
    assert tracked.again
    assert counter.fields == 1


@pytest.mark.parametrize("zoom", [0.75, 0.95, 1.04, 1.3])
def test_a_place_photographed_at_another_scale_is_known(zoom: float) -> None:
    counter = StillFields(DECISION)
    first = picture(1)
    counter.update(Frame(0, 0.0, first, "a"), [detection(150, 100), detection(190, 130)])
    view, move = turned(first, 40, 10, 5)
    scaled = np.asarray(cv2.resize(view, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA), np.uint8)
    x, y = zoom * (move @ np.array([190, 130, 1]))
    seen = replace(detection(x, y), box=Box(x - 25 * zoom, y - 25 * zoom, 50 * zoom, 50 * zoom))
    assert counter.update(Frame(1, 0.0, scaled, "b"), [seen]).numbers == (2,)


def zoomed(image: np.ndarray, zoom: float, x: float, y: float) -> np.ndarray:
    """Return an image turned and enlarged to the same size, (x, y) now a little beside its middle."""
    height, width = image.shape[:2]
    move = cv2.getRotationMatrix2D((x, y), 8, zoom)
    move[:, 2] += (0.53 * width - x, 0.48 * height - y)
    view = cv2.warpAffine(image, move, (width, height), flags=cv2.INTER_CUBIC, borderValue=(220, 220, 220))
    coded = cv2.imencode(".jpg", view, [cv2.IMWRITE_JPEG_QUALITY, 85])[1]
    return np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)


@pytest.mark.parametrize("zoom", [1.2, 1.5, 1.7, 2.0])
def test_the_enlarged_middle_of_a_photograph_shows_its_cell_and_no_other(
    shared_data: Path, zoom: float
) -> None:
    samples = [s for s in load(shared_data) if s.source == "pbc" and s.split == "validation"]
    several = [next(s for s in samples if s.name == n) for n in ("neutrophil", "lymphocyte", "monocyte")]
    locator, classifier = Locator(), Classifier()
    wide = [read_image(s.path) for s in several]
    near = []
    for image in wide:
        (box,) = [found.box for found in locator.locate(image)]
        near.append(zoomed(image, zoom, *box.centre))
    for images in ([*wide, *near], [*near, *wide]):
        told = count(images, StillFields(Decision(classifier.card.classes, 0.9)), Locator(), classifier)
        assert [len(cells) for cells, _, _ in told] == [1, 1, 1, 0, 0, 0]


def supported(scale: float, votes: int, at: tuple[float, float] = ON_CELL, aside: float = 9) -> Fit:
    """Return that a photograph is scaled about a cell and lies a little aside, by landmarks at one place."""
    x, y = (at * (1 - scale) for at in ON_CELL)
    return Fit(Pose(x + aside, y, 0), scale, np.full((votes, 2), at, np.float32))


def number_again() -> int | None:
    """Return the number that a photograph of cell 1 gives it when it comes again; None if it is new to it."""
    old, new = album.Photograph(picture(1)), album.Photograph(picture(1))
    old.cells = ((detection(150, 100).box, 1),)
    several = album.Album()
    several.add(old)
    (number,) = several.known(new, [detection(150, 100).box])
    return number


@pytest.mark.parametrize(
    ("scale", "votes", "at", "agreement", "known"),
    [
        (1.0, 2, ON_CELL, 0.99, None),
        (1.0, 3, ON_CELL, 0.955, None),
        (1.0, 3, ON_CELL, 0.97, 1),
        (1.0, 9, ON_CELL, 0.9, None),
        (1.0, 9, ON_CELL, 0.955, 1),
        (1.0, 10, ON_CELL, 0.9, 1),
        (1.0, 30, FAR_FROM_IT, 0.9, None),
        (1.0, 30, FAR_FROM_IT, 0.96, 1),
        (1.07, 9, ON_CELL, 0.955, None),
        (1.07, 9, ON_CELL, 0.97, 1),
        (1.07, 15, ON_CELL, 0.9, None),
        (1.07, 15, ON_CELL, 0.955, 1),
        (1.07, 20, ON_CELL, 0.9, 1),
        (1.7, 19, ON_CELL, 0.99, None),
        (1.7, 20, ON_CELL, 0.94, None),
        (1.7, 20, ON_CELL, 0.955, 1),
        (0.6, 20, ON_CELL, 0.955, 1),
        (1.7, 30, FAR_FROM_IT, 0.99, None),
        (2.2, 30, ON_CELL, 0.99, None),
    ],
)
def test_few_landmarks_or_far_ones_need_pictures_that_agree_closely(
    monkeypatch: pytest.MonkeyPatch,
    *,
    scale: float,
    votes: int,
    at: tuple[float, float],
    agreement: float,
    known: int | None,
) -> None:
    monkeypatch.setattr(album, "fit", lambda *_, **__: supported(scale, votes, at))
    monkeypatch.setattr(album, "agreement", lambda *_: agreement)
    assert number_again() == known


@pytest.mark.parametrize(("agreement", "known"), [(0.9, None), (0.96, 1)])
def test_what_has_not_moved_at_all_may_be_a_scale_bar(
    monkeypatch: pytest.MonkeyPatch, agreement: float, known: int | None
) -> None:
    monkeypatch.setattr(album, "fit", lambda *_, **__: supported(1.0, 30, aside=0))
    monkeypatch.setattr(album, "agreement", lambda *_: agreement)
    assert number_again() == known


def test_a_cell_is_known_though_a_scale_bar_has_more_landmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    def fit(*_: object, without: Fit | None) -> Fit:
        return supported(1.0, 30, FAR_FROM_IT, aside=0) if without is None else supported(1.0, 12)

    def agrees(old: album.Photograph, new: album.Photograph, laid: Fit, cell: Box) -> float:
        return 0.9 if laid.pose.x else 0.2

    monkeypatch.setattr(album, "fit", fit)
    monkeypatch.setattr(album, "agreement", agrees)
    assert number_again() == 1


def test_two_images_of_one_name_are_two_places() -> None:
    counter = StillFields(DECISION)
    for seed in (1, 2):
        tracked = counter.update(Frame(0, 0.0, picture(seed), "a"), [detection(150, 100)])
        assert [c.number for c in tracked.cells] == [seed]
    assert counter.fields == 2


def test_another_place_is_a_field_of_its_own() -> None:
    counter = StillFields(DECISION)
    for seed in range(12):
        tracked = counter.update(Frame(seed, 0.0, picture(seed), str(seed)), [detection(150, 120)])
        assert tracked.numbers == (seed + 1,)
        assert not tracked.again
    assert counter.fields == 12


def test_a_place_seen_in_a_mirror_is_another() -> None:
    counter = StillFields(DECISION)
    counter.update(Frame(0, 0.0, picture(1), "a"), [detection(160, 120)])
    mirrored = np.ascontiguousarray(picture(1)[:, ::-1])
    assert counter.update(Frame(1, 0.0, mirrored, "b"), [detection(159, 120)]).numbers == (2,)


def test_a_cell_is_known_though_likelier_photographs_do_not_show_it_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(album, "_CANDIDATES", 1)
    counter, sharp = StillFields(DECISION), picture(1)
    counter.update(Frame(0, 0.0, cv2.GaussianBlur(sharp, (0, 0), 1), "a"), [detection(150, 100)])
    counter.update(Frame(1, 0.0, sharp, "b"), [detection(270, 200)])
    assert counter.update(Frame(2, 0.0, sharp, "c"), [detection(150, 100)]).numbers == (1,)


def test_a_cell_that_many_photographs_show_is_known() -> None:
    counter, sharp = StillFields(DECISION), picture(1)
    rng = np.random.default_rng(1)

    def show(index: int, image: np.ndarray, x: float, y: float) -> tuple[int, ...]:
        view = np.clip(image + rng.normal(0, 4, image.shape), 0, 255).astype(np.uint8)
        seen = replace(detection(x, y), box=Box(x - 12, y - 12, 24, 24))
        return counter.update(Frame(index, 0.0, view, f"{index}"), [seen]).numbers

    soft = cv2.GaussianBlur(sharp, (0, 0), 1.2)
    assert {show(i, soft, 150, 100) for i in range(20)} == {(1,)}
    assert {show(i, sharp, 270, 200) for i in range(20, 30)} == {(2,)}
    assert show(30, sharp, 150, 100) == (1,)


def test_the_same_view_at_another_resolution_is_known() -> None:
    counter, first = StillFields(DECISION), picture(1)
    counter.update(Frame(0, 0.0, first, "a"), [detection(150, 100)])
    large = np.asarray(cv2.resize(first, None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC), np.uint8)
    seen = replace(detection(450, 300), box=Box(375, 225, 150, 150))
    assert counter.update(Frame(1, 0.0, large, "b"), [seen]).numbers == (1,)


def test_small_cells_of_a_large_photograph_turned_by_any_angle_are_known() -> None:
    """At 240 pixels of its longer side such a cell would be seven pixels wide."""
    rng = np.random.default_rng(3)
    slide = np.full((1700, 1700, 3), 225, np.uint8)
    for x, y in rng.uniform(20, 1680, (2500, 2)):  # red cells
        cv2.circle(slide, (int(x), int(y)), 14, (205, 160, 150), -1)
    places = [(x, y) for x in range(500, 1250, 120) for y in range(500, 1250, 120)]
    for x, y in places:
        for _ in range(4):
            dx, dy = rng.uniform(-13, 13, 2)
            cv2.circle(slide, (int(x + dx), int(y + dy)), int(rng.uniform(7, 13)), (100, 60, 140), -1)
    slide = np.asarray(cv2.GaussianBlur(slide, (0, 0), 1.5), np.uint8)
    counter = StillFields(DECISION)
    for index, degrees in enumerate((0, 37, 100, 163, 214, 300)):
        move = cv2.getRotationMatrix2D((850, 850), degrees, 1)
        move[:, 2] += (900 - 850, 600 - 850)
        view = cv2.warpAffine(slide, move, (1800, 1200), borderMode=cv2.BORDER_REFLECT)
        view = np.clip(view + rng.normal(0, 2, view.shape), 0, 255).astype(np.uint8)
        seen = [at(move, x, y) for x, y in places]
        tracked = counter.update(Frame(index, 0.0, view, f"{index}"), seen)
        assert tracked.numbers == tuple(range(1, len(places) + 1))


def test_an_image_that_is_read_on_shows_no_place_photographed_before() -> None:
    first, image = StillFields(DECISION), picture(1)
    (cell,) = first.update(Frame(0, 0.0, image, "a"), [detection(150, 100)]).cells
    on = StillFields(DECISION, {("a", cell.box): 1}, count=1)
    on.recall(Frame(0, 0.0, image, "a"))  # as its stored picture is remembered
    tracked = on.update(Frame(0, 0.0, image, "a"), [detection(150, 100), detection(250, 180)])
    assert (tracked.numbers, tracked.again, on.fields) == ((1, 2), False, 1)
    tracked = on.update(Frame(1, 0.0, image, "b"), [detection(150, 100), detection(250, 180)])
    assert (tracked.numbers, tracked.again, on.fields) == ((1, 2), True, 1)


def test_fewer_large_photographs_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(album, "_MOST_BYTES", 5 * 2 * 240 * 180)
    held = album.Album()
    for number in range(8):
        photograph = album.Photograph(picture(number))
        photograph.cells = ((Box(125, 75, 50, 50), number),)
        held.add(photograph)
    assert held.numbers == {3, 4, 5, 6, 7}


def test_the_oldest_photographs_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(album, "_RECENT", 12)
    counter = StillFields(DECISION)
    blank = np.full((60, 80, 3), 220, np.uint8)
    counter.update(Frame(0, 0.0, picture(1), "a"), [detection(160, 120)])
    for i in range(11):
        counter.update(Frame(i, 0.0, blank, f"blank {i}"), [detection(40, 30)])
    assert counter.update(Frame(200, 0.0, picture(1), "b"), [detection(160, 120)]).again
    for i in range(300, 312):
        counter.update(Frame(i, 0.0, blank, f"blank {i}"), [detection(40, 30)])
    assert not counter.update(Frame(600, 0.0, picture(1), "c"), [detection(160, 120)]).again


def test_a_place_that_many_photographs_show_does_not_make_another_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(album, "_RECENT", 12)
    counter = StillFields(DECISION)
    counter.update(Frame(0, 0.0, picture(1), "a"), [detection(160, 120)])
    for i in range(1, 20):
        counter.update(Frame(i, 0.0, picture(2), f"{i}"), [detection(160, 120)])
    assert counter.update(Frame(320, 0.0, picture(1), "b"), [detection(160, 120)]).numbers == (1,)


def test_a_later_run_knows_the_photographs_that_it_is_shown_again() -> None:
    box = detection(160, 120).box
    later = StillFields(DECISION, {("a", box): 1}, count=1, fields=1)
    later.recall(Frame(0, 0.0, picture(1), "a"))
    view, move = turned(picture(1), 60, 10, 10)
    assert later.update(Frame(1, 0.0, view, "b"), [at(move, 160, 120)]).numbers == (1,)
    assert later.fields == 1


def test_a_real_cell_in_a_series_of_photographs_is_counted_once(shared_data: Path) -> None:
    classifier = Classifier()
    decision = Decision(classifier.card.classes, classifier.card.review_below)
    rng = np.random.default_rng(3)
    samples = [s for s in load(shared_data) if s.source == "pbc" and s.split == "validation"]
    chosen = [next(s for s in samples if s.name == name) for name in ("neutrophil", "eosinophil", "monocyte")]
    for sample in chosen:
        image = read_image(sample.path)
        images = [image, *(again(image, rng) for _ in range(4))]
        told = count(images, StillFields(decision), Locator(), classifier)
        assert [len(cells) for cells, _, _ in told] == [1, 0, 0, 0, 0]


@pytest.mark.parametrize("around", [0, 255])
def test_a_cell_that_fills_its_photographs_is_known_whatever_lies_around_it(
    shared_data: Path, around: int
) -> None:
    """Turned photographs have corners, which are no picture and have no say."""
    classifier = Classifier()
    decision = Decision(classifier.card.classes, classifier.card.review_below)
    rng = np.random.default_rng(5)
    samples = [s for s in load(shared_data) if s.source == "bccd"]
    for sample in [samples[i] for i in rng.choice(len(samples), 8, replace=False)]:
        image = read_image(sample.path)
        images = [image]
        for _ in range(3):
            height, width = image.shape[:2]
            move = cv2.getRotationMatrix2D((width / 2, height / 2), rng.uniform(-180, 180), 1)
            move[:, 2] += rng.uniform(-0.12, 0.12, 2) * (width, height)
            images.append(filled(cv2.warpAffine(image, move, (width, height), borderValue=(around,) * 3)))
        told = count(images, StillFields(decision), Locator(), classifier)
        assert [len(cells) for cells, _, _ in told] == [1, 0, 0, 0], sample.file


def test_a_scale_bar_in_all_pictures_makes_no_cells_one(shared_data: Path) -> None:
    samples = [s for s in load(shared_data) if s.source == "pbc" and s.name == "lymphocyte"]
    images = [read_image(s.path) for s in samples if s.split == "train"][:24]
    for image in images:
        cv2.rectangle(image, (250, 341), (340, 346), (0, 0, 0), -1)
        cv2.putText(image, "10 um  100x", (220, 333), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (0, 0, 0), 2)
    classifier = Classifier()
    told = count(images, StillFields(Decision(classifier.card.classes, 0.9)), Locator(), classifier)
    assert [again for _, _, again in told] == [False] * len(images)


def test_a_cell_is_known_among_many_blurred_photographs(shared_data: Path) -> None:
    files = {f.name: f for f in sorted((shared_data / "cells" / "bccd").rglob("*.jpg"))}
    first, again = (
        [files.pop(f"BloodImage_00{n}_1.jpg") for n in ns] for ns in ((408, 400, 261), (365, 377, 226))
    )
    paths = [*first, *list(files.values())[:120], *again]
    classifier = Classifier()
    counter = StillFields(Decision(classifier.card.classes, 0.9))
    told = count([read_image(f) for f in paths], counter, Locator(), classifier)
    assert [seen for _, _, seen in told[-3:]] == [True] * 3


def test_real_cells_are_never_taken_for_one_another(shared_data: Path) -> None:
    rng = np.random.default_rng(1)
    samples = [s for s in load(shared_data) if s.source == "pbc" and s.split == "validation"]
    images = [read_image(samples[i].path) for i in rng.permutation(len(samples))[:40]]
    classifier = Classifier()
    counter = StillFields(Decision(classifier.card.classes, classifier.card.review_below))
    assert not any(seen for _, _, seen in count(images, counter, Locator(), classifier))


@pytest.mark.parametrize("degrees", [0, 40])
def test_a_cell_is_known_in_a_photograph_that_is_squeezed(shared_data: Path, degrees: float) -> None:
    """A tenth in one direction, as one that is seen aslant."""
    classifier = Classifier()
    decision = Decision(classifier.card.classes, classifier.card.review_below)
    for sample in [s for s in load(shared_data) if s.source == "zheng1"][4:8]:
        image = read_image(sample.path)
        height, width = image.shape[:2]
        move = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1)
        move[0] *= 0.9
        squeezed = cv2.warpAffine(image, move, (round(0.9 * width), height), borderMode=cv2.BORDER_REFLECT)
        told = count([image, np.asarray(squeezed, np.uint8)], StillFields(decision), Locator(), classifier)
        assert [len(cells) for cells, _, _ in told] == [1, 0]


def test_the_class_is_that_of_all_photographs_of_a_cell() -> None:
    two = (CellClass("neutrophil", Role.COUNTED), CellClass("lymphocyte", Role.COUNTED))
    counter = StillFields(Decision(two, review_below=0.8))
    first = replace(detection(160, 120), probabilities=np.array([0.9, 0.1], np.float32))
    (cell,) = counter.update(Frame(0, 0.0, picture(1), "a"), [first]).cells
    assert (cell.name, cell.review) == ("neutrophil", False)
    said = []
    for index, degrees in enumerate((20, 75, -40), 1):
        view, move = turned(picture(1), degrees, 5, 5)
        seen = replace(at(move, 160, 120), probabilities=np.array([0.02, 0.98], np.float32))
        tracked = counter.update(Frame(index, 0.0, view, str(index)), [seen])
        assert tracked.cells == ()
        (cell,) = tracked.revised
        said.append((cell.number, cell.name, cell.review))
    assert said == [(1, "lymphocyte", True), (1, "lymphocyte", True), (1, "lymphocyte", True)]


def test_two_cells_that_were_first_boxed_as_one_are_two() -> None:
    counter = StillFields(DECISION)
    pair = replace(detection(150, 120), box=Box(110, 95, 80, 50))
    assert counter.update(Frame(0, 0.0, picture(1), "a"), [pair]).numbers == (1,)
    for index in range(1, 4):
        view, move = turned(picture(1), 30 * index, 5, 5)
        tracked = counter.update(
            Frame(index, 0.0, view, str(index)), [at(move, 130, 120), at(move, 175, 120)]
        )
        assert sorted(n for n in tracked.numbers if n) == [1, 2]


def test_two_boxes_on_one_cell_of_a_later_photograph_are_that_cell() -> None:
    counter = StillFields(DECISION)
    counter.update(Frame(0, 0.0, picture(1), "a"), [detection(160, 120)])
    view, move = turned(picture(1), 60, 5, 5)
    assert counter.update(Frame(1, 0.0, view, "b"), [at(move, 160, 120), at(move, 164, 120)]).numbers == (
        1,
        1,
    )


@pytest.mark.parametrize("degrees", [0, 60, 135])
def test_lobes_boxed_apart_on_a_later_photograph_are_the_cell_that_they_are_in(degrees: float) -> None:
    counter = StillFields(DECISION)
    cell = replace(detection(160, 120), box=Box(110, 70, 100, 100))
    counter.update(Frame(0, 0.0, picture(1), "a"), [cell])
    view, move = turned(picture(1), degrees, 5, 5)
    lobes = [at(move, 150, 115), at(move, 183, 135)]
    assert counter.update(Frame(1, 0.0, view, "b"), lobes).numbers == (1, 1)
    larger = [replace(d, box=Box(d.box.x - 4, d.box.y - 4, 58, 58)) for d in lobes]
    assert counter.update(Frame(2, 0.0, view, "c"), larger).numbers == (1, 1)
    beside = [at(move, 150, 115), at(move, 225, 135)]
    assert counter.update(Frame(3, 0.0, view, "d"), beside).numbers == (1, 2)
