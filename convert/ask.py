"""Ask a model file about crops, with whatever runtime is installed; needs numpy and the edge alone.

Usage: python -m convert.ask FILE CROPS.npy RANDOM OUTPUT.npy default|none

CROPS.npy holds uint8 crops (n, size, size, 3); RANDOM more are made here. OUTPUT.npy gets the probabilities.
"none" leaves the runtime's delegate out.
"""

import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from edge import classify, modelfile
from edge.cells import Image


def random_crops(number: int, size: int) -> Iterator[Image]:
    """Yield noise, coarse noise and plain colours by turns, the same for the same arguments."""
    for n in range(number):
        rng = np.random.default_rng(n)
        grain = (1, 8, size)[n % 3]
        small = rng.integers(0, 256, (-(-size // grain), -(-size // grain), 3), np.uint8)
        yield small.repeat(grain, axis=0).repeat(grain, axis=1)[:size, :size]


def main() -> None:
    """Run the command line."""
    file, crops, number, output, delegate = sys.argv[1:]
    if delegate == "none":
        _leave_delegate_out()
    classifier = classify.Classifier(Path(file))
    answers = [classifier.classify([crop]).probabilities for crop in np.load(crops, mmap_mode="r")]
    # Noise is always doubtful: a second look would only take eight times as long.
    answers += [classifier.look([c]).probabilities for c in random_crops(int(number), classifier.card.size)]
    np.save(output, np.concatenate(answers))


def _leave_delegate_out() -> None:
    found = modelfile._interpreter_class()
    resolvers = sys.modules[found.__module__].OpResolverType
    plain = resolvers.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    modelfile._interpreter_class = lambda: partial(found, experimental_op_resolver_type=plain)


if __name__ == "__main__":
    main()
