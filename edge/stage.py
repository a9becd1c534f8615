"""Where the stage is: each frame is laid on the slide by what it shows.

The slide is remembered as key views: small pictures at known places, not half a field apart. A frame is
laid on the key view that it shares most with, so errors add up per key view and not per frame, and a
stretch seen again is met where it was. A new key view leans on the oldest one that it can: where a long
way closes, the old map wins, and the way's error stays on the way. What no key view shows is lost: the
frame has no place until a known one returns.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from edge.cells import Box, Image
from edge.dust import Dust
from edge.grid import Grid
from edge.landmarks import Landmarks, find_pose, landmarks
from edge.pose import Pose, turn
from edge.register import (
    THUMB_SIDE,
    TRIM,
    Fit,
    Thumb,
    beside,
    beside_common,
    frame_pose,
    held,
    judge,
    limited,
    refine,
    register,
    thumb_pose,
    thumbnail,
)

_LEAST_CORRELATION, _LEAST_OVERLAP = 0.7, 0.3
"""How well (-1..1) a frame must agree with a key view over their overlap for its place to be believed, and
how much of the field the two must share."""
_LEAST_BESIDE, _LEAST_SHARE, _WEAK = 0.6, 0.03, 0.3
"""How well what lies beside the strongest structure must agree too, what share of the contrast must lie
there, and below what share a place that was lost is believed only once a second frame agrees: as it is where
the whole agrees less than closely."""
_SHORT_WAY = 0.12
"""Share of the field that a stage moves from frame to frame at most where one structure alone is followed."""
_CLOSE = 0.9
"""How well a frame agrees with a key view where it lies there for sure: frames of real cells do by 0.97 and
more, out of focus by 0.87; what dust holds, by 0.83 at most once the slide has moved by a red cell."""
_IN_PLACE, _MOST_OWN, _LEAST_OWN = 0.03, 0.09, 0.3
"""Within this share of the field of a key view dust may be all that holds a frame there. It is where each of
the two shows more than this share of its contrast for itself, and these agree by less: 0.035 at most where a
stage rests in whatever light, noise and focus; 0.06 to 0.23 behind 60 specks, agreeing by 0.2 at most."""
_KEY_DISTANCE = 0.4
"""A new key view is kept this share of the field away from all others."""
_SAME_WAY_UP = math.radians(20)
"""Key views turned less than this against a frame are compared with it as they stand."""
_STILL = math.radians(0.06)
"""The camera counts as not turned while a frame seems turned by less: the fit's noise must not add up."""
_TURNED, _TURNED_WEAKLY = 1.02, 1.2
"""By what factor more the camera as it was must leave unexplained for a turn to be believed; the second where
little lies beside the strongest structure: on a nearly bare slide fits that turn by degrees are as good."""
_ROUNDING = 0.0001
"""What rounding alone may add to what is left unexplained."""
_NEAR = 3
"""Key views near the last place that a frame is compared with, at most."""
_TRIES = 8
"""Key views compared with a frame by their landmarks, at most, when the place is lost."""
_DUSTY = 0.5
"""Share of a box from which dust, not a cell, is what was found there."""
_REMEMBERED = 1000
"""Key views whose landmarks are kept at hand; the others' are found anew when they are needed."""


@dataclass(frozen=True, slots=True)
class KeyView(Pose):
    """One remembered piece of the slide."""

    size: tuple[int, int]
    """(width, height) of the frames that it belongs to, pixels: frames of another size have another scale."""
    thumb: Thumb
    """As `edge.register.thumbnail` makes it, shape (height, width)."""

    @property
    def centre(self) -> tuple[float, float]:
        """Where the frame's middle lies on the slide, pixels."""
        return self.to_slide((self.size[0] - 1) / 2, (self.size[1] - 1) / 2)


@dataclass(frozen=True, slots=True)
class Place(Pose):
    """Where a frame lies."""

    new_key: KeyView | None
    """The key view that this frame became, if it did: to be stored."""


