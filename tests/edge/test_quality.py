from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.quality import blur, crowded, motion, over, shading, stain, under
from edge.cells import Frame, Image
from edge.demo import DemoSource
from edge.gates import ADVICE, Gate, Gates, Verdict
from edge.quality import Inspector, measure
from edge.replay import VideoFile
from edge.ruler import RED_CELL_UM
from training.data import read_image

RED_PX = 50.0
CELL_PX = 95.0
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def film() -> list[Image]:
    """Every sixth frame of the demo's beginning."""
    frames = DemoSource(pace=False).frames()
    return [frame.image for frame, _ in zip(frames, range(240), strict=False)][::6]


@pytest.fixture
def session(film: list[Image]) -> Inspector:
    """An inspector that has seen the film."""
    inspector = Inspector(RED_CELL_UM / RED_PX, steady=True)
    for image in film:
        inspector.inspect(image)
    return inspector


def test_good_frames_pass_without_a_word(film: list[Image]) -> None:
    inspector = Inspector(RED_CELL_UM / RED_PX, steady=True)
    assert [inspector.inspect(image) for image in film] == [Verdict()] * len(film)


@pytest.mark.parametrize(
    ("fault", "amount", "gate"),
    [
        (blur, 25, Gate.FOCUS),
        (motion, 30, Gate.MOTION),
        (over, 2, Gate.OVER),
        (under, 6, Gate.UNDER),
        (crowded, 3, Gate.CROWDED),
    ],
)
def test_a_spoiled_frame_is_refused(
    session: Inspector, film: list[Image], fault: Callable[..., Image], amount: float, gate: Gate
) -> None:
    verdict = session.inspect(fault(film[20], amount, CELL_PX, RNG))
    assert (verdict.refused, verdict.warnings) == (gate, ())
    assert verdict.message == f"{gate}: {ADVICE[gate]}"
    assert session.inspect(film[21]) == Verdict()


@pytest.mark.parametrize(("ending", "code"), [("avi", "MJPG"), ("mp4", "mp4v")])
def test_a_burnt_out_frame_is_refused_in_a_film_too(
    session: Inspector, film: list[Image], tmp_path: Path, ending: str, code: str
) -> None:
    """Its colours are coded as brightness and two differences: white comes back as 253 or 250."""
    burnt = over(film[20], 2, CELL_PX, RNG)
    file = tmp_path / f"film.{ending}"
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter.fourcc(*code), 15, burnt.shape[1::-1])
    for _ in range(3):
        writer.write(cv2.cvtColor(burnt, cv2.COLOR_RGB2BGR))
    writer.release()
    frame = next(f for f in VideoFile(file).frames() if isinstance(f, Frame))
    assert session.inspect(frame.image).refused is Gate.OVER


@pytest.mark.parametrize(
    ("fault", "amount", "gate"),
    [
        (shading, 60, Gate.UNEVEN),
        (stain, 0.2, Gate.PALE),
        (under, 2.5, Gate.UNDER),
        (over, 1.3, Gate.OVER),
    ],
)
def test_a_session_is_warned_of_what_all_its_frames_have(
    film: list[Image], fault: Callable[..., Image], amount: float, gate: Gate
) -> None:
    inspector = Inspector(RED_CELL_UM / RED_PX, steady=True)
    verdicts = [inspector.inspect(fault(image, amount, CELL_PX, RNG)) for image in film]
    assert gate in verdicts[-1].warnings
    assert verdicts[-1].refused is None


@pytest.mark.parametrize(
    ("wrong", "told"), [(0.5, True), (0.8, False), (1.0, False), (1.25, False), (2.0, True)]
)
def test_a_session_is_warned_of_a_scale_that_its_red_cells_contradict(
    film: list[Image], wrong: float, told: bool
) -> None:
    inspector = Inspector(wrong * RED_CELL_UM / RED_PX, steady=True)
    verdicts = [inspector.inspect(image) for image in film]
    assert (Gate.SCALE in verdicts[-1].warnings) is told
    assert all(Gate.SCALE not in verdict.warnings for verdict in verdicts[:29])
    assert {verdict.refused for verdict in verdicts} == {None}


