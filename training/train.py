"""Train a classifier of leukocytes: `python -m training.train --recipe robust|study`.

The folder --output gets the model (`model.keras`, its card `model.json`), `recipe.json`, `split.csv` (which
image was in which part), `history.csv`, the figures of the test images (`evaluation.json`) and a report
(`report.html`). A run that was stopped goes on from its last whole epoch when started again.
"""

import argparse
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

import keras

from edge.errors import UserError
from edge.startup import Parser, run
from training import (
    backbones,
    data,
    division,
    evaluate,
    finish,
    hardware,
    model,
    predict,
    rendered,
    textbook,
)
from training.batches import Exam, Lessons, correction, find_cells
from training.callbacks import Best, learn
from training.claim import check_free, claim, has_begun
from training.framing import Framing
from training.recipe import HELP, RECIPES, Recipe, check

_GOES_ON = "the same command goes on from the last whole epoch, if there is one"
_PARTS = ("train", "validation", "test")
_FINISHING_CELLS = 3000
"""Training cells, at most, from which the embedding is learned."""
_KEPT_COPIES = 10
"""Of all weights that a run keeps on disk, at most, while it replaces an older backup."""


def train(
    recipe: Recipe, output: Path, samples: Sequence[data.Sample] | None = None, *, tensorboard: bool = False
) -> Path:
    """Run `recipe` in folder `output`, or go on with its interrupted run; return the model's path.

    Args:
        recipe: what to do.
        output: folder of the run.
        samples: with their splits; None reads the recipe's data.
        tensorboard: write logs for TensorBoard to `output`/tensorboard.

    Raises:
        UserError: the recipe, its data or the folder will not do; told before any training.
    """
    check(recipe)
    check_free(output, recipe)
    print("reading the list of images", flush=True)
    parts = prepare(recipe, samples, output if has_begun(output) else None)
    file = output / "model.keras"
    if model.epochs_of(file) == recipe.epochs:
        return file
    print(f"reading {len(parts)} images", flush=True)
    if idle := Counter(s.split or "none" for s in parts if s.split not in _PARTS):
        told = ", ".join(f"{split}: {number}" for split, number in idle.items())
        print(f"of other parts, and used for nothing: {told}")
    data.check_trainable(parts)
    output.mkdir(parents=True, exist_ok=True)
    claim(output / "recipe.json", recipe)
    taught, judge = data.of_split(parts, "train"), data.of_split(parts, "validation")
    known = {s.name for s in taught} | set(data.STUDY_CLASSES if recipe.rendered + recipe.textbook else ())
    classes = tuple(c for c in data.CLASSES if c.name in known)
    names = tuple(c.name for c in classes)
    _tell_lacks(parts, names)
    used = hardware.use_all(recipe.seed)
    print(f"building {recipe.model}", flush=True)  # before the images: weights may not fit, the disk be full
    network = _build(recipe, len(classes))
    _check_space(output, network)
    real, drawn = len(taught), draw(output, recipe)
    division.write(output / "split.csv", parts + drawn)
    taught = taught + drawn
    print(f"{len(taught)} training and {len(judge)} validation images; {used}")
    print("finding their cells", flush=True)
    size = recipe.size or backbones.size_of(recipe.model)
    lesson, judged = find_cells(taught), find_cells(judge)
    exam = Exam(judged, names, size, recipe.framing)
    lessons = Lessons(lesson, names, size, recipe)
    network = _fit(network, recipe, output, lessons, exam, tensorboard=tensorboard)
    print("measuring confidence and strangeness", flush=True)
    learned = Exam(lesson.pick(data.evenly(real, _FINISHING_CELLS)), names, size, recipe.framing)
    exam = Exam(judged, names, size, recipe.framing)  # one device is left
    both, facts = finish.finish(network, learned, exam, correction(names, recipe.balance))
    model.save(model.Trained(both, classes, recipe.framing, {"epochs": recipe.epochs, **facts}), file)
    return file


