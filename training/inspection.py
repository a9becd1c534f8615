"""What is in a data set, and what is wrong with it: `python -m training.data DIR`."""

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.album import Photograph, agreement, lay, least_agreement
from edge.cells import Box, Image
from edge.errors import UserError
from edge.preprocess import crop
from edge.startup import Parser, run
from training import layouts, study
from training.data import CLASSES, STUDY_CLASSES, Sample, box_fits, read_image, read_photograph
from training.framing import measure_cell
from training.progress import watch

_GRID = 16
"""Differences of brightness along a row, and rows, that make an image's sketch."""
_ALIKE, _CELLS_ALIKE, _MOST_ALIKE = 0.04, 0.15, 3
"""Share of the sketch in which near-duplicates may differ; of that of the cell alone, which is found anew;
and with how many others of these it is compared."""
_SAME_CELL = 0.25
"""Sides of its box that a cell may lie beside the place where the other image shows it."""
_LIKE, _LIKE_CUT, _CLOSE_LOOK = 0.98, 0.95, 64
"""Correlation from which what differs is noise: of images, at the last number of pixels of a side; of a cell
where one image is laid on the other. On bare glass the sketches of two cells are much alike."""
_BLOCK = 1024
_WIDE = 13
"""Of a column."""


Sketch = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Findings:
    """What is wrong with a data set; pairs and groups hold files."""

    unreadable: list[str]
    astray: list[str]
    """Files with a box of no size, or outside the image."""
    duplicates: list[list[str]]
    """Groups of files with the same pixels."""
    near_duplicates: list[tuple[str, str]]
    """Pairs that look the same but for noise, compression, brightness, size, or what was cut off around."""
    conflicts: list[tuple[str, str]]
    """Duplicates and near-duplicates with different classes."""
    leaks: list[tuple[str, str]]
    """Duplicates and near-duplicates in different splits."""
    sizes: Counter[tuple[int, int]]
    """Images by width and height."""


def inspect(samples: Sequence[Sample]) -> Findings:
    """Open every image once and compare them all; memory holds about a kilobyte of each."""
    unreadable: list[str] = []
    size_of: dict[Path, tuple[int, int]] = {}
    seen: list[Sample] = []
    sketches, digests = [], []
    cells: dict[int, Sketch] = {}
    one_each = list({s.path: s for s in samples}.values())
    with ThreadPoolExecutor() as pool:
        looks = watch(pool.map(_look, one_each), len(one_each), "images")
        for sample, look in zip(one_each, looks, strict=True):
            if look is None:
                unreadable.append(sample.file)
            else:
                size_of[sample.path], digest, sketch, cell = look
                # A field may hold several cells, each with its box: what is cut round one is no copy.
                if sample.box is None:
                    cells[len(seen)] = cell
                seen.append(sample)
                digests.append(digest)
                sketches.append(sketch)
    groups = defaultdict[bytes, list[int]](list)
    for i, digest in enumerate(digests):
        groups[digest].append(i)
    duplicates = [group for group in groups.values() if len(group) > 1]
    pairs = [(group[0], other) for group in duplicates for other in group[1:]]
    copies = _copies([s.path for s in seen], sketches, cells)
    near = [(i, j) for i, j in copies if digests[i] != digests[j]]
    found = pairs + near
    conflicts = [(seen[i].file, seen[j].file) for i, j in found if seen[i].name != seen[j].name]
    leaks = [(seen[i].file, seen[j].file) for i, j in found if seen[i].split != seen[j].split]
    astray = [s.file for s in samples if s.path in size_of and not box_fits(s.box, *size_of[s.path])]
    listed = _listed_twice(samples)
    return Findings(
        unreadable,
        astray,
        [[seen[i].file for i in group] for group in duplicates] + listed.duplicates,
        [(seen[i].file, seen[j].file) for i, j in near],
        conflicts + listed.conflicts,
        leaks + listed.leaks,
        Counter(size_of.values()),
    )


