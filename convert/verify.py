"""Is the integer file as right as the float model, and faster? `python -m convert.verify`.

Both run over a split through `edge.classify`, the code of the instrument, and are judged by what the network
says, without the sizes of the cells (`edge.sizes`). Ends with exit code 1 where the file loses more than
--max-loss, or an operation of it is float.
"""

import argparse
import hashlib
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from convert import tflite
from convert.graph import Graph, delegation
from convert.scores import with_scores
from edge.cells import Answers, Image
from edge.classify import DEFAULT_MODEL, read_card
from edge.errors import UserError
from edge.startup import Parser, run
from edge.whole import write_json
from training import data, division, gradcam, metrics, model
from training.evaluate import figures
from training.page import percent
from training.predict import Predictor, look, open_model, predict
from training.recipe import require

_LAYER_CROPS = 24
"""Crops over which the error of each layer is taken."""
_CALIBRATION_CROPS = 50
_ROUNDS, _SERIES = 30, 10
"""Turns of each file for its latency, and its runs at a turn: doubtful cells are looked at in series too."""
_WORST = 8
"""Layers and images that are named."""

_Sums = NDArray[np.float64]


def verify(trained: model.Trained, file: Path, samples: Sequence[data.Sample]) -> dict[str, Any]:
    """Return how an integer file stands beside its float model on `samples`.

    Keys: cells, sets ("all classes", "five classes": float, int8, loss, agreement, now_right, now_wrong, p,
    per_class F1), gaps (images with the largest change of probabilities), layers (of each the share of the
    variance in its channels that the file's do not explain, by rounding or fine-tuning), operations,
    floating, delegate, bytes, latency_ms, heat_map (mean correlation with Grad-CAM of the float model, or
    None).

    Raises:
        UserError: the two are not of one network, or no sample is of the model's classes.
    """
    content, card = file.read_bytes(), read_card(file)
    if [c.name for c in card.classes] != list(trained.names) or card.size != trained.size:
        raise UserError(f"{file}: other classes or another size than the .keras model; it is not made of it")
    known = [s for s in samples if s.name in trained.names]
    if not known:
        raise UserError("no image is of one of the model's classes")
    with tempfile.TemporaryDirectory() as folder:
        exact = _write_float(trained, card.facts, Path(folder))
        float_content = exact.read_bytes()
        judges = open_model(exact), open_model(file)
        print(f"asking the float file and the integer file about {len(known)} cells", flush=True)
        answers = tuple(predict(judge, known)[0] for judge in judges)
    views = np.stack([look(known[i], judges[1]) for i in data.evenly(len(known), _CALIBRATION_CROPS)])
    print("looking at layers, heat maps and latency", flush=True)
    graph = Graph(content)
    taken = delegation(content)
    return {
        "cells": len(known),
        "sets": _sets(known, answers, trained.names),
        "gaps": _gaps(known, answers),
        "layers": _layers(Graph(float_content), graph, views[:: len(views) // _LAYER_CROPS or 1]),
        "operations": dict(graph.kinds()),
        "floating": sorted({op.kind for op in graph.operations if op.floating}),
        "delegate": {"pieces": taken.pieces, "outside": dict(taken.outside)},
        "bytes": len(content),
        "latency_ms": _latency(
            {"float": float_content, "int8": content, "stock INT8": _stock(trained, views)}, views[0]
        ),
        "heat_map": _heat_map(trained, known, judges[1], answers),
    }


def _check_parent(model_file: Path, file: Path) -> None:
    """Raise UserError where the integer file was made of another network, whose figures would say nothing."""
    made_of = read_card(file).facts.get("made_of")
    if made_of != hashlib.sha256(model_file.read_bytes()).hexdigest():
        raise UserError(f"{file}: not made of {model_file}; give --model the .keras file that it was made of")


def _write_float(trained: model.Trained, facts: Mapping[str, Any], folder: Path) -> Path:
    """Write the float network as a file with a card, so that the instrument's code runs it too."""
    file, content = folder / "float.tflite", with_scores(tflite.floating(trained.network))
    file.write_bytes(content)
    kept = {key: value for key, value in facts.items() if key != "heat_side"}
    card = kept | {"sha256": hashlib.sha256(content).hexdigest(), "familiar": trained.facts["familiar"]}
    write_json(file.with_suffix(".json"), card)
    return file


def _stock(trained: model.Trained, crops: NDArray[np.uint8]) -> bytes:
    """Return what the converter makes of Keras' own network: for its latency, so its weights are any."""
    stock = model.build("mobilenet_v3_small", len(trained.names), None, size=trained.size, integers=False)
    return tflite.integer(stock, crops)


def _sets(
    samples: Sequence[data.Sample], answers: Sequence[Answers], names: Sequence[str]
) -> dict[str, dict[str, Any]]:
    found = {}
    five = [name for name in data.STUDY_CLASSES if name in names]
    for title, classes in (("all classes", names), ("five classes", five)):
        if not any(s.name in classes for s in samples):
            continue
        before, after = (figures(samples, a, names, classes) for a in answers)
        both = zip(before["predictions"], after["predictions"], strict=True)
        said = [(p["class"], p["predicted"], q["predicted"]) for p, q in both]
        right = [np.array([truth == row[k] for truth, *row in said]) for k in (0, 1)]
        gained, lost, p = metrics.mcnemar(right[1], right[0])
        found[title] = {
            "float": before["accuracy"],
            "int8": after["accuracy"],
            "loss": before["accuracy"] - after["accuracy"],
            "agreement": float(np.mean([a == b for _, a, b in said])),
            "now_right": gained,
            "now_wrong": lost,
            "p": p,
            "per_class": {
                name: {"float": row["f1"], "int8": after["per_class"][name]["f1"]}
                for name, row in before["per_class"].items()
            },
        }
    return found


def _gaps(samples: Sequence[data.Sample], answers: Sequence[Answers]) -> list[dict[str, Any]]:
    """Return the images whose probabilities changed most, the worst first (total variation, 0..1)."""
    change = np.abs(answers[0].probabilities - answers[1].probabilities).sum(axis=1) / 2
    worst = np.argsort(-change, kind="stable")[:_WORST]
    return [
        {"file": samples[i].file, "class": samples[i].name, "change": round(float(change[i]), 4)}
        for i in worst
    ]


def _layers(exact: Graph, rounded: Graph, crops: NDArray[np.uint8]) -> list[dict[str, Any]]:
    """Return the error of each layer that both files have, the worst first."""
    twins = {op.layer: op for op in exact.operations}
    both = [(twins[op.layer], op) for op in rounded.operations if op.layer in twins]
    sums: list[list[_Sums]] = [[] for _ in both]
    for crop in crops:
        exact.see(crop)
        rounded.see(crop)
        for i, (one, other) in enumerate(both):
            both_values = exact.values(one), rounded.values(other)
            x, y = (v.reshape(-1, v.shape[-1]).astype(np.float64) for v in both_values)
            sums[i].append(np.stack([x, y, x * x, y * y, x * y]).mean(axis=1))
    shares = np.array([_unexplained(np.mean(rows, axis=0)) for rows in sums])
    return [
        {"layer": both[i][1].layer, "error": float(shares[i])} for i in np.argsort(-shares, kind="stable")
    ]


def _unexplained(means: _Sums) -> float:
    """Return the share of a layer's variance that no stretch and shift of the rounded channels explains.

    Channels of the file may be stretched and moved (`convert.equalise`, `convert.fold`): that is no error.
    Channels of one value a crop, as a gate's, need many crops.

    Args:
        means: of x, y, xx, yy, xy for each channel, x exact and y rounded, shape (5, channels).
    """
    x, y, xx, yy, xy = means
    variance, other = np.maximum(xx - x * x, 0), np.maximum(yy - y * y, 1e-12)
    explained = np.minimum(np.maximum(xy - x * y, 0) ** 2 / other, variance)
    return float((variance - explained).sum() / max(variance.sum(), 1e-12))


def _latency(files: Mapping[str, bytes], crop: Image) -> dict[str, float]:
    """Return the median milliseconds of one run of each file, one thread, the files' series by turns."""
    runs = {}
    for name, content in files.items():
        interpreter = Interpreter(model_content=content, num_threads=1)
        interpreter.allocate_tensors()
        given = interpreter.get_input_details()[0]
        runs[name] = (interpreter, given["index"], crop[None].astype(given["dtype"]))
    times: dict[str, list[float]] = {name: [] for name in files}
    for _ in range(_ROUNDS):
        for name, (interpreter, index, given) in runs.items():
            for _ in range(_SERIES):
                interpreter.set_tensor(index, given)
                begun = time.perf_counter()
                interpreter.invoke()
                times[name].append(1000 * (time.perf_counter() - begun))
    return {name: float(np.median(taken)) for name, taken in times.items()}


def _heat_map(
    trained: model.Trained, samples: Sequence[data.Sample], predictor: Predictor, answers: Sequence[Answers]
) -> float | None:
    """Return the mean correlation of the file's maps with Grad-CAM of the float model.

    Over the cells to which both give the same class, and where Grad-CAM shows anything.
    """
    said = [a.probabilities.argmax(axis=1) for a in answers]
    same = np.flatnonzero(said[0] == said[1])
    found = []
    for start in range(0, len(same), 64):
        part = same[start : start + 64]
        views = np.stack([look(samples[i], predictor) for i in part])
        numbers = said[0][part].tolist()
        drawn = predictor.explain(views, [trained.names[number] for number in numbers])
        if drawn is None:
            return None
        for heat, map_ in zip(gradcam.heat_maps(trained.network, views, numbers), drawn, strict=True):
            if heat.std() > 0 and map_.std() > 0:
                found.append(float(np.corrcoef(heat.ravel(), map_.ravel())[0, 1]))
    return float(np.mean(found)) if found else None


def lines(result: Mapping[str, Any]) -> list[str]:
    """Return a result of `verify` as lines to print."""
    told = [
        f"{'':16}{'float %':>9}{'INT8 %':>9}{'loss':>7}{'agree %':>9}{'now right':>11}{'wrong':>7}{'p':>7}"
    ]
    for title, f in result["sets"].items():
        shares = "".join(f"{100 * f[key]:11.2f}" for key in ("float", "int8", "loss", "agreement"))
        told.append(f"{title:16}{shares}{f['now_right']:11d}{f['now_wrong']:11d}{f['p']:11.3f}")
    told.append("F1 of each class, float and INT8, %")
    for name, f in result["sets"]["all classes"]["per_class"].items():
        told.append(f"  {name:22}" + "".join(f"{percent(share):>8}" for share in f.values()))
    told.append("images whose probabilities changed most")
    told += [f"  {g['change']:.3f}  {g['class']:22}{g['file']}" for g in result["gaps"]]
    told.append("layers by the share of their variance that the file does not explain")
    told += [f"  {row['error']:.4f}  {row['layer']}" for row in result["layers"][:_WORST]]
    kinds = ", ".join(f"{kind} {number}" for kind, number in sorted(result["operations"].items()))
    outside = ", ".join(f"{kind} {n}" for kind, n in sorted(result["delegate"]["outside"].items()))
    latency = result["latency_ms"]
    told += [
        f"operations: {kinds}; float: {', '.join(result['floating']) or 'none'}",
        f"delegate: {result['delegate']['pieces']} piece(s); outside: {outside or 'nothing'}",
        f"size: {result['bytes'] / 1e6:.2f} MB",
        "latency: " + ", ".join(f"{name} {value:.2f} ms" for name, value in latency.items()),
        f"latency of INT8 over float {latency['int8'] / latency['float']:.2f}, over the stock conversion "
        f"{latency['int8'] / latency['stock INT8']:.2f}",
    ]
    if result["heat_map"] is not None:
        told.append(f"heat maps: mean correlation with Grad-CAM {result['heat_map']:.3f}")
    return told


def _check(result: Mapping[str, Any], max_loss: float) -> None:
    """Raise UserError where the file may not be used."""
    if result["floating"]:
        raise UserError(f"not a full-integer file: {', '.join(result['floating'])} yield float tensors")
    for title, f in result["sets"].items():
        if 100 * f["loss"] > max_loss:
            raise UserError(f"{title}: {100 * f['loss']:.2f} points are lost, --max-loss allows {max_loss:g}")


def _verify(options: argparse.Namespace) -> None:
    require("max_loss", options.max_loss, "0 to 100", fits=0 <= options.max_loss <= 100)
    samples = division.select(data.load(options.data), options.split, options.model)
    trained = model.load(options.model)
    _check_parent(options.model, options.file)
    result = verify(trained, options.file, samples)
    print("\n".join(lines(result)))
    if options.json:
        write_json(options.json, result)
    _check(result, options.max_loss)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    parser = Parser(prog="python -m convert.verify", description=__doc__)
    parser.add_argument(
        "--model", type=Path, default=Path("runs/default/model.keras"), help="the .keras file"
    )
    parser.add_argument("--file", type=Path, default=DEFAULT_MODEL, help="the .tflite file made of it")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with cells.csv")
    parser.add_argument("--split", default="test", help="part of the model's run, split or source of --data")
    parser.add_argument("--max-loss", type=float, default=0.2, help="accuracy, in points, that may be lost")
    parser.add_argument("--json", type=Path, help="write everything to this file")
    options = parser.parse_args(arguments)
    return run(lambda: _verify(options))


if __name__ == "__main__":
    sys.exit(main())
