import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.cells import Frame, Skip
from edge.errors import UserError
from edge.replay import ImageFolder, VideoFile

RNG = np.random.default_rng(0)
PICTURE = cv2.GaussianBlur(RNG.integers(0, 256, (60, 80, 3), np.uint8), (0, 0), 2)  # BGR


def write(file: Path, image: np.ndarray, *options: int) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    _, data = cv2.imencode(file.suffix, image, list(options))
    file.write_bytes(data.tobytes())
    return file


def only(path: Path) -> Frame | Skip:
    (frame,) = ImageFolder(path).frames()
    return frame


def test_images_come_in_natural_order_with_their_names(tmp_path: Path) -> None:
    for name in ("b10.png", "b2.png", "A/ä 1.bmp", "notes.txt"):
        write(tmp_path / name, PICTURE) if not name.endswith("txt") else (tmp_path / name).write_text("x")
    source = ImageFolder(tmp_path)
    frames = list(source.frames())
    assert [f.source for f in frames] == ["A/ä 1.bmp", "b2.png", "b10.png"]
    assert [f.index for f in frames] == [0, 1, 2]
    assert source.length == 3
    assert np.array_equal(frames[1].image, PICTURE[..., ::-1])


def test_one_image_is_a_folder_of_one(tmp_path: Path) -> None:
    frame = only(write(tmp_path / "a.png", PICTURE))
    assert frame.source == "a.png"


@pytest.mark.parametrize(("bits", "peak"), [(16, 65535), (12, 4095), (10, 1023)])
def test_sixteen_bit_images_are_scaled_by_the_bits_in_use(tmp_path: Path, bits: int, peak: int) -> None:
    image = (PICTURE.astype(np.uint32) * peak // 255).astype(np.uint16)
    image[0, 0] = peak
    frame = only(write(tmp_path / "a.png", image))
    assert np.abs(frame.image.astype(int) - PICTURE[..., ::-1])[1:].max() <= 1


def test_transparency_is_laid_over_white(tmp_path: Path) -> None:
    image = np.dstack([PICTURE, np.full((60, 80), 255, np.uint8)])
    image[:, :40, 3] = 0
    frame = only(write(tmp_path / "a.png", image))
    assert (frame.image[:, :40] == 255).all()
    assert np.array_equal(frame.image[:, 40:], PICTURE[:, 40:, ::-1])


def test_a_cmyk_jpeg_keeps_its_colours() -> None:
    frame = only(Path(__file__).parent / "data" / "cmyk.jpg")
    left, right = frame.image[20, 10].astype(int), frame.image[20, 50].astype(int)
    assert left == pytest.approx([200, 60, 40], abs=30)
    assert right == pytest.approx([60, 40, 160], abs=30)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("share", [0.3, 0.9, 0.99])
def test_a_truncated_image_is_skipped(tmp_path: Path, suffix: str, share: float) -> None:
    file = write(tmp_path / f"a{suffix}", PICTURE)
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    assert only(file) == Skip(0, file.name, "truncated")


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (np.zeros((1, 1, 3), np.uint8), "only 1 x 1 pixels"),
        (np.zeros((200, 9, 3), np.uint8), "only 9 x 200 pixels"),
        (PICTURE[..., 0], "grey"),
        (np.repeat(PICTURE[..., :1], 3, axis=2), "grey"),
    ],
)
def test_what_cannot_be_counted_is_skipped_with_the_reason(
    tmp_path: Path, image: np.ndarray, reason: str
) -> None:
    skip = only(write(tmp_path / "a.png", image))
    assert isinstance(skip, Skip)
    assert reason in skip.reason


@pytest.mark.parametrize(
    ("content", "reason"), [(b"", "empty file"), (b"Dear colleague", "not a readable image")]
)
def test_what_is_no_image_is_skipped(tmp_path: Path, content: bytes, reason: str) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(content)
    assert only(file) == Skip(0, "a.png", reason)


def test_a_forbidden_file_is_skipped(tmp_path: Path) -> None:
    os.symlink("a.png", tmp_path / "a.png")  # points to itself: cannot be read, even by root
    write(tmp_path / "b.png", PICTURE)
    assert [f.source for f in ImageFolder(tmp_path).frames()] == ["b.png"]


def test_a_folder_without_images_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no image there"):
        ImageFolder(tmp_path)


@pytest.fixture
def film(tmp_path: Path) -> Path:
    path = tmp_path / "film.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (80, 60))
    for level in range(40):
        writer.write(np.full((60, 80, 3), (6 * level, 0, 200), np.uint8))
    writer.release()
    return path


def test_a_film_gives_its_frames_in_rgb(film: Path) -> None:
    source = VideoFile(film)
    frames = list(source.frames())
    assert (source.length, len(frames)) == (40, 40)
    assert frames[20].image[30, 40] == pytest.approx([200, 0, 120], abs=8)
    assert frames[20].time_s == pytest.approx(2.0)
    source.close()
    source.close()


def test_a_film_that_breaks_off_gives_its_good_frames_and_an_error(film: Path) -> None:
    content = film.read_bytes()
    film.write_bytes(content[: len(content) // 2])
    frames = VideoFile(film).frames()
    good = [next(frames) for _ in range(5)]
    assert [f.index for f in good] == list(range(5))
    with pytest.raises(UserError, match="breaks off at frame"):
        list(frames)


@pytest.mark.parametrize("content", [b"", b"Dear colleague" * 100])
def test_what_is_no_film_is_an_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "film.mp4"
    path.write_bytes(content)
    with pytest.raises(UserError, match="not a film"):
        VideoFile(path)


def test_a_missing_film_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        VideoFile(tmp_path / "film.mp4")