def test_where_a_wrong_scale_makes_all_seem_blurred_the_scale_is_told(film: list[Image]) -> None:
    inspector = Inspector(6 * RED_CELL_UM / RED_PX, steady=True)
    refused = [inspector.inspect(image).refused for image in film]
    assert Gate.FOCUS in refused[:30]
    assert Gate.SCALE in refused[30:]
    assert Gate.FOCUS not in refused[30:]


def test_a_session_is_warned_of_a_dark_stain(shared_data: Path) -> None:
    inspector = Inspector(RED_CELL_UM / 71, steady=True)
    for image in 3 * crops(shared_data)[:12]:
        verdict = inspector.inspect(stain(image, 5, 136, RNG))
    assert Gate.DARK in verdict.warnings


def test_an_empty_spot_is_sparse_and_not_blurred(session: Inspector) -> None:
    shade = session.light.shade((480, 640))
    assert shade is not None
    empty = np.clip(RNG.normal(220, 2, (480, 640, 3)) * shade[..., None], 0, 255).astype(np.uint8)
    assert session.inspect(empty) == Verdict(None, (Gate.SPARSE,))


def test_the_width_of_edges_knows_neither_light_nor_pixels(film: list[Image]) -> None:
    image = film[20]
    width = measure(image, RED_PX).width
    assert measure(under(image, 2, CELL_PX, RNG), RED_PX).width == pytest.approx(width, rel=0.03)
    twice = np.asarray(cv2.resize(image, None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR), np.uint8)
    assert measure(twice, 2 * RED_PX).width == pytest.approx(width, rel=0.1)


def test_edges_widen_with_the_blur(film: list[Image]) -> None:
    widths = [measure(blur(film[20], percent, CELL_PX, RNG), RED_PX).width for percent in (2, 8, 15, 25, 40)]
    assert widths == sorted(widths)
    assert widths[-1] > 3 * widths[0]


def crops(shared_data: Path) -> list[Image]:
    """Some crops of each laboratory."""
    cells = shared_data / "cells"
    files = [sorted((cells / kind).glob("*.jpg"))[:12] for kind in ("pbc/neutrophil", "pbc/platelet", "bccd")]
    files.append(sorted(file for file in (cells / "zheng1").glob("*.png") if "mask" not in file.name)[:12])
    return [read_image(file) for some in files for file in some]


