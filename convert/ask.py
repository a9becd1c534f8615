"""Ask a model file about crops, with whatever runtime is installed: `python -m convert.ask`.

Needs numpy and the edge alone; `convert.runtimes` runs it in each environment.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from edge import classify, modelfile
from edge.cells import Image, Probabilities
from edge.second_look import consider


def random_crops(number: int, size: int) -> Iterator[Image]:
    """Yield noise, coarse noise and plain colours by turns, the same for the same arguments."""
    for n in range(number):
        rng = np.random.default_rng(n)
        grain = (1, 8, size)[n % 3]
        small = rng.integers(0, 256, (-(-size // grain), -(-size // grain), 3), np.uint8)
        yield small.repeat(grain, axis=0).repeat(grain, axis=1)[:size, :size]


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m convert.ask", description=__doc__)
    parser.add_argument("file", type=Path, metavar="FILE", help="the .tflite file")
    parser.add_argument("crops", metavar="CROPS", help=".npy file of uint8 crops (n, size, size, 3)")
    parser.add_argument("random", type=int, metavar="RANDOM", help="number of random crops to ask about too")
    parser.add_argument("output", metavar="OUTPUT", help=".npy file that gets the probabilities")
    parser.add_argument("delegate", choices=("default", "none"), help="none: without the runtime's delegate")
    options = parser.parse_args()
    if options.delegate == "none":
        _leave_delegate_out()
    classifier = classify.Classifier(options.file)
    # The shapes of nuclei are OpenCV's to measure, and the same in each environment.
    real = np.load(options.crops, mmap_mode="r")
    answers = [consider(classifier.look, [crop], _as_they_are).probabilities for crop in real]
    # Noise is always doubtful: a second look would only take eight times as long.
    noise = random_crops(options.random, classifier.card.size)
    answers += [classifier.look([crop]).probabilities for crop in noise]
    np.save(options.output, np.concatenate(answers))


def _as_they_are(shares: Probabilities, crops: Sequence[Image]) -> Probabilities:
    return shares


def _leave_delegate_out() -> None:
    found = modelfile._interpreter_class()
    resolvers = sys.modules[found.__module__].OpResolverType
    plain = resolvers.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    modelfile._interpreter_class = lambda: partial(found, experimental_op_resolver_type=plain)


if __name__ == "__main__":
    main()
