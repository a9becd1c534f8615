"""Frames from files: a video of a moving stage, or images, each a field of view of its own."""

import hashlib
import os
import re
import statistics
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import cv2

from edge.cells import Frame, Image, Skip
from edge.errors import UserError
from edge.imagefile import MIN_SIDE_PX, BadImage, decode_image, rgb
from edge.void import fill, filled, within_frame

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".bmp", ".dib", ".webp"})
"""Files of a folder with other endings are passed over, but for `UNREAD`."""
UNREAD = frozenset(
    {
        *(".gif", ".ppm", ".pgm", ".pnm", ".heic", ".heif", ".avif", ".jp2", ".j2k", ".jxl", ".mpo"),
        *(".exr", ".psd"),
        *(".raw", ".dng", ".nef", ".cr2", ".cr3", ".arw", ".svs", ".ndpi", ".czi", ".lif", ".nd2"),
    }
)
"""Endings of pictures that are not read: each is a skip."""
MAX_BYTES = 400_000_000
"""Of one image file; as many as the largest image has uncompressed."""
_LONGEST_VIDEO = 10_000_000
"""Frames: 4 days at 30 per second; a container that states more states nonsense."""
_LONGEST_GAP_S, _LONGEST_GAP, _GAPS = 1.0, 10, 31
"""Between two frames of a whole film: a second, or ten times what is usual among the last ones (a time-lapse
film has fewer frames); a recorder drops some where it is busy."""


class VideoFile:
    """The frames of a video file: a `FrameSource`.

    Its end must be where the container says. AVI and MP4 state the number of frames, but a recorder
    that dropped some, or an editor that cut some off, leaves it too high; others state the duration,
    from which OpenCV estimates the number. So the end is right when either as many frames were read or
    the last one's time reaches the stated duration. A raw stream (.mjpeg, .h264) or a transport stream
    states neither: a cut cannot be seen there.

    Raises:
        UserError: the file is missing or empty, or no video can be read from it.
    """

    moving = True
    live = False

    def __init__(self, path: Path) -> None:
        if path.is_dir():
            raise UserError(f"{path}: a folder; --video names a video file, --images a folder of images")
        if not path.is_file():
            raise UserError(f"{path}: no such file; --video names a video file")
        if path.suffix.lower() in SUFFIXES:
            raise UserError(f"{path}: an image; give it to --images")
        if path.stat().st_size == 0:
            raise UserError(f"{path}: the file is empty; record or copy it again")
        self._path = path
        # An absolute path cannot be taken for the address of a stream.
        self._capture: cv2.VideoCapture | None = cv2.VideoCapture(str(path.resolve()), cv2.CAP_FFMPEG)
        self._ahead = self._read() if self._capture.isOpened() else None
        if self._ahead is None:
            self.close()
            raise UserError(
                f"{path}: no video can be read from it; it is damaged, cut short, still being written, or of "
                "an unknown kind: copy it again, or convert it to .mp4"
            )
        height, width = self._ahead[1].shape[:2]
        if min(height, width) < MIN_SIDE_PX:
            self.close()
            raise UserError(f"{path}: its frames are {width} x {height} pixels: too small to show a cell")
        frames = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.length: int | None = int(frames) if 0 < frames < _LONGEST_VIDEO else None
        self._rate = self._capture.get(cv2.CAP_PROP_FPS)

    def frames(self) -> Iterator[Frame | Skip]:
        """Yield the frames, once, and a `Skip` where some are missing between two.

        Raises:
            UserError: the video breaks off. Its last frame is withheld then: it may be half there.
        """
        index = 0
        gaps: deque[float] = deque(maxlen=_GAPS)
        while self._ahead is not None:
            time_s, image = self._ahead
            following = self._read()
            if following is None and self._breaks_off(index + 1, time_s):
                expected = f" of {self.length}" if self.length else ""
                raise UserError(
                    f"{self._path}: breaks off at frame {index + 1}{expected}; what comes before is counted. "
                    "Copy it again, or repair it"
                )
            yield Frame(index, time_s, image)
            gaps.append(following[0] - time_s if following else 0.0)
            if gaps[-1] > max(_LONGEST_GAP_S, _LONGEST_GAP * statistics.median(gaps)):
                told = f"{gaps[-1]:.1f} s of the film are missing: damaged, or not recorded"
                yield Skip(index, f"{time_s:.1f} s", told)
            self._ahead = following if self._capture is not None else None
            index += 1

    def settle(self) -> None:
        """Nothing to do: it was filmed before."""

    def close(self) -> None:
        """Close the file."""
        if self._capture is not None:
            self._capture.release()
        self._capture = self._ahead = None

    def _read(self) -> tuple[float, Image] | None:
        """Return time (s) and picture of the next frame; None at the end."""
        assert self._capture is not None
        good, image = self._capture.read()
        if not good:
            return None
        return self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000, rgb(image)

    def _breaks_off(self, read: int, last_s: float) -> bool:
        try:
            if _cut_short(self._path):
                return True
        except OSError:  # it is not there any more
            return True
        if self.length is None or self._rate <= 0 or read >= self.length:
            return False
        return last_s + 1.5 / self._rate < self.length / self._rate


