import csv
import hashlib
import os
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.cells import Box, Frame, Skip
from edge.errors import UserError
from edge.replay import ImageFolder, VideoFile
from edge.void import filled

FRAMES = 30
TEXTURE = cv2.GaussianBlur(np.random.default_rng(1).integers(0, 256, (96, 400, 3), dtype=np.uint8), (0, 0), 3)
"""BGR, as OpenCV writes it."""


def record(path: Path, codec: str, frames: int = FRAMES) -> Path:
    """A film of a moving texture at 15 frames per second."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), 15, (128, 96))
    for index in range(frames):
        writer.write(np.ascontiguousarray(TEXTURE[:, index * 8 : index * 8 + 128]))
    writer.release()
    return path


@pytest.fixture
def film(tmp_path: Path) -> Path:
    return record(tmp_path / "film.avi", "MJPG")


def cut(path: Path, size: int) -> Path:
    """The first `size` bytes of a file, as another file."""
    shorter = path.with_stem("cut")
    shorter.write_bytes(path.read_bytes()[:size])
    return shorter


def read(source: VideoFile) -> tuple[list[Frame], str]:
    """The frames before the error, and its text."""
    taken: list[Frame] = []

    def take() -> None:
        for frame in source.frames():
            taken.append(frame)

    with pytest.raises(UserError) as error:
        take()
    return taken, str(error.value)


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.avi", "MJPG"), ("b.avi", "XVID"), ("c.mp4", "mp4v"), ("d.mkv", "MJPG"), ("e.mjpeg", "MJPG")],
)
def test_a_whole_video_is_read_to_its_end(tmp_path: Path, name: str, codec: str) -> None:
    source = VideoFile(record(tmp_path / name, codec))
    frames = list(source.frames())
    source.close()
    assert (source.moving, source.live) == (True, False)
    # A raw stream states no length.
    assert source.length == (None if name.endswith(".mjpeg") else FRAMES)
    assert [f.index for f in frames] == list(range(FRAMES))
    assert isinstance(frames[15], Frame)
    assert frames[15].name is None
    assert frames[15].time_s == pytest.approx(15 / (25 if name.endswith(".mjpeg") else 15), abs=0.01)
    assert (frames[15].image.shape, frames[15].image.dtype) == ((96, 128, 3), np.uint8)
    assert np.abs(frames[15].image.astype(int) - TEXTURE[:, 120:248, ::-1]).mean() < 6


@pytest.mark.parametrize(("name", "codec"), [("a.avi", "MJPG"), ("b.avi", "XVID"), ("d.mkv", "MJPG")])
@pytest.mark.parametrize("share", [0.6, 0.9])
def test_a_video_that_breaks_off_gives_its_good_frames_and_an_error(
    tmp_path: Path, name: str, codec: str, share: float
) -> None:
    whole = record(tmp_path / name, codec)
    expected = list(VideoFile(whole).frames())
    frames, error = read(VideoFile(cut(whole, int(whole.stat().st_size * share))))
    assert f"breaks off at frame {len(frames) + 1} of {FRAMES};" in error
    assert 0 < len(frames) < FRAMES
    for found, true in zip(frames, expected, strict=False):
        np.testing.assert_array_equal(found.image, true.image)


def test_a_video_cut_within_its_last_frame_is_broken_off(film: Path) -> None:
    # The index at the end is 16 bytes a frame; 100 bytes before it a picture is torn.
    frames, error = read(VideoFile(cut(film, film.read_bytes().index(b"idx1") - 100)))
    assert "breaks off" in error
    assert FRAMES - 2 <= len(frames) < FRAMES


def test_a_hole_in_a_film_is_a_skip(tmp_path: Path) -> None:
    film = record(tmp_path / "a.mkv", "MJPG")
    data = bytearray(film.read_bytes())
    first, last = len(data) // 5, 4 * len(data) // 5
    data[first:last] = bytes(last - first)
    film.write_bytes(data)
    read = list(VideoFile(film).frames())
    (hole,) = (at for at, found in enumerate(read) if isinstance(found, Skip))
    assert "s of the film are missing: damaged, or not recorded" in read[hole].reason
    assert read[hole].source == f"{read[hole - 1].time_s:.1f} s", "read again, it is known"
    assert read[hole + 1].time_s - read[hole - 1].time_s > 1
    assert [f.index for f in read if isinstance(f, Frame)] == list(range(len(read) - 1))


def test_a_video_that_is_taken_away_breaks_off(film: Path) -> None:
    source = VideoFile(film)
    film.rename(film.with_stem("elsewhere"))
    frames, error = read(source)
    assert f"breaks off at frame {FRAMES} of {FRAMES};" in error
    assert len(frames) == FRAMES - 1


def test_an_mp4_cut_short_before_its_table_of_contents_is_no_video(tmp_path: Path) -> None:
    whole = record(tmp_path / "film.mp4", "mp4v")
    with pytest.raises(UserError, match="no video can be read"):
        VideoFile(cut(whole, whole.stat().st_size // 2))


def test_an_mp4_whose_last_box_states_no_size_comes_to_an_end(tmp_path: Path) -> None:
    film = record(tmp_path / "film.mp4", "mp4v")
    film.write_bytes(film.read_bytes() + (1).to_bytes(4, "big") + b"free" + bytes(8))
    assert len(list(VideoFile(film).frames())) == FRAMES


def test_an_mp4_cut_short_behind_its_table_of_contents_breaks_off(tmp_path: Path) -> None:
    data = record(tmp_path / "film.mp4", "mp4v").read_bytes()
    # Move the table (moov) before the pictures, as a phone's or a web film's: its offsets grow by its size.
    at = data.index(b"moov") - 4
    table, start = data[at:], data.index(b"ftyp") - 4 + int.from_bytes(data[:4], "big")
    offsets = table.index(b"stco") + 8
    shifted = bytearray(table)
    for entry in range(int.from_bytes(table[offsets : offsets + 4], "big")):
        place = offsets + 4 + 4 * entry
        shifted[place : place + 4] = (int.from_bytes(table[place : place + 4], "big") + len(table)).to_bytes(
            4
        )
    front = tmp_path / "front.mp4"
    front.write_bytes(data[:start] + shifted + data[start:at])
    assert len(list(VideoFile(front).frames())) == FRAMES
    frames, error = read(VideoFile(cut(front, front.stat().st_size - 100)))
    assert "breaks off" in error
    assert len(frames) in (FRAMES - 2, FRAMES - 1)


def test_a_frame_that_the_recorder_dropped_does_not_break_a_video(film: Path) -> None:
    # Recorders mark it by an empty chunk; here the 12th picture becomes one, and padding behind it.
    data = bytearray(film.read_bytes())
    entry = data.index(b"idx1") + 8 + 16 * 12
    offset, size = struct.unpack_from("<II", data, entry + 8)
    chunk = data.index(b"movi") + offset
    assert data[chunk : chunk + 8] == struct.pack("<4sI", b"00dc", size)
    struct.pack_into("<I4sI", data, chunk + 4, 0, b"JUNK", size - 8 + size % 2)
    struct.pack_into("<I", data, entry + 12, 0)
    dropped = film.with_stem("dropped")
    dropped.write_bytes(data)
    source = VideoFile(dropped)
    times = [round(f.time_s * 15) for f in source.frames() if isinstance(f, Frame)]
    assert times == [*range(12), *range(13, FRAMES)]
    assert source.length == FRAMES


def test_closing_ends_suspended_frames_and_is_safe_twice(film: Path) -> None:
    source = VideoFile(film)
    frames = source.frames()
    next(frames)
    source.close()
    source.close()
    assert list(frames) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (b"", "the file is empty"),
        (b"Dear colleague, the film is in the post. " * 50, "no video can be read"),
    ],
)
def test_a_file_that_is_no_video(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "film.avi"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=f"film.avi: {message}"):
        VideoFile(path)


def test_a_photograph_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"any")
    with pytest.raises(UserError, match=r"photo.jpg: an image; give it to --images"):
        VideoFile(path)


def test_a_folder_is_no_video(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a folder; --video names a video file"):
        VideoFile(tmp_path)


def test_a_video_without_a_picture_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no video can be read"):
        VideoFile(record(tmp_path / "film.avi", "MJPG", frames=0))


def test_a_video_too_small_to_show_a_cell_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "small.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (16, 12))
    for _ in range(5):
        writer.write(np.full((12, 16, 3), 90, np.uint8))
    writer.release()
    with pytest.raises(UserError, match=r"small\.avi: its frames are 16 x 12 pixels: too small"):
        VideoFile(path)


def save(path: Path, shade: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    good, data = cv2.imencode(path.suffix.lower(), np.full((20, 24, 3), (90, 60, 30 + shade), np.uint8))
    assert good
    path.write_bytes(data.tobytes())


def test_a_picture_of_a_kind_that_is_not_read_is_a_skip(tmp_path: Path) -> None:
    save(tmp_path / "1.png")
    (tmp_path / "2.HEIC").write_bytes(b"whatever a phone writes")
    source = ImageFolder(tmp_path)
    read, skipped = source.frames()
    assert (source.length, read.source) == (2, "1.png")
    assert isinstance(skipped, Skip)
    assert "convert it to .png" in skipped.reason


def test_images_come_in_natural_order_with_their_names(tmp_path: Path) -> None:
    names = ["10.png", "9.PNG", "field 2.bmp", "field 10.tif", "sub/1.png", "Größe/Blut 血.webp", "a²3.png"]
    for number, name in enumerate(names):
        save(tmp_path / name, number * 10)
    for other in ("notes.txt", ".hidden.png", ".cache/1.png", "cells.csv"):
        save(tmp_path / "x.png")
        (tmp_path / other).parent.mkdir(exist_ok=True)
        (tmp_path / "x.png").rename(tmp_path / other)
    source = ImageFolder(tmp_path)
    frames = list(source.frames())
    order = ["9.PNG", "10.png", "a²3.png", "field 2.bmp", "field 10.tif", "Größe/Blut 血.webp", "sub/1.png"]
    assert (source.moving, source.live, source.length) == (False, False, len(order))
    assert [f.name for f in frames if isinstance(f, Frame)] == order
    assert [f.index for f in frames] == list(range(len(order)))
    assert [f.source for f in frames] == order
    for frame in frames:
        assert isinstance(frame, Frame)
        assert abs(int(frame.image[5, 5, 0]) - 30 - 10 * names.index(str(frame.name))) <= 2
        assert frame.image[5, 5, 2] == pytest.approx(90, abs=2)


def test_one_image_file(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    save(tmp_path / "b.png")
    (frame,) = ImageFolder(tmp_path / "b.png").frames()
    assert frame.source == "b.png"


def test_images_that_cannot_be_had_are_skips_with_an_index(tmp_path: Path) -> None:
    save(tmp_path / "1.png")
    save(tmp_path / "3.png")
    (tmp_path / "2.jpg").write_bytes(b"")
    (tmp_path / "4.png").mkdir()
    (tmp_path / "4.png" / "5.jpg").symlink_to(tmp_path / "nowhere.jpg")
    os.mkfifo(tmp_path / "6.tif")
    found = list(ImageFolder(tmp_path).frames())
    assert [type(f) for f in found] == [Frame, Skip, Frame, Skip, Skip]
    assert [f.index for f in found] == [0, 1, 2, 3, 4]
    skips = [f for f in found if isinstance(f, Skip)]
    assert [(s.source, s.reason) for s in skips] == [
        ("2.jpg", "empty: no data"),
        ("4.png/5.jpg", "not a file"),
        ("6.tif", "not a file"),
    ]


def test_a_file_too_large_to_read_is_skipped_unread(tmp_path: Path) -> None:
    with (tmp_path / "huge.tif").open("wb") as file:
        file.truncate(500_000_000)
    (skip,) = ImageFolder(tmp_path).frames()
    assert isinstance(skip, Skip)
    assert skip.reason == "more than 400 MB"


@pytest.mark.parametrize("light", [0, 120, 255])
def test_a_picture_is_read_without_the_plain_frame_around_it(tmp_path: Path, light: int) -> None:
    framed = cv2.copyMakeBorder(TEXTURE, 90, 400, 300, 50, cv2.BORDER_CONSTANT, value=(light,) * 3)
    cv2.imwrite(str(tmp_path / "framed.png"), framed)
    (frame,) = ImageFolder(tmp_path).frames()
    assert isinstance(frame, Frame)
    assert np.array_equal(frame.image, TEXTURE[..., ::-1])
    assert (frame.corner, frame.empty) == ((300, 90), None)
    assert frame.from_source(frame.to_source(Box(1, 2, 3, 4))) == Box(1, 2, 3, 4)


def test_an_image_is_told_from_others_by_what_its_file_shows(tmp_path: Path) -> None:
    for number, last in enumerate((0, 0, 1)):
        framed = cv2.copyMakeBorder(TEXTURE, *(20,) * 4, cv2.BORDER_CONSTANT)
        framed[-30, -30] ^= 64 * last
        cv2.imwrite(str(tmp_path / f"{number}.png"), framed)
    first, second, third = (f.content for f in ImageFolder(tmp_path).frames() if isinstance(f, Frame))
    assert first == second != third
    stored = cv2.imread(str(tmp_path / "0.png"), cv2.IMREAD_COLOR_RGB)
    earlier = hashlib.blake2b(filled(np.asarray(stored, np.uint8)).tobytes(), digest_size=8)
    assert first == earlier.hexdigest(), "as specimens that were begun before know it"


def test_a_name_in_no_encoding_can_still_be_stored(tmp_path: Path) -> None:
    save(tmp_path / "x.png")
    os.rename(tmp_path / "x.png", os.fsencode(tmp_path) + b"/\xff.png")
    (frame,) = ImageFolder(tmp_path).frames()
    assert frame.source == "\ufffd.png"
    assert frame.source.encode()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere", "no such folder or file"),
        ("empty", "no image in it"),
        ("empty/letter.txt", "no image in it"),
    ],
)
def test_no_images(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "letter.txt").write_text("Dear colleague")
    with pytest.raises(UserError, match=message):
        ImageFolder(tmp_path / name)


def test_closing_ends_suspended_images_and_is_safe_twice(tmp_path: Path) -> None:
    for name in "abc":
        save(tmp_path / f"{name}.png")
    source = ImageFolder(tmp_path)
    frames = source.frames()
    next(frames)
    source.close()
    source.close()
    assert list(frames) == []


def test_real_images_are_whole(shared_data: Path, tmp_path: Path) -> None:
    with (shared_data / "cells.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] in ("validation", "other-laboratory")]
    for number, row in enumerate(rows[::40]):
        original = shared_data / "cells" / row["file"]
        (tmp_path / f"{number}{original.suffix}").symlink_to(original)
    found = list(ImageFolder(tmp_path).frames())
    assert len(found) > 50
    assert not [f for f in found if isinstance(f, Skip)]


def test_linked_folders_are_read_once(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "images", tmp_path / "elsewhere"
    save(folder / "1.png")
    save(elsewhere / "2.png")
    (folder / "again").symlink_to(elsewhere)
    (folder / "linked").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(folder)
    assert [frame.source for frame in ImageFolder(folder).frames()] == ["1.png", "again/2.png"]


@pytest.mark.parametrize(
    ("times_s", "holes"),
    [
        ([5.0 * n for n in range(20)], 0),  # a time-lapse film, whatever rate its container states
        ([n / 15 for n in range(20)] + [n / 15 + 3 for n in range(20, 40)], 1),
        ([n / 15 for n in range(20)] + [n / 15 + 0.8 for n in range(20, 40)], 0),  # a recorder that was busy
        ([n / 2 for n in range(20)] + [n / 2 + 3 for n in range(20, 40)], 0),
    ],
)
def test_a_gap_is_measured_by_those_before(film: Path, times_s: list[float], holes: int) -> None:
    source = VideoFile(film)
    times = iter(times_s[1:])
    image = np.zeros((96, 128, 3), np.uint8)

    def read() -> tuple[float, np.ndarray] | None:
        return next(((time_s, image) for time_s in times), None)

    source._ahead, source._read = (times_s[0], image), read  # type: ignore[method-assign]
    source.length = None
    assert sum(isinstance(found, Skip) for found in source.frames()) == holes