def test_no_crop_of_any_laboratory_is_refused_as_a_single_image(shared_data: Path) -> None:
    inspector = Inspector(steady=False)
    images = crops(shared_data)
    assert len(images) == 48
    for image in images:
        assert inspector.inspect(image).refused is None
        rows, columns = (slice(length // 3, 2 * length // 3) for length in image.shape[:2])
        tight = np.asarray(cv2.resize(image[rows, columns], (224, 224)), np.uint8)
        assert inspector.inspect(tight).refused is None


def test_a_single_image_that_nobody_could_read_is_refused(shared_data: Path) -> None:
    inspector = Inspector(steady=False)
    # Zheng's pixels that are quite black stay so at any light.
    for image in crops(shared_data)[:36]:
        cell = image.shape[1] / 3
        assert inspector.inspect(over(image, 8, cell, RNG)).refused is Gate.OVER
        assert inspector.inspect(under(image, 9, cell, RNG)).refused is Gate.UNDER
    # A red cell of these spans 71 pixels: of lobes and granules nothing is left.
    for image in crops(shared_data)[:12]:
        gone = np.asarray(cv2.GaussianBlur(image, (0, 0), 0.35 * 71), np.uint8)
        assert inspector.inspect(gone).refused is Gate.FOCUS


def test_frames_are_counted_by_gate() -> None:
    gates = Gates()
    for verdict in (
        Verdict(),
        Verdict(Gate.FOCUS),
        Verdict(Gate.FOCUS),
        Verdict(None, (Gate.PALE, Gate.SPARSE)),
    ):
        gates.add(verdict)
    assert gates.refused == {"out of focus": 2}
    assert gates.warned == {"stain too pale": 1, "too sparse": 1}


@pytest.mark.parametrize("side", [16, 17, 40, 3000])
def test_any_size_is_judged(side: int) -> None:
    image = RNG.integers(0, 255, (side, 2 * side, 3), np.uint8)
    Inspector(steady=True).inspect(image)
    Inspector(steady=False).inspect(image)


@pytest.mark.parametrize("size", [(16, 400), (3000, 64), (2000, 20)])
def test_a_strip_is_judged(size: tuple[int, int]) -> None:
    strip = RNG.integers(0, 255, (*size, 3), np.uint8)
    Inspector(steady=True).inspect(strip)
    Inspector(steady=False).inspect(strip)


def test_a_picture_without_colour_is_refused_and_bare_grey_glass_is_not(film: list[Image]) -> None:
    rng = np.random.default_rng(1)
    grey = np.repeat(film[10].mean(axis=2, keepdims=True), 3, axis=2)
    noisy = np.clip(grey + rng.integers(-1, 2, grey.shape), 0, 255).astype(np.uint8)
    glass = np.clip(rng.normal(228, 2, film[10].shape), 0, 255).astype(np.uint8)
    for steady in (True, False):
        assert Inspector(steady=steady).inspect(noisy).refused is Gate.COLOURLESS
        assert Inspector(steady=steady).inspect(glass).refused is None


def test_blur_that_lasts_does_not_become_usual(film: list[Image], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.quality._REMEMBERED", 40)
    inspector = Inspector(RED_CELL_UM / RED_PX, steady=True)
    for image in film[:40]:
        inspector.inspect(image)
    blurred = [blur(image, 25, CELL_PX, RNG) for image in film[:20]]
    assert {inspector.inspect(image).refused for image in 4 * blurred} == {Gate.FOCUS}
    assert inspector.inspect(film[40 % len(film)]) == Verdict()


def test_the_dim_blue_of_a_warm_lamp_is_not_under_exposed(film: list[Image]) -> None:
    inspector = Inspector(RED_CELL_UM / RED_PX, steady=True)
    for image in film:
        warm = (image * np.array((1.0, 0.75, 0.1))).astype(np.uint8)
        verdict = inspector.inspect(warm)
        assert Gate.UNDER not in (verdict.refused, *verdict.warnings)
    dead = film[0] * np.array((1, 1, 0), np.uint8)
    assert inspector.inspect(dead).refused is Gate.UNDER


def specks(rng: np.random.Generator) -> Image:
    """Bare glass with dirt on it."""
    glass = np.clip(rng.normal(225, 1.5, (480, 640, 3)), 0, 255)
    for x, y in rng.integers((0, 0), (640, 480), (25, 2)):
        cv2.circle(glass, (int(x), int(y)), int(rng.integers(2, 6)), (60, 60, 60), -1)
    return glass.astype(np.uint8)


@pytest.mark.parametrize(("beginning", "after"), [("specks", 40), ("half the magnification", 560)])
def test_what_a_session_begins_with_does_not_refuse_the_smear(
    film: list[Image], beginning: str, after: int
) -> None:
    inspector, rng = Inspector(steady=True), np.random.default_rng(1)
    for number in range(45):
        small = cv2.resize(
            np.tile(film[number % len(film)], (2, 2, 1)), (640, 480), interpolation=cv2.INTER_AREA
        )
        inspector.inspect(specks(rng) if beginning == "specks" else small)
    soft = [cv2.GaussianBlur(image, (0, 0), 1.5) for image in film]
    refused = [inspector.inspect(soft[i % len(soft)]).refused for i in range(after)]
    assert set(refused[-40:]) == {None}


def test_a_scale_that_is_given_is_the_ruler(film: list[Image]) -> None:
    """Edges are judged in red cells: said to be half as large, these cells have blurred ones."""
    soft = blur(film[0], 30, CELL_PX, RNG)
    for red_px, refused in ((RED_PX, None), (RED_PX / 2, Gate.FOCUS)):
        assert Inspector(RED_CELL_UM / red_px, steady=True).inspect(soft).refused is refused
