"""The image files that a specimen has read, and the cells on each: none is counted again, nor a copy."""

import re
from collections.abc import Mapping
from typing import Any

from edge.cells import Frame
from edge.store import Shown

_CONTENT = re.compile(r" [0-9a-f]{16}$")
"""What follows the name of an image file in the store; in files of an early version nothing did."""


def key_of(frame: Frame) -> str | None:
    """Return what tells an image file from all others: another folder may hold the same name.

    None for a frame of a camera or a film.
    """
    return None if frame.content is None else f"{frame.name} {frame.content}"


class ImagesRead:
    """The images of one specimen.

    Args:
        files: keys of images read earlier; True for one that showed a place photographed before.
        shown: the cells on each of these; of those that an early version read none is known.
    """

    def __init__(self, files: Mapping[str, bool], shown: Mapping[str, Shown]) -> None:
        self._again: dict[str, bool] = {}
        self._shown: dict[str, Shown] = {}
        self._of_content: dict[str, Shown] = {}
        """The cells on an image, whatever its name. Of a copy none are stored."""
        self.without_cell = 0
        """Images on which no whole cell was found."""
        for key in files:
            content = _content(key)
            self._of_content[content] = self._of_content.get(content) or shown.get(key, ())
        for key, again in files.items():
            self.note(key, shown.get(key, ()), again=again)

    def __len__(self) -> int:
        return len(self._again)

    def __contains__(self, key: str) -> bool:
        return key in self._again

    def has_copy(self, key: str) -> bool:
        """Return whether an image of this content was read, under any name."""
        return _content(key) in self._of_content

    def note(self, key: str, shown: Shown, *, again: bool) -> None:
        """Take an image that has been read, with the cells on it."""
        self._again[key], self._shown[key] = again, shown
        self._of_content.setdefault(_content(key), shown)
        self.without_cell += not self.cells(key)

    def shown(self, key: str) -> Shown:
        """Return the cells on an image as they were stored with it: none with a copy."""
        return self._shown[key]

    def cells(self, key: str) -> Shown:
        """Return the cells on an image, of a copy those of what it is a copy of."""
        return self._shown[key] or self._of_content[_content(key)]

    def as_result(self) -> list[dict[str, Any]]:
        """Return them as the result has them, by name: source, again, cells (their numbers)."""
        read = sorted((_CONTENT.sub("", key), again, key) for key, again in self._again.items())
        return [
            {"source": source, "again": again, "cells": sorted({n for _, n in self.cells(key)})}
            for source, again, key in read
        ]


def _content(key: str) -> str:
    """Return the content that a key names; of one without, the key: it has no copies."""
    found = _CONTENT.search(key)
    return found[0] if found else key
