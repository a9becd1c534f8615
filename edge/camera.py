"""Frames from a camera: the Raspberry Pi's through picamera2, a USB one through Video4Linux."""

import os
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from edge.cells import Frame, Skip
from edge.errors import UserError

FRAME_TIMEOUT_S = 5.0
"""A camera that gives nothing for this long is taken for unplugged."""
SETTLE_FRAMES = 90
"""The most frames (3 s at 30 per second) that automatic exposure and white balance get to settle."""
STEADY_FRAMES = 10
"""They have settled when over so many frames no value varies more than `STEADY_WITHIN`."""
STEADY_WITHIN = 0.02
"""As a share of the greatest value."""
FAILED_READS = 3
"""So many failed reads of a USB camera in a row are no passing disturbance."""
# picamera2 names formats by significance within a little-endian word, so its "BGR888" lies in memory,
# and in the array, as red, green, blue. Nothing outside this line knows it.
_RGB_ARRAYS = "BGR888"


class FrameSource(Protocol):
    """Whatever frames come from; `frames` is called once."""

    moving: bool
    """True: one stage moves under one camera; False: each frame is a field of view of its own."""
    live: bool
    """True: frames not taken in time are gone, and there is no end."""
    length: int | None
    """Number of frames, where it is known."""

    def frames(self) -> Iterator[Frame | Skip]:
        """Yield the frames, and a `Skip` for each that could not be had; indices have no gaps.

        Raises:
            UserError: the source broke off.
        """

    def settle(self) -> None:
        """Fit exposure and colours to what lies there now, and hold them, where it is this program that does.

        Raises:
            UserError: the source broke off.
        """

    def close(self) -> None:
        """Give back what is held; safe to call twice, and while `frames` is suspended, which it ends."""


def open_camera(device: str, size: tuple[int, int]) -> FrameSource:
    """Open a camera.

    Args:
        device: "pi" for picamera2; a number N (/dev/videoN) or a path under /dev for a USB camera.
        size: (width, height) asked for, pixels; the camera may give the nearest that it has.

    Raises:
        UserError: there is no such camera, or it cannot be used.
    """
    if device == "pi":
        return PiCamera(size)
    if device.isascii() and device.isdigit():
        return UsbCamera(Path(f"/dev/video{device}"), size)
    if device.startswith("/dev/"):
        return UsbCamera(Path(device), size)
    raise UserError(f'camera = {device!r}: "pi", or "0" or "/dev/video0" for a USB camera, expected')


class PiCamera:
    """A Raspberry Pi camera: a `FrameSource`.

    Exposure and white balance settle at the start and are then fixed, so that colours do not drift
    while cells are counted. picamera2 keeps the newest frame alone: slow analysis drops frames.

    Args:
        size: (width, height) asked for, pixels.

    Raises:
        UserError: picamera2 or the camera is missing, busy or gives no pictures.
    """

    moving = True
    live = True
    length: int | None = None

    def __init__(self, size: tuple[int, int]) -> None:
        self._camera: Any = _open_picamera2()
        try:
            with _told_to_people():
                self._start(size)
                self._opened_ns = self._settle()
        except UserError:
            self.close()
            raise

    def frames(self) -> Iterator[Frame | Skip]:
        """Yield the newest frame, each time one is asked for, until `close`.

        Raises:
            UserError: no more pictures come.
        """
        for index in count():
            if self._camera is None:
                return
            with _told_to_people():
                (image,), metadata = self._camera.capture_arrays(["main"], wait=FRAME_TIMEOUT_S)
            yield Frame(index, (metadata["SensorTimestamp"] - self._opened_ns) / 1e9, image)

    def settle(self) -> None:
        """Let exposure and white balance settle anew, then fix them."""
        automatic = {"AeEnable": True, "AwbEnable": True}
        known = self._camera.camera_controls
        with _told_to_people():
            self._camera.set_controls({name: value for name, value in automatic.items() if name in known})
            self._settle()

    def close(self) -> None:
        """Stop the camera and give it back."""
        camera, self._camera = self._camera, None
        if camera is None:
            return
        # A capture that timed out still waits inside picamera2, and stopping would wait behind it.
        camera.cancel_all_and_flush()
        with suppress(RuntimeError):  # a camera that was pulled out cannot be given back
            camera.close()

    def _start(self, size: tuple[int, int]) -> None:
        main = {"format": _RGB_ARRAYS, "size": size}
        self._camera.configure(self._camera.create_video_configuration(main=main))
        given = self._camera.camera_configuration()["main"]["format"]
        if given != _RGB_ARRAYS:
            raise UserError(
                f'camera "pi": it gives {given} pictures, {_RGB_ARRAYS} expected; a USB camera is opened '
                "with --camera 0"
            )
        self._camera.start()

    def _settle(self) -> int:
        """Wait until exposure and colour are steady, then fix them; return the sensor's clock, ns."""
        recent: deque[tuple[float, ...]] = deque(maxlen=STEADY_FRAMES)
        for _ in range(SETTLE_FRAMES):
            metadata = self._camera.capture_metadata(wait=FRAME_TIMEOUT_S)
            gains = metadata.get("ColourGains", ())
            recent.append((metadata.get("ExposureTime", 0), metadata.get("AnalogueGain", 0), *gains))
            values = np.array(recent)
            if len(recent) == STEADY_FRAMES and np.all(
                np.ptp(values, axis=0) <= STEADY_WITHIN * values.max(axis=0)
            ):
                break
        fixed = {"AeEnable": False, "AwbEnable": False}
        fixed |= {k: metadata[k] for k in ("ExposureTime", "AnalogueGain", "ColourGains") if k in metadata}
        # A monochrome sensor has no white balance, and picamera2 refuses unknown controls.
        known = self._camera.camera_controls
        self._camera.set_controls({name: value for name, value in fixed.items() if name in known})
        return int(metadata["SensorTimestamp"])