def _cut_short(path: Path) -> bool:
    """Return whether a file is shorter than its own outermost structure says (AVI, MP4, MOV)."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(16)
        if head[:4] == b"RIFF":
            return 8 + int.from_bytes(head[4:8], "little") > size
        if head[4:8] != b"ftyp":
            return False
        at = 0
        while at < size:
            file.seek(at)
            head = file.read(16)
            length = int.from_bytes(head[:4], "big")
            if length == 0:  # this box goes to the end of the file
                return False
            at += max(8, int.from_bytes(head[8:16], "big") if length == 1 else length)
        return at > size


class ImageFolder:
    """The images of a folder and of those in it, or one image file: a `FrameSource`.

    They come in natural order (`field 2` before `field 10`). Hidden files and folders, and files that are no
    pictures, are passed over; an image that cannot be counted is a `Skip`.

    Args:
        path: a folder or an image file.

    Raises:
        UserError: it is missing, cannot be listed, or holds no image.
    """

    moving = False
    live = False

    def __init__(self, path: Path) -> None:
        if path.is_dir():
            self._folder, self._files = path, _list_images(path)
        elif path.exists():
            self._folder, self._files = path.parent, [path] if _is_picture(path) else []
        else:
            raise UserError(f"{path}: no such folder or file; --images names a folder of images or one image")
        if not self._files:
            raise UserError(f"{path}: no image in it; images end in {', '.join(sorted(SUFFIXES))}")
        self.length: int | None = len(self._files)

    def frames(self) -> Iterator[Frame | Skip]:
        """Yield each image, or a `Skip` for one that is damaged, grey, too small or too large."""
        for index, file in enumerate(self._files):
            if self.length is None:
                return
            # A name in no encoding could not be stored.
            name = os.fsencode(file.relative_to(self._folder).as_posix()).decode(errors="replace")
            try:
                stored = _load(file)
            except BadImage as bad:
                yield Skip(index, name, str(bad))
                continue
            shown, corner = within_frame(stored)
            image, empty = fill(shown)
            # Specimens counted before frames were cut away know their images by this.
            whole = image if corner is None else filled(stored)
            content = hashlib.blake2b(whole.tobytes(), digest_size=8).hexdigest()
            yield Frame(index, 0.0, image, name, content, corner, empty)

    def settle(self) -> None:
        """Nothing to do: they were taken before."""

    def close(self) -> None:
        """End `frames`; nothing is held open."""
        self.length = None


def _list_images(folder: Path) -> list[Path]:
    def refuse(error: OSError) -> NoReturn:
        raise UserError(f"{error.filename}: {error.strerror}; this account must be able to read the folder")

    found, walked = [], set[tuple[int, int]]()
    for place, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        try:
            here = os.stat(place)
        except OSError as error:
            refuse(error)
        if (here.st_dev, here.st_ino) in walked:  # by a link
            folders.clear()
            continue
        walked.add((here.st_dev, here.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(place, name) for name in names if not name.startswith(".") and _is_picture(Path(name))]
    return sorted(found, key=lambda file: _natural(file.relative_to(folder).as_posix()))


def _is_picture(file: Path) -> bool:
    return file.suffix.lower() in SUFFIXES | UNREAD


def _natural(name: str) -> tuple[list[str | int], str]:
    parts: list[str | int] = list(re.split(r"(\d+)", name.lower()))
    parts[1::2] = map(int, parts[1::2])
    return parts, name


def _load(file: Path) -> Image:
    try:
        if file.suffix.lower() in UNREAD:  # the content of some is a TIFF: a small view of the picture
            raise BadImage(f"{file.suffix} is not read: convert it to .png")
        if not file.is_file():
            raise BadImage("not a file")
        if file.stat().st_size > MAX_BYTES:
            raise BadImage(f"more than {MAX_BYTES // 10**6} MB")
        return decode_image(file.read_bytes())
    except OSError as error:
        raise BadImage(f"cannot be read: {error.strerror}") from None