class Stage:
    """The position of the stage, frame by frame.

    Args:
        keys: key views of an earlier run of the same specimen; the first frame must then show a
            place already seen.
    """

    def __init__(self, keys: Iterable[KeyView] = ()) -> None:
        self._keys: list[KeyView] = []
        self._grid: Grid[int] | None = None
        self._dust = Dust()
        for key in keys:
            self._add(replace(key, thumb=limited(key.thumb)))
        self._last: KeyView | None = None
        self._placed = False
        """The frame before has its place."""
        self._guesses: list[KeyView] = []
        """Places of the frame before that were likely, but on weak evidence."""
        self._search_from = 0
        self._landmarks = lru_cache(maxsize=_REMEMBERED)(self._find_landmarks)

    @property
    def fields(self) -> int:
        """Number of key views: places of the slide seen so far, not half a field apart."""
        return len(self._keys)

    @property
    def frame_size(self) -> tuple[int, int] | None:
        """(width, height) of the frames that the slide is known by; None before the first."""
        return self._keys[0].size if self._keys else None

    def on_dust(self, box: Box, size: tuple[int, int]) -> bool:
        """Tell whether most of a box of a frame of `size` (width, height) is what stays in its place."""
        height, width = (round(side * THUMB_SIDE / max(size)) - 2 * TRIM for side in (size[1], size[0]))
        mask = self._dust.mask((height, width))
        if mask is None:
            return False
        left, top, right, bottom = (
            round(edge / _scale(size)) - TRIM
            for edge in (box.x, box.y, box.x + box.width, box.y + box.height)
        )
        part = mask[max(0, top) : max(0, bottom), max(0, left) : max(0, right)]
        return bool(part.size) and float(part.mean()) >= _DUSTY

    def place(self, image: Image) -> Place | None:
        """Return where the frame lies; None when it cannot be told (lost).

        The very first frame of a slide lies at (0, 0).
        """
        guesses, self._guesses = self._guesses, []
        place = self._place(image, guesses)
        self._placed = place is not None
        return place

    def _place(self, image: Image, guesses: Sequence[KeyView]) -> Place | None:
        # Key views keep the dust: it is known again after a restart, and a frame without it meets none there.
        whole = thumbnail(image)
        if whole is None:
            return None
        dust = self._dust.mask(whole.shape)
        thumb = whole if dust is None else thumbnail(image, dust)
        if thumb is None:
            return None
        size = (image.shape[1], image.shape[0])
        if not self._keys:
            return self._keep(KeyView(0.0, 0.0, 0.0, size, whole))
        view = self._follow(thumb, size, guesses) or self._recover(thumb, size, guesses)
        if view is None:
            # Dust may be why: a view that is none of the map's shows it as well as one that is.
            if size == self.frame_size:
                self._dust.learn(whole)
            return None
        self._last = view
        if not self._is_new(view):
            return Place(view.x, view.y, view.angle, None)
        return self._keep(replace(self._anchored(view), thumb=whole))

    def _keep(self, view: KeyView) -> Place:
        self._add(view)
        self._last = view
        return Place(view.x, view.y, view.angle, view)

    def _add(self, key: KeyView) -> None:
        if self._grid is None:
            self._grid = Grid(max(key.size))
        self._grid.add(len(self._keys), *key.centre)
        self._keys.append(key)
        self._dust.learn(key.thumb)

    def _near_indices(self, view: KeyView) -> list[int]:
        """Return which key views lie within a field of the view, oldest first."""
        return self._grid.near(*view.centre) if self._grid else []

    def _near(self, view: KeyView) -> list[KeyView]:
        return [self._keys[index] for index in self._near_indices(view)]

    def _is_new(self, view: KeyView) -> bool:
        return all(
            _distance(key, view) > _KEY_DISTANCE
            for key in self._near(view)
            if _turned(key, view) < _SAME_WAY_UP
        )

    def _believes(
        self, reference: KeyView, thumb: Thumb, fit: Fit, view: KeyView, guesses: Sequence[KeyView]
    ) -> bool:
        """Tell whether a frame may lie at `view`, where `fit` lays it on a view that it agrees with.

        Args:
            reference: a key view, or the last view.
            thumb: of the frame.
            fit: of the thumb on the reference's.
            view: what that makes of the frame.
            guesses: places of the frame before, if it was lost.
        """
        if (reference is self._last or fit.correlation < _CLOSE) and self._denied(thumb, view):
            return False
        if self._placed and self._last is not None and _distance(self._last, view) < _SHORT_WAY:
            return True
        holds, share = _holds(reference, thumb, fit.pose)
        if not holds or self._placed or (share >= _WEAK and fit.correlation >= _CLOSE):
            return holds
        self._guesses.append(view)
        return any(_distance(guess, view) < _KEY_DISTANCE for guess in guesses)

    def _denied(self, thumb: Thumb, view: KeyView) -> bool:
        """Tell whether the key view nearest to a frame's place shows that it lies elsewhere.

        From frame to frame dust outweighs a small step; against a key view the steps have added up.
        """
        near = [k for k in self._near(view) if k.size == view.size and _turned(k, view) < _SAME_WAY_UP]
        if not near:
            return False
        key = self._without_dust(min(near, key=lambda key: _distance(key, view)))
        pose = _between(key, view)
        fit = judge(key.thumb.astype(np.float32), thumb.astype(np.float32), pose)
        if fit.overlap < _LEAST_OVERLAP or fit.correlation >= _CLOSE:
            return False
        if fit.correlation < _LEAST_CORRELATION:
            return True
        own, share = beside_common(key.thumb, thumb, pose)
        return _distance(key, view) < _IN_PLACE and share > _MOST_OWN and own < _LEAST_OWN

    def _follow(self, thumb: Thumb, size: tuple[int, int], guesses: Sequence[KeyView]) -> KeyView | None:
        """Lay a frame on what lies near the last place, the camera held as it was."""
        last = self._last
        if last is None:
            return None
        near = [k for k in self._near(last) if k.size == size and _turned(k, last) < _SAME_WAY_UP]
        near.sort(key=lambda key: _distance(key, last))
        keys = [self._without_dust(key) for key in near[:_NEAR]]
        references = [*keys[:1], *([last] if last.size == size else []), *keys[1:]]
        for reference in references:
            fit = register(reference.thumb, thumb, turn(last.angle - reference.angle), _LEAST_OVERLAP)
            if fit is not None and fit.correlation >= _LEAST_CORRELATION:
                view = self._steady(reference, thumb, fit.pose)
                if self._believes(reference, thumb, fit, view, guesses):
                    return view
        return None

    def _recover(self, thumb: Thumb, size: tuple[int, int], guesses: Sequence[KeyView]) -> KeyView | None:
        """Find a frame on the map, however it is turned: a few key views a frame, so that it stays cheap."""
        seen = landmarks(_grey(thumb))
        for index in self._search(size, guesses):
            reference = self._without_dust(self._keys[index])
            pose = find_pose(self._landmarks(index), seen)
            fit = refine(reference.thumb, thumb, pose) if pose else None
            if fit and fit.correlation >= _LEAST_CORRELATION and fit.overlap >= _LEAST_OVERLAP:
                view = _view(reference, thumb, fit.pose)
                if self._believes(reference, thumb, fit, view, guesses):
                    return view
        return None

    def _search(self, size: tuple[int, int], guesses: Sequence[KeyView]) -> Iterator[int]:
        """Yield key views to look for a lost frame: the nearest to where it may be, then ever others."""
        keys = self._keys
        near: list[int] = []
        if last := next(iter(guesses), self._last):
            near = sorted(self._near_indices(last), key=lambda i: _distance(keys[i], last))[:_NEAR]
        others = (i % len(keys) for i in range(self._search_from, self._search_from + len(keys)))
        self._search_from = (self._search_from + _TRIES) % len(keys)
        for index in [*near, *islice(others, _TRIES)]:
            if keys[index].size == size:
                yield index

    def _anchored(self, view: KeyView) -> KeyView:
        """Return the view laid on the oldest key view that it shares enough with."""
        for reference in map(self._without_dust, self._near(view)):
            if reference.size != view.size or _turned(reference, view) > _SAME_WAY_UP:
                continue
            fit = refine(reference.thumb, view.thumb, _between(reference, view))
            good = fit and fit.correlation >= _LEAST_CORRELATION and fit.overlap >= _LEAST_OVERLAP
            if fit and good and _holds(reference, view.thumb, fit.pose)[0]:
                return self._steady(reference, view.thumb, fit.pose)
        return view

    def _steady(self, reference: KeyView, thumb: Thumb, pose: Pose) -> KeyView:
        """Return the view that lies at `pose` on the reference, the camera's angle kept if it may be so."""
        view = _view(reference, thumb, pose)
        if self._last is None:
            return view
        fit = held(reference.thumb, thumb, pose, turn(self._last.angle - reference.angle))
        if fit is None:
            return view
        if _turned(view, self._last) > _STILL:
            free = judge(reference.thumb.astype(np.float32), thumb.astype(np.float32), pose)
            weak = beside(reference.thumb, thumb, pose)[1] < _WEAK
            worse = _TURNED_WEAKLY if weak else _TURNED
            if 1 - fit.correlation > worse * (1 - free.correlation) + _ROUNDING:
                return view
        return _view(reference, thumb, fit.pose)

    def _without_dust(self, key: KeyView) -> KeyView:
        """Return a key view as frames are seen: its dust meets none in them, and would speak against them."""
        dust = self._dust.mask(key.thumb.shape)
        return key if dust is None else replace(key, thumb=np.where(dust, np.int8(0), key.thumb))

    def _find_landmarks(self, index: int) -> Landmarks:
        return landmarks(_grey(self._keys[index].thumb))


