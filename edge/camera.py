"""Frames from a camera: the Raspberry Pi's through picamera2, a USB one through V4L2.

The only module that knows picamera2's names of pixel orders: its "BGR888" is R, G, B in memory.
"""

import errno
import os
import time
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from edge.cells import Frame, Skip
from edge.errors import UserError


class FrameSource(Protocol):
    """Where frames come from."""

    moving: bool
    """True: one stage under one camera. False: each frame is a field of view of its own."""
    live: bool
    """True: a frame that is not taken in time is gone; there is no end."""
    length: int | None
    """Number of frames, where known."""

    def frames(self) -> Iterator[Frame | Skip]:
        """Yield the frames, and a skip for each that could not be had.

        Raises:
            UserError: the source broke off.
        """
        ...

    def close(self) -> None:
        """Release what is held; safe to call twice."""
        ...


def open_camera(device: str, size: tuple[int, int]) -> FrameSource:
    """Open "pi" (picamera2), or a USB camera by number ("0") or path ("/dev/video0").

    Args:
        device: which camera.
        size: (width, height) of the wanted picture, pixels.

    Raises:
        UserError: the camera, its driver or its library is missing, or it is busy.
    """
    if device == "pi":
        return PiCamera(size)
    return UsbCamera(Path(f"/dev/video{device}") if device.isdigit() else Path(device), size)


class PiCamera:
    """The Raspberry Pi's camera; exposure and white balance are fixed once they have settled.

    Only the main stream is used: the page's small picture is made from the frame that was counted, so
    that picture and boxes belong together.
    """

    moving = True
    live = True
    length: int | None = None

    def __init__(self, size: tuple[int, int], *, timeout_s: float = 5.0, settle_frames: int = 60) -> None:
        self._timeout_s = timeout_s
        self._camera = _open_picamera2()
        try:
            main = {"size": size, "format": "BGR888"}
            self._camera.configure(self._camera.create_video_configuration(main=main, buffer_count=3))
            self._camera.start()
            self._settle(settle_frames)
        except RuntimeError as error:
            self.close()
            raise UserError(
                f"the Pi camera does not give a {size[0]} x {size[1]} picture ({error})"
            ) from None
        except BaseException:
            self.close()
            raise

    def frames(self) -> Iterator[Frame]:
        """Yield the newest frame each time; those that came meanwhile are dropped by the driver."""
        started, index = time.monotonic(), 0
        while True:
            image, _ = self._capture()
            yield Frame(index, time.monotonic() - started, image)
            index += 1

    def close(self) -> None:
        """Stop and release the camera; safe to call twice."""
        self._camera.close()

    def _capture(self) -> tuple[Any, Mapping[str, Any]]:
        try:
            (image,), metadata = self._camera.capture_arrays(["main"], wait=self._timeout_s)
        except TimeoutError:
            raise UserError(
                f"the Pi camera gave no picture for {self._timeout_s:g} s; power off, check its cable at "
                "both ends, then start again with the same --specimen"
            ) from None
        except RuntimeError as error:
            raise UserError(f"the Pi camera failed ({error}); check its cable, then start again") from None
        return np.ascontiguousarray(image), metadata

    def _settle(self, most_frames: int) -> None:
        """Wait until exposure and white balance hold still, then fix them."""
        recent: deque[np.ndarray[Any, np.dtype[np.float64]]] = deque(maxlen=8)
        metadata: Mapping[str, Any] = {}
        for _ in range(most_frames):
            _, metadata = self._capture()
            recent.append(
                np.array([metadata["ExposureTime"], metadata["AnalogueGain"], *metadata["ColourGains"]])
            )
            values = np.array(recent)
            if len(recent) == recent.maxlen and (np.ptp(values, axis=0) <= 0.02 * values.mean(axis=0)).all():
                break
        fixed = {name: metadata[name] for name in ("ExposureTime", "AnalogueGain", "ColourGains")}
        self._camera.set_controls({"AeEnable": False, "AwbEnable": False, **fixed})


def _open_picamera2() -> Any:
    try:
        from picamera2 import Picamera2
    except ImportError as error:
        raise UserError(
            f"picamera2 does not load ({error}); on Raspberry Pi OS run: sudo apt install python3-picamera2, "
            "and use an environment made with --system-site-packages (deploy/install.sh does both). For a "
            "USB camera: --camera 0"
        ) from None
    if not Picamera2.global_camera_info():
        raise UserError(
            "no Pi camera found; power off, push its cable in at both ends, and see that "
            "`rpicam-hello --list-cameras` lists it"
        )
    try:
        return Picamera2()
    except RuntimeError as error:
        raise UserError(
            f"the Pi camera is busy or does not start ({error}); another program may hold it: stop the "
            "service (sudo systemctl stop wbc), rpicam-hello or rpicam-vid"
        ) from None


class UsbCamera:
    """A V4L2 camera through OpenCV."""

    moving = True
    live = True
    length: int | None = None

    def __init__(self, device: Path, size: tuple[int, int], *, most_failures: int = 10) -> None:
        self._device, self._most_failures = device, most_failures
        _check_device(device)
        self._capture = cv2.VideoCapture(str(device), cv2.CAP_V4L2)
        if not self._capture.isOpened():
            raise UserError(
                f"{device}: busy, or not a camera; close the program that uses it (fuser -v {device} tells)"
            )
        self._capture.set(cv2.CAP_PROP_FRAME_WIDTH, size[0])
        self._capture.set(cv2.CAP_PROP_FRAME_HEIGHT, size[1])
        # One buffer: a slow count sees the newest picture, not a queue of old ones.
        self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)

    def frames(self) -> Iterator[Frame]:
        """Yield the newest frame each time.

        Raises:
            UserError: several reads in a row gave nothing: unplugged.
        """
        started, index, failures = time.monotonic(), 0, 0
        while failures < self._most_failures:
            good, image = self._capture.read()
            if not good:
                failures += 1
                continue
            failures = 0
            rgb = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)
            yield Frame(index, time.monotonic() - started, rgb)
            index += 1
        raise UserError(
            f"{self._device}: no picture any more; plug the camera in again, then start with the same "
            "--specimen"
        )

    def close(self) -> None:
        """Release the camera; safe to call twice."""
        self._capture.release()


def _check_device(device: Path) -> None:
    """Find out what OpenCV does not say: missing, or not allowed."""
    try:
        os.close(os.open(device, os.O_RDWR | os.O_NONBLOCK))
    except FileNotFoundError:
        present = ", ".join(sorted(str(d) for d in Path("/dev").glob("video*"))) or "none"
        raise UserError(f"{device}: no such camera; present: {present}") from None
    except PermissionError:
        raise UserError(
            f"{device}: not allowed; run: sudo usermod -aG video $USER, then log in again"
        ) from None
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise UserError(f"{device}: {error.strerror}; see that the camera is plugged in") from None
