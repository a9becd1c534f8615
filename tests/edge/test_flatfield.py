import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.quality import shading
from edge.cells import Frame, Image, Skip
from edge.config import Config
from edge.demo import DemoSource
from edge.errors import UserError
from edge.flatfield import FlatField, read_flat_field, take_flat_field, write_flat_field
from edge.gates import Gate
from edge.quality import Inspector
from edge.replay import ImageFolder
from edge.ruler import RED_CELL_UM
from edge.run import Stop, _take_flat_field

SIZE = (480, 640)
RNG = np.random.default_rng(0)


def lamp(corners: float = 0.5) -> np.ndarray:
    """A light that falls to `corners` there, off the middle and different by channel."""
    y, x = np.meshgrid(np.linspace(-1, 1, SIZE[0]), np.linspace(-1.2, 0.8, SIZE[1]), indexing="ij")
    fall = (x * x + y * y) / 2.44
    return np.stack([1 - (1 - corners) * share * fall for share in (1, 0.9, 0.8)], axis=2)


def empty(light: np.ndarray, count: int = 32) -> list[Frame]:
    """Frames of an empty spot, with the noise of a camera."""
    white = np.array([235, 225, 215]) * light
    return [
        Frame(i, 0.0, np.clip(white + RNG.normal(0, 2.5, white.shape), 0, 255).astype(np.uint8))
        for i in range(count)
    ]


@pytest.fixture(scope="module")
def film() -> list[Image]:
    frames = DemoSource(pace=False).frames()
    return [frame.image for frame, _ in zip(frames, range(200), strict=False)][::5]


def test_corrected_frames_are_those_of_an_even_light(film: list[Image], tmp_path: Path) -> None:
    light = lamp()
    write_flat_field(tmp_path / "flat.png", take_flat_field(empty(light)))
    field = read_flat_field(tmp_path / "flat.png")
    for image in film[:5]:
        shaded = np.rint(image * light).astype(np.uint8)
        assert np.abs(shaded.astype(int) - image).mean() > 15
        difference = np.abs(field.correct(shaded).astype(int) - image)
        assert difference.mean() < 1.0
        assert np.percentile(difference, 99) <= 3


def test_the_gate_asks_for_a_field_and_is_content_with_it(film: list[Image]) -> None:
    light = lamp()
    field = FlatField(take_flat_field(empty(light)))
    uneven, even = (Inspector(RED_CELL_UM / 50, steady=True) for _ in range(2))
    for image in film:
        shaded = np.rint(image * light).astype(np.uint8)
        before, after = uneven.inspect(shaded), even.inspect(field.correct(shaded))
    assert before.warnings == (Gate.UNEVEN,)
    assert after.warnings == ()


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        ([], "no picture"),
        ([Skip(0, "a.png", "truncated")], "a.png: truncated"),
        (empty(1.2 * np.ones((*SIZE, 3)), 1), "over-exposed"),
        (empty(0.2 * np.ones((*SIZE, 3)), 1), "too dark"),
        ([*empty(lamp(), 1), Frame(1, 0.0, np.full((64, 64, 3), 220, np.uint8))], "differ in size"),
        (empty(lamp(0.05), 1), "darkest part has"),
    ],
)
def test_what_is_no_empty_spot_in_good_light_is_refused(frames: list[Frame | Skip], words: str) -> None:
    with pytest.raises(UserError, match=words):
        take_flat_field(frames)


def test_cells_are_no_empty_spot(film: list[Image]) -> None:
    cells = np.rint(0.9 * film[9]).astype(np.uint8)
    blurred = np.asarray(cv2.GaussianBlur(cells, (0, 0), 8), np.uint8)
    for image in (cells, blurred, shading(cells, 30, 95, RNG)):
        with pytest.raises(UserError, match="move to an empty spot"):
            take_flat_field([Frame(0, 0.0, image)])


def test_a_field_of_another_size_says_so() -> None:
    field = FlatField(np.ones((48, 64, 3), np.float32), "flat.png")
    with pytest.raises(UserError, match=r"flat\.png: taken at 64 x 48 pixels, the picture has 640 x 480"):
        field.correct(np.zeros((*SIZE, 3), np.uint8))


def test_skips_pass_and_frames_keep_their_names() -> None:
    field = FlatField(np.full((48, 64, 3), 0.5, np.float32))
    skip, frame = Skip(0, "a", "truncated"), Frame(1, 0.5, np.full((48, 64, 3), 100, np.uint8), "b")
    first, second = field.corrected([skip, frame])
    assert first is skip
    assert isinstance(second, Frame)
    assert (second.index, second.time_s, second.name, second.image.min()) == (1, 0.5, "b", 200)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "No such file"),
        (b"", "not a flat field"),
        (b"Dear colleague", "not a flat field"),
        (cv2.imencode(".png", np.full((48, 64, 3), 255, np.uint8))[1].tobytes(), "not a flat field"),
        (cv2.imencode(".png", np.zeros((48, 64, 3), np.uint16))[1].tobytes(), "darkest part has 0 %"),
    ],
)
def test_a_file_that_is_no_field_is_told(tmp_path: Path, content: bytes | None, words: str) -> None:
    file = tmp_path / "flat.png"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UserError, match=words):
        read_flat_field(file)


def test_the_command_takes_a_field_and_a_count_uses_it(tmp_path: Path) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    for frame in empty(lamp(), 3):
        cv2.imwrite(str(folder / f"{frame.index}.png"), cv2.cvtColor(frame.image, cv2.COLOR_RGB2BGR))
    command = [sys.executable, "-m", "edge.run", "--images", str(folder), "--headless"]
    command += ["--database", str(tmp_path / "c.sqlite")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def run(*options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *options], capture_output=True, text=True, env=environment, check=False, timeout=60
        )

    taken = run("--flat-field")
    assert (taken.returncode, taken.stderr) == (0, "")
    assert str(tmp_path / "flat-field.png") in taken.stdout
    assert not (tmp_path / "c.sqlite").exists()
    assert run("--flat-field-file", str(tmp_path / "flat-field.png")).returncode == 0
    missing = run("--flat-field-file", str(tmp_path / "nowhere.png"))
    assert (missing.returncode, "nowhere.png: No such file" in missing.stderr) == (1, True)


def test_one_red_cell_is_no_empty_spot_and_a_grain_of_dust_is() -> None:
    for radius, taken in ((22, False), (5, True)):
        frames = empty(lamp(), 2)
        for frame in frames:
            cv2.circle(frame.image, (300, 200), radius, (170, 130, 140), -1)
        if taken:
            take_flat_field(frames)
        else:
            with pytest.raises(UserError, match="move to an empty spot"):
                take_flat_field(frames)


def test_an_interrupted_field_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    for frame in empty(lamp(), 2):
        cv2.imwrite(str(tmp_path / "empty" / f"{frame.index}.png"), frame.image)
    folder, file = tmp_path / "empty", tmp_path / "flat-field.png"
    stop = Stop()
    frames = ImageFolder.frames

    def frames_and_interrupt(self: ImageFolder) -> Iterator[Frame | Skip]:
        for frame in frames(self):
            yield frame
            stop._caught(signal.SIGINT, None)

    monkeypatch.setattr(ImageFolder, "frames", frames_and_interrupt)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    config = Config(images=folder, flat_field=True, flat_field_file=file)
    assert _take_flat_field(config, stop) == 128 + signal.SIGINT
    assert not file.exists()
    assert "no flat field was taken" in capsys.readouterr().err