def _open_picamera2() -> Any:
    try:
        from picamera2 import Picamera2
    except ModuleNotFoundError as error:
        raise UserError(
            f'camera "pi": {error.name} is not installed for this Python, and the package index has no '
            "libcamera: on a Raspberry Pi run `sudo deploy/install.sh` and use /opt/wbc/venv/bin/python, or "
            "`sudo apt install python3-picamera2` and an environment made with --system-site-packages"
        ) from None
    # ValueError: picamera2's compiled parts were built for another numpy.
    except (ImportError, ValueError) as error:
        raise UserError(
            f'camera "pi": picamera2 does not start ({error}); it needs the numpy and libcamera of the '
            "system: run `sudo apt full-upgrade` and use Python's version of the system"
        ) from None
    with _told_to_people():
        cameras = Picamera2.global_camera_info()
        # It lists USB cameras last: where the first is one, no Pi camera is there.
        if not cameras or "/usb" in cameras[0]["Id"]:
            raise UserError(
                'camera "pi": no Pi camera found; switch off, check both ends of its ribbon cable, and see '
                "`rpicam-hello --list-cameras`; a USB camera is opened with --camera 0"
            )
        return Picamera2()


@contextmanager
def _told_to_people() -> Iterator[None]:
    """Turn picamera2's errors into a `UserError` that says what to do."""
    try:
        yield
    except TimeoutError:
        raise UserError(
            f'camera "pi": no picture for {FRAME_TIMEOUT_S:.0f} s; it was unplugged or its ribbon cable is '
            "loose: switch off, push both ends in, and start again"
        ) from None
    except (RuntimeError, OSError) as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        raise UserError(
            f'camera "pi": {cause}; if another program holds it (rpicam-hello, a second count), end that '
            "one (`fuser /dev/media*` shows its number) and start again"
        ) from error


class UsbCamera:
    """A USB camera through Video4Linux: a `FrameSource`.

    Exposure and white balance stay as the camera sets them: by their nature USB cameras jump to stored
    values when told to hold.

    Args:
        device: such as /dev/video0.
        size: (width, height) asked for, pixels.

    Raises:
        UserError: the device is missing, forbidden, busy or no camera.
    """

    moving = True
    live = True
    length: int | None = None

    def __init__(self, device: Path, size: tuple[int, int]) -> None:
        _check_device(device)
        self._device = device
        self._opened_s = time.monotonic()
        self._capture: cv2.VideoCapture | None = cv2.VideoCapture(str(device), cv2.CAP_V4L2)
        if not self._capture.isOpened():
            raise UserError(
                f"{device}: it does not open as a camera; another program may hold it (`fuser {device}` "
                "shows its number), or it is another part of the device: see `v4l2-ctl --list-devices`"
            )
        # Uncompressed pictures of this size pass USB 2 at few a second: too slow for a moving stage.
        self._capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"))
        self._capture.set(cv2.CAP_PROP_FRAME_WIDTH, size[0])
        self._capture.set(cv2.CAP_PROP_FRAME_HEIGHT, size[1])
        # Slow analysis must see the newest frame, not those that queued up meanwhile.
        self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)

    def frames(self) -> Iterator[Frame | Skip]:
        """Yield the newest frame, each time one is asked for, until `close`.

        Raises:
            UserError: the camera was unplugged, or gives no pictures.
        """
        for index in count():
            image = self._read()
            if image is None:
                return
            yield Frame(index, time.monotonic() - self._opened_s, np.asarray(image, np.uint8))

    def settle(self) -> None:
        """Nothing to do: the camera's driver sees to it."""

    def close(self) -> None:
        """Give the device back."""
        if self._capture is not None:
            self._capture.release()
        self._capture = None

    def _read(self) -> cv2.typing.MatLike | None:
        """Return the next picture, RGB; None once closed."""
        asked_s = time.monotonic()
        for _ in range(FAILED_READS):
            if self._capture is None:
                return None
            good, image = self._capture.read()
            if good:
                return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
            if time.monotonic() - asked_s > FRAME_TIMEOUT_S:
                break
        raise UserError(
            f"{self._device}: no more pictures; the camera was unplugged or another program took it: "
            "plug it in and start again"
        )


def _check_device(device: Path) -> None:
    if not device.exists():
        present = ", ".join(sorted(str(path) for path in Path("/dev").glob("video*"))) or "none"
        raise UserError(f"{device}: no such camera; video devices here: {present}. Is it plugged in?")
    if not os.access(device, os.R_OK | os.W_OK):
        raise UserError(
            f"{device}: this account may not use it; run `sudo usermod -aG video $USER`, log out and in again"
        )