def _holds(reference: KeyView, thumb: Thumb, pose: Pose) -> tuple[bool, float]:
    """Tell whether a thumb agrees with a key view beside its strongest structure, and how much lies there.

    The less lies there, the better it must agree. Right places agree by 0.95 and more on nearly bare slides,
    wrong ones by 0.82 at most with a seventh of the contrast, by 0.5 with a quarter.
    """
    rest, share = beside(reference.thumb, thumb, pose)
    return share >= _LEAST_SHARE and rest >= max(_LEAST_BESIDE, 0.95 - 0.6 * share), share


def _scale(size: tuple[int, int]) -> float:
    return max(size) / THUMB_SIDE


def _view(reference: KeyView, thumb: Thumb, pose: Pose) -> KeyView:
    """Return the view whose thumb lies at `pose` on the reference's."""
    scale = _scale(reference.size)
    lies = frame_pose(thumb_pose(reference, scale).after(pose), scale)
    return KeyView(lies.x, lies.y, lies.angle, reference.size, thumb)


def _between(reference: KeyView, view: KeyView) -> Pose:
    """Return how the thumb of a view lies on the reference's, by their places."""
    scale = _scale(view.size)
    return thumb_pose(reference, scale).inverse().after(thumb_pose(view, scale))


def _distance(a: KeyView, b: KeyView) -> float:
    """Return how far two views lie apart, as a share of the field, whichever way is the longer."""
    middle = (a.size[0] - 1) / 2, (a.size[1] - 1) / 2
    x, y = a.to_frame(*b.centre)
    return max(abs(x - middle[0]) / a.size[0], abs(y - middle[1]) / a.size[1])


def _turned(a: Pose, b: Pose) -> float:
    return abs(turn(a.angle - b.angle))


def _grey(thumb: Thumb) -> NDArray[np.uint8]:
    return (thumb.astype(np.int16) + 128).astype(np.uint8)