def prepare(
    recipe: Recipe, samples: Sequence[data.Sample] | None, run: Path | None = None
) -> list[data.Sample]:
    """Return the samples of the recipe's classes, each with its split.

    Where the data set names no split, one of 70/20/10 is drawn by the recipe's seed: for the study recipe
    over all images, as it was there, else over whole blood films. Where it names a training part alone, a
    fifth of its films or images validates. Of a source that joins, what has no such part is learned from.
    Doubted labels are left out of what is learned from; a run that has begun keeps what it has.

    Args:
        recipe: says what to take.
        samples: None reads the recipe's data.
        run: folder of a run that has begun: the split is the one that it has begun with.

    Raises:
        UserError: the data cannot be read or divided, has parts but none to learn from, or is not what
            the run began with.
    """
    found = list(data.load(Path(recipe.data)) if samples is None else samples)
    if recipe.classes == "five":
        found = [s for s in found if s.name in data.STUDY_CLASSES]
    joined: list[data.Sample] = []
    if recipe.join:
        sources = sorted({s.source for s in found})
        if recipe.join not in sources or len(sources) < 2:
            there = ", ".join(sources)
            raise UserError(f"--join {recipe.join}: one of several sources expected; there are {there}")
        joined = [s for s in found if s.source == recipe.join]
        joined = [s if s.split in _PARTS else replace(s, split="train") for s in joined]
    found = [s for s in found if s.source != recipe.join]
    if run and (run / "split.csv").exists():
        return division.keep(run / "split.csv", found + joined)
    return _sure(_divided(found, recipe) + joined)


def _sure(samples: Sequence[data.Sample]) -> list[data.Sample]:
    """Return the samples without the doubted labels that something would be learned from."""
    sure = {id(s) for s in data.undoubted(samples)}
    return [s for s in samples if id(s) in sure or s.split not in ("train", "validation")]


def _divided(found: Sequence[data.Sample], recipe: Recipe) -> list[data.Sample]:
    parts = {s.split for s in found}
    if "train" not in parts and parts & {"validation", "test"}:
        raise UserError("the images have parts of their own, but none is called train: name it so")
    if "train" not in parts:
        divide = data.random_split if recipe.recipe == "study" else data.split_by_film
        return divide(found, recipe.seed)
    if "validation" not in parts:
        return data.with_validation(found, recipe.seed)
    return list(found)


def _tell_lacks(parts: Sequence[data.Sample], names: Sequence[str]) -> None:
    """Say which classes no image shows to the model, and what its report will leave out."""
    shown, tested = ({s.name for s in parts if s.split == part} for part in ("train", "test"))
    if drawn := [name for name in names if name not in shown]:
        print(f"no training image shows {', '.join(drawn)}: drawn cells alone do")
    if strange := sorted(tested - set(names)):
        print(f"the report will leave out {', '.join(strange)}: no training image shows them")
    if not tested:
        print("no image is of split test: there will be no report")


def draw(output: Path, recipe: Recipe) -> list[data.Sample]:
    """Draw the cells that the recipe asks for, into the run's folder."""
    demo = rendered.write_cells(output / "rendered", recipe.rendered, recipe.seed)
    return demo + textbook.write_cells(output / "textbook", recipe.textbook, recipe.seed)


def _fit(
    network: keras.Model, recipe: Recipe, output: Path, lessons: Lessons, exam: Exam, *, tensorboard: bool
) -> keras.Model:
    """Return the fitted network, in float32."""
    network.compile(
        keras.optimizers.AdamW(
            _rate(recipe, len(lessons)),
            weight_decay=recipe.weight_decay,
            use_ema=recipe.averaging > 0,
            ema_momentum=recipe.averaging or 0.99,
        ),
        keras.losses.CategoricalCrossentropy(label_smoothing=recipe.label_smoothing),
        weighted_metrics=["accuracy"],
    )
    record, best = output / "history.csv", output / "best.weights.h5"
    more: list[keras.callbacks.Callback] = []
    if recipe.patience:
        more.append(Best(record, best, recipe.patience))
    if tensorboard:
        more.append(keras.callbacks.TensorBoard(output / "tensorboard", write_graph=False))
    learn(network, lessons, output, recipe.epochs, exam=exam, patience=recipe.patience, more=more)
    if recipe.patience:
        try:
            network.load_weights(best)
        except (OSError, ValueError, KeyError, RuntimeError):
            raise UserError(f"{best}: not this run's best weights; give --output another folder") from None
    return _in_float32(network, recipe, exam.truth.shape[1])


