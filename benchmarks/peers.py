"""The usual ways to follow boxes through a film, each behind the same small interface.

They link boxes from frame to frame. ByteTrack and the tracker by overlap are set up as is usual for slow
objects; norfair knows how the camera moves, so that it may remember a track for ever. A track counts from its
third box on.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import norfair.camera_motion
import norfair.tracker
import numpy as np
import supervision

from edge.cells import Box, Image
from training.fields import edges_of
from training.locating import overlap

HITS = 3
"""Boxes from which on a track counts."""
MOST_MISSED = 15
"""Frames without a box after which a track has ended."""
_FOR_EVER = 10**6
"""Frames: so much longer than any film that a track, once begun, never ends."""
LEAST_OVERLAP = 0.3
"""Intersection over union (0..1) from which a box may belong to a track."""


class Tracker(Protocol):
    """Gives every box of a film the name of its track."""

    def link(self, boxes: Sequence[Box], image: Image) -> list[int | None]:
        """Take the boxes of the next frame; return the track of each, None where it has none yet."""
        ...


class OverlapTracker:
    """Links each box to the track that it overlaps most; greedy."""

    def __init__(self) -> None:
        self._boxes: dict[int, Box] = {}
        self._missed: dict[int, int] = {}
        self._next = 0

    def link(self, boxes: Sequence[Box], image: Image) -> list[int | None]:
        """Take the boxes of the next frame; return the track of each."""
        pairs = [
            (value, name, i)
            for name, last in self._boxes.items()
            for i, box in enumerate(boxes)
            if (value := overlap(last, box)) >= LEAST_OVERLAP
        ]
        linked: dict[int, int] = {}
        for _, name, i in sorted(pairs, reverse=True):
            if i not in linked and name not in linked.values():
                linked[i] = name
        for i in range(len(boxes)):
            if i not in linked:
                linked[i] = self._next
                self._next += 1
        self._missed = {name: missed + 1 for name, missed in self._missed.items()}
        for i, name in linked.items():
            self._boxes[name], self._missed[name] = boxes[i], 0
        for name in [name for name, missed in self._missed.items() if missed > MOST_MISSED]:
            del self._boxes[name], self._missed[name]
        return [linked[i] for i in range(len(boxes))]


class ByteTracker:
    """supervision's ByteTrack."""

    def __init__(self) -> None:
        self._tracker = supervision.ByteTrack(lost_track_buffer=MOST_MISSED, frame_rate=30)

    def link(self, boxes: Sequence[Box], image: Image) -> list[int | None]:
        """Take the boxes of the next frame; return the track of each."""
        corners = edges_of(boxes)
        found = supervision.Detections(
            corners, confidence=np.full(len(boxes), 0.9), data={"row": np.arange(len(boxes))}
        )
        linked = self._tracker.update_with_detections(found)
        names: list[int | None] = [None] * len(boxes)
        if len(linked) and linked.tracker_id is not None:
            for row, name in zip(linked.data["row"], linked.tracker_id, strict=True):
                names[int(row)] = int(name)
        return names


class NorfairTracker:
    """norfair's tracker by overlap, with its own estimate of how the camera moves: a track never ends."""

    def __init__(self) -> None:
        self._tracker = norfair.tracker.Tracker(
            distance_function="iou",
            distance_threshold=1 - LEAST_OVERLAP,
            hit_counter_max=_FOR_EVER,
            initialization_delay=0,
        )
        self._motion = norfair.camera_motion.MotionEstimator(
            transformations_getter=norfair.camera_motion.HomographyTransformationGetter()
        )
        self._moved: Any = None

    def link(self, boxes: Sequence[Box], image: Image) -> list[int | None]:
        """Take the boxes of the next frame; return the track of each."""
        # Where it sees no motion that it trusts (an empty frame, a jump), the last one holds.
        self._moved = self._motion.update(np.ascontiguousarray(image[..., ::-1])) or self._moved
        found = [
            norfair.tracker.Detection(points=corners.reshape(2, 2), data=row)
            for row, corners in enumerate(edges_of(boxes))
        ]
        names: list[int | None] = [None] * len(boxes)
        known = self._tracker.update(found, period=_FOR_EVER, coord_transformations=self._moved)
        for one in known:
            # A track that got no box in this frame still holds its last one.
            if any(one.last_detection is detection for detection in found):
                names[one.last_detection.data] = one.id
        return names


PEERS: Mapping[str, Callable[[], Tracker]] = {
    "ByteTrack": ByteTracker,
    "norfair": NorfairTracker,
    "IoU": OverlapTracker,
}
"""By the name that the table gives them."""
