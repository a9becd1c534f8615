"""What each part of the recipe is worth: `python -m benchmarks.ablation`.

Every row is a training of its own that differs from our recipe in one thing, shortened alike (--size,
--epochs), and judged by the study's five classes on the validation cells of its own laboratory and on
laboratories that it never saw. The test split is not read. Stopped, the same command goes on.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from edge.startup import Parser, run
from training import data, evaluate, predict, train
from training.framing import Framing
from training.recipe import RECIPES, Balance, Recipe

VARIANTS: dict[str, dict[str, object]] = {
    "our recipe": {},
    "no cells of the textbook": {"textbook": 0},
    "no augmentation": {"augment": False},
    "no augmentation, whole image": {"augment": False, "framing": Framing.IMAGE},
    "BatchNorm learns the laboratory": {"frozen_statistics": False},
    "classes alike": {"balance": Balance.EVEN},
    "images as they come": {"balance": Balance.NONE},
    "weights not averaged": {"averaging": 0.0},
    "no label smoothing": {"label_smoothing": 0.0},
}
"""Name of a row, and what of the recipe it changes."""


def measure(
    recipe: Recipe, folder: Path, samples: Sequence[data.Sample], parts: Sequence[Sequence[data.Sample]]
) -> list[float]:
    """Train `recipe` in `folder`, or go on with it.

    Returns:
        F1 of the basophils in the first of `parts`, then the accuracy in each; all 0..1.
    """
    predictor = predict.open_model(train.train(recipe, folder, samples))
    results = [evaluate.judge(predictor, part, data.STUDY_CLASSES) for part in parts]
    return [results[0]["per_class"]["basophil"]["f1"], *(result["accuracy"] for result in results)]


def _work(options: argparse.Namespace) -> None:
    base = replace(
        RECIPES["robust"],
        data=str(options.data),
        weights=options.weights,
        size=options.size,
        epochs=options.epochs,
    )
    names = ["validation", *options.elsewhere]
    rows = []
    samples = data.load(options.data)
    parts = [data.select(samples, name) for name in names]
    for number, (name, changes) in enumerate(VARIANTS.items()):
        print(f"{name} ({number + 1} of {len(VARIANTS)})", file=sys.stderr, flush=True)
        recipe = replace(base, **changes)  # type: ignore[arg-type]
        figures = measure(recipe, options.output / name.replace(" ", "-").replace(",", ""), samples, parts)
        rows.append(f"{name:33}" + "".join(f"{100 * figure:12.1f}" for figure in figures))
    print(f"{'five classes, % right':33}{'basophil F1':>12}" + "".join(f"{name:>12}" for name in names))
    print("\n".join(rows))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    parser = Parser(prog="python -m benchmarks.ablation", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with cells.csv")
    parser.add_argument("--weights", default="imagenet", help="as training.train has it")
    parser.add_argument("--size", type=int, default=128, help="side of the input, pixels")
    parser.add_argument("--epochs", type=int, default=4, help="of each training")
    parser.add_argument("--elsewhere", nargs="+", default=["zheng1", "bccd"], help="sources to judge on")
    parser.add_argument("--output", type=Path, default=Path("runs/ablation"), help="folder of the runs")
    options = parser.parse_args(arguments)
    return run(lambda: _work(options), "stopped; the same command goes on from the last whole epoch")


if __name__ == "__main__":
    sys.exit(main())