def _check_space(output: Path, network: keras.Model) -> None:
    """Check that the run's files fit: in float32 the backup (weights, average, two moments), best, model."""
    needed = _KEPT_COPIES * 4 * network.count_params()
    free = shutil.disk_usage(output).free
    if free < needed:
        raise UserError(
            f"{output}: {free / 1e6:.0f} MB are free there, and {needed / 1e6:.0f} MB are needed; "
            "make room, or give --output another folder"
        )


def _build(recipe: Recipe, classes: int) -> keras.Model:
    return model.build(
        recipe.model,
        classes,
        None if recipe.weights == "none" else recipe.weights,
        size=recipe.size or None,
        integers=recipe.integers,
        frozen_statistics=recipe.frozen_statistics,
        seed=recipe.seed,
    )


def _in_float32(network: keras.Model, recipe: Recipe, classes: int) -> keras.Model:
    """Return the network as any machine can run it, also one without the hardware it was trained on."""
    if keras.mixed_precision.global_policy().name == "float32" and hardware.sharers() == 1:
        return network
    hardware.settle()
    plain = _build(replace(recipe, weights="none"), classes)
    plain.set_weights(network.get_weights())
    return plain


def _rate(recipe: Recipe, steps: int) -> float | keras.optimizers.schedules.LearningRateSchedule:
    if not recipe.cosine:
        return recipe.learning_rate
    return keras.optimizers.schedules.CosineDecay(
        0.0, steps * recipe.epochs, warmup_target=recipe.learning_rate, warmup_steps=steps // 2
    )


def _report(recipe: Recipe, file: Path) -> None:
    """Judge the model on the test images of its run, and write the report."""
    print("judging the test images", flush=True)
    samples = [s for s in prepare(recipe, None, file.parent) if s.split == "test"]
    if not samples:
        print("no image is of split test: no report")
        return
    predictor = predict.open_model(file)
    if strangers := evaluate.of_others(samples, [c.name for c in predictor.classes]):
        print(f"left out, since the model does not tell them: {evaluate.in_words(strangers)}")
    result = evaluate.judge(predictor, samples) | {"model": str(file), "images": f"test of {recipe.data}"}
    print(evaluate.write_report(file.parent, result, predictor, samples))


def _parser() -> Parser:
    parser = Parser(prog="python -m training.train", description=__doc__)
    for field in fields(Recipe):
        values = [str(getattr(recipe, field.name)) or "empty" for recipe in RECIPES.values()]
        differ = len(set(values)) > 1
        defaults = ", ".join(map(": ".join, zip(RECIPES, values, strict=True))) if differ else values[0]
        told = f"{HELP[field.name]} ({defaults})"
        kind = type(getattr(RECIPES["robust"], field.name))
        flag = "--" + field.name.replace("_", "-")
        if field.name == "recipe":
            parser.add_argument(flag, choices=RECIPES, default="robust", help=HELP[field.name])
        elif kind is bool:
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, help=told)
        else:
            choices = list(Framing) if kind is Framing else None
            parser.add_argument(flag, type=kind, choices=choices, help=told)
    parser.add_argument("--output", type=Path, default=Path("runs/default"), help="folder of the run")
    parser.add_argument("--h5", action="store_true", help="write model.h5 too")
    parser.add_argument("--tensorboard", action="store_true", help="write logs for TensorBoard")
    return parser


def read_options(options: argparse.Namespace) -> Recipe:
    """Return the recipe that a command line names, changed as its flags say."""
    given = {f.name: getattr(options, f.name) for f in fields(Recipe)}
    changed = {name: value for name, value in given.items() if value is not None}
    return replace(RECIPES[options.recipe], **changed)


def _work(options: argparse.Namespace) -> None:
    recipe = read_options(options)
    try:
        file = train(recipe, options.output, tensorboard=options.tensorboard)
    except OSError as error:
        raise UserError(f"{error}; {_GOES_ON}") from None
    print(file)
    _report(recipe, file)
    if options.h5:
        model.write_h5(model.load(file).network, file.with_suffix(".h5"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    options = _parser().parse_args(arguments)
    return run(lambda: _work(options), f"stopped; {_GOES_ON}")


if __name__ == "__main__":
    sys.exit(main())