def _listed_twice(samples: Sequence[Sample]) -> Findings:
    """Return what is wrong with rows that name one file."""
    found = Findings([], [], [], [], [], [], Counter())
    first: dict[Path, Sample] = {}
    listed: set[tuple[Path, str, Box | None]] = set()
    for sample in samples:
        row = (sample.path, sample.name, sample.box)
        if row in listed:
            found.duplicates.append([sample.file, sample.file])
        listed.add(row)
        other = first.setdefault(sample.path, sample)
        # A field holds several cells, each with its box; a crop is of one class.
        if sample.name != other.name and sample.box is None:
            found.conflicts.append((other.file, sample.file))
        if sample.split != other.split:
            found.leaks.append((other.file, sample.file))
    return found


def _look(sample: Sample) -> tuple[tuple[int, int], bytes, Sketch, Sketch] | None:
    """Return size (width, height), digest of the pixels, sketches of image and cell; None if unreadable."""
    try:
        image = read_photograph(sample.path)
    except UserError:
        return None
    size, digest = (image.shape[1], image.shape[0]), hashlib.sha256(image.tobytes()).digest()
    cell = crop(image, measure_cell(image, None)[0], _CLOSE_LOOK)
    return size, digest, _sketch(image), _sketch(cell)


def _sketch(image: Image) -> Sketch:
    small = cv2.resize(
        cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (_GRID + 1, _GRID), interpolation=cv2.INTER_AREA
    )
    return np.packbits(small[:, 1:] > small[:, :-1])


def _copies(
    paths: Sequence[Path], sketches: Sequence[Sketch], cells: Mapping[int, Sketch]
) -> list[tuple[int, int]]:
    """Return the pairs (lower index first) of images that are copies of each other, or of one's cell."""
    copies = {(i, j) for i, j in _near(sketches) if _same(paths[i], paths[j])}
    cut = [pair for pair in _nearest(cells) if pair not in copies]
    shown = watch(cut, len(cut), "pairs of like cells")
    return sorted(copies | {(i, j) for i, j in shown if _same_cut(paths[i], paths[j])})


def _same(one: Path, other: Path) -> bool:
    """Return whether two images of much the same sketch show, at a closer look, the same."""
    side = (_CLOSE_LOOK, _CLOSE_LOOK)
    a, b = (
        np.float32(cv2.resize(read_image(path), side, interpolation=cv2.INTER_AREA)) for path in (one, other)
    )
    a, b = a - a.mean(axis=(0, 1)), b - b.mean(axis=(0, 1))
    most = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return most > 0 and float((a * b).sum()) >= _LIKE * most  # plain images show nothing alike


def _same_cut(one: Path, other: Path) -> bool:
    """Return whether two images show the same cell and what lies about it, cut off otherwise."""
    (old, cell), (new, its_own) = _photograph(one), _photograph(other)
    return any(
        math.dist(laid.to_picture(*cell.centre), its_own.centre) <= _SAME_CELL * its_own.side
        and agreement(old, new, laid, cell) >= max(_LIKE_CUT, least_agreement(old, new, laid, cell))
        for laid in lay(old, new)
    )


@lru_cache(maxsize=256)
def _photograph(path: Path) -> tuple[Photograph, Box]:
    image = read_image(path)
    return Photograph(image), measure_cell(image, None)[0]


def _near(sketches: Sequence[Sketch]) -> list[tuple[int, int]]:
    """Return the pairs (lower index first) whose sketches differ in few places."""
    if not sketches:
        return []
    signs, pairs = _signs(sketches), []
    for start in range(0, len(signs), _BLOCK):
        same = signs[start : start + _BLOCK] @ signs[start:].T
        rows, columns = np.nonzero(same >= (1 - 2 * _ALIKE) * signs.shape[1])
        pairs += [(start + int(i), start + int(j)) for i, j in zip(rows, columns, strict=True) if i < j]
    return pairs


def _nearest(sketches: Mapping[int, Sketch]) -> list[tuple[int, int]]:
    """Return pairs of numbers (the lower first) whose sketches are alike, the few most alike of each.

    Cells that are alone on black or white are all much alike: to look at every pair would take days.
    """
    if len(sketches) < 2:
        return []
    numbers, signs = list(sketches), _signs(list(sketches.values()))
    few, pairs = min(_MOST_ALIKE, len(numbers) - 1), set()
    for start in range(0, len(signs), _BLOCK):
        same = signs[start : start + _BLOCK] @ signs.T
        rows = np.arange(len(same))
        same[rows, start + rows] = -np.inf
        for i, best in enumerate(np.argpartition(-same, few - 1, axis=1)[:, :few], start):
            alike = best[same[i - start, best] >= (1 - 2 * _CELLS_ALIKE) * signs.shape[1]]
            pairs |= {(min(pair), max(pair)) for pair in ((numbers[i], numbers[j]) for j in alike)}
    return sorted(pairs)


