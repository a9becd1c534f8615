"""Frames from files: a film of a moving stage, or a folder of fields of view."""

import re
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.cells import Frame, Image, Skip
from edge.errors import UserError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp"})
_LEAST_SIDE, _MOST_PIXELS = 16, 100_000_000
_ENDS = {b"\xff\xd8\xff": b"\xff\xd9", b"\x89PNG": b"IEND\xaeB`\x82"}
"""How a whole file of a kind ends, by how it begins. The decoder fills what is missing with grey."""


class ImageFolder:
    """Each image of a folder (its subfolders too), or one image, as a field of view of its own.

    Frames are in natural order of their names (2 before 10), and are named by their path in the
    folder. Pixels are as stored: a turn noted in EXIF is not applied, so boxes fit what other programs read.

    Raises:
        UserError: the path does not exist, or holds no image.
    """

    moving = False
    live = False

    def __init__(self, path: Path) -> None:
        if not path.exists():
            raise UserError(
                f"{path}: no such file or folder; --images names a folder of images, or one image"
            )
        self._root = path if path.is_dir() else path.parent
        files = path.rglob("*") if path.is_dir() else [path]
        self._files = sorted((f for f in files if f.suffix.lower() in SUFFIXES and f.is_file()), key=_natural)
        if not self._files:
            raise UserError(f"{path}: no image there; known are {', '.join(sorted(SUFFIXES))}")
        self.length: int | None = len(self._files)

    def frames(self) -> Iterator[Frame | Skip]:
        """Yield a frame for each image, and a skip for each that is not a whole colour image."""
        for index, file in enumerate(self._files):
            name = file.relative_to(self._root).as_posix()
            try:
                yield Frame(index, 0.0, read_image(file), name)
            except UserError as error:
                yield Skip(index, name, str(error))

    def close(self) -> None:
        """Nothing is held open."""


class VideoFile:
    """A film of a moving stage.

    Raises:
        UserError: the file is missing, or is not a film.
    """

    moving = True
    live = False

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise UserError(f"{path}: no such file; --video names a film")
        self._path = path
        self._capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
        if not self._capture.isOpened():
            raise UserError(f"{path}: not a film that can be read; MP4 or AVI files are")
        stated = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.length: int | None = stated if stated > 0 else None

    def frames(self) -> Iterator[Frame | Skip]:
        """Yield the frames.

        Raises:
            UserError: the film has no frame, or ends before the length that it states. Some
                containers state an estimate: 1 % (or 2 frames) less passes.
        """
        fps = self._capture.get(cv2.CAP_PROP_FPS) or 25.0
        index = 0
        while self._capture.isOpened():
            good, image = self._capture.read()
            if not good:
                break
            yield Frame(index, index / fps, np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8))
            index += 1
        stated = self.length or 1
        if index < stated - max(2, 0.01 * stated) or index == 0:
            raise UserError(
                f"{self._path}: the film breaks off at frame {index} of {stated}; copy the file again. "
                "What was counted until there is kept"
            )

    def close(self) -> None:
        """Release the file."""
        self._capture.release()


def read_image(file: Path) -> Image:
    """Return a whole colour image file as RGB (height, width, 3).

    16-bit images are scaled by the brightest bit in use; transparency is laid over white.

    Raises:
        UserError: why it cannot be one, in a few words.
    """
    raw = _decode(_whole_file(file))
    height, width = raw.shape[:2]
    if min(height, width) < _LEAST_SIDE:
        raise UserError(f"only {width} x {height} pixels")
    image = _eight_bits(raw) if raw.ndim == 3 and raw.shape[2] >= 3 else np.zeros((1, 1, 3), np.uint8)
    if image.shape[2] == 4:
        share = image[..., 3:].astype(np.float32) / 255
        image = np.asarray(share * image[..., :3] + (1 - share) * 255, np.uint8)
    if np.ptp(image.astype(np.int16), axis=2).max() == 0:
        raise UserError("a grey image: without colour there is no stain")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def _whole_file(file: Path) -> bytes:
    try:
        data = file.read_bytes()
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror})") from None
    if not data:
        raise UserError("empty file")
    if any(data.startswith(begin) and end not in data[-4096:] for begin, end in _ENDS.items()):
        raise UserError("truncated")
    return data


def _decode(data: bytes) -> NDArray[np.generic]:
    flags = cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        raw = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:  # larger than OpenCV's own limit, or inconsistent inside
        raw = None
    if raw is None:
        raise UserError("not a readable image")
    if raw.shape[0] * raw.shape[1] > _MOST_PIXELS:
        raise UserError(f"{raw.shape[1]} x {raw.shape[0]} pixels are more than 100 million")
    return np.asarray(raw)


def _eight_bits(raw: NDArray[np.generic]) -> Image:
    if raw.dtype == np.uint8:
        return np.asarray(raw)
    values = raw.astype(np.float32)
    top = float(values.max())
    # A camera of 10, 12 or 14 bits leaves the upper ones of its 16 empty.
    full = 2 ** np.ceil(np.log2(top + 1)) - 1 if raw.dtype == np.uint16 and top > 255 else max(top, 1.0)
    return np.asarray(np.clip(values / full * 255, 0, 255), np.uint8)


def _natural(file: Path) -> list[tuple[int, str]]:
    parts = re.split(r"(\d+)", file.as_posix().lower())
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]