def _signs(sketches: Sequence[Sketch]) -> NDArray[np.float32]:
    """Return 1 and -1; the inner product of two is the number of equal places less that of the others."""
    return np.unpackbits(np.stack(sketches), axis=1).astype(np.float32) * 2 - 1


def class_table(samples: Sequence[Sample]) -> str:
    """Return images by class and source, and split where there are any, as a table."""
    known = [c.name for c in CLASSES]
    names = [n for n in known if any(s.name == n for s in samples)]
    names += sorted({s.name for s in samples} - set(known))
    lines = [f"{'':24}" + "".join(f"{_short(n):>{_WIDE}}" for n in names) + f"{'all':>{_WIDE}}"]
    for source in dict.fromkeys(s.source for s in samples):
        of_source = [s for s in samples if s.source == source]
        lines.append(_row(source, of_source, names))
        splits = sorted({s.split for s in of_source})
        if len(splits) > 1:
            lines += [_row(f"  {p or 'none'}", [s for s in of_source if s.split == p], names) for p in splits]
    return "\n".join(lines)


def _short(name: str) -> str:
    return name if len(name) < _WIDE else name[: _WIDE - 2] + "."


def _row(label: str, samples: Sequence[Sample], names: Sequence[str]) -> str:
    number = Counter(s.name for s in samples)
    return f"{label[:24]:24}" + "".join(f"{number[n]:{_WIDE}d}" for n in names) + f"{len(samples):{_WIDE}d}"


def study_table(samples: Sequence[Sample], layout: str) -> str:
    """Return the study's Table 1, and this data set's five classes below the row of its own set."""
    number = Counter(s.name for s in samples)
    header = "".join(f"{n:>{_WIDE}}" for n in (*STUDY_CLASSES, "all"))
    lines = [f"{'the study, Table 1':28}{header}"]
    for name, counts in study.TABLE_1.items():
        lines.append(f"{name:28}" + "".join(f"{n:{_WIDE}d}" for n in (*counts, sum(counts))))
        if name.split()[0] in layout:
            here = [number[n] for n in STUDY_CLASSES]
            lines.append(f"{'  here':28}" + "".join(f"{n:{_WIDE}d}" for n in (*here, sum(here))))
    return "\n".join(lines)


def _print(found: layouts.DataSet, findings: Findings) -> None:
    print(f"recognised as: {found.layout}\n")
    print(class_table(found.samples), end="\n\n")
    print(study_table(found.samples, found.layout), end="\n\n")
    films = {(s.source, s.film) for s in found.samples if s.film}
    print(f"blood films known: {len(films) or 'none'}")
    ordered = sorted(findings.sizes.items(), key=lambda item: -item[1])
    shown = ", ".join(f"{w}x{h} ({n})" for (w, h), n in ordered[:4])
    print(f"sizes: {shown}{f' and {len(ordered) - 4} more' if len(ordered) > 4 else ''}")
    _list("left out", found.left_out)
    _list("unreadable", findings.unreadable)
    _list("boxes of no size or outside the image", findings.astray)
    _list("exact duplicates", [" = ".join(group) for group in findings.duplicates])
    _list("near-duplicates", [" ~ ".join(pair) for pair in findings.near_duplicates])
    _list("conflicting labels", [" / ".join(pair) for pair in findings.conflicts])
    _list("the same cell in different splits", [" / ".join(pair) for pair in findings.leaks])


def _list(title: str, findings: Sequence[str]) -> None:
    print(f"{title}: {len(findings) or 'none'}")
    for finding in findings:
        print(f"  {finding}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code: 1 where an image, a box or a label is wrong."""
    parser = Parser(prog="python -m training.data", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="DIR", help="folder of a data set")
    options = parser.parse_args(arguments)
    return run(lambda: _inspect(options.folder))


def _inspect(folder: Path) -> int:
    found = layouts.read(folder)
    findings = inspect(found.samples)
    _print(found, findings)
    return 1 if findings.unreadable or findings.astray or findings.conflicts else 0
