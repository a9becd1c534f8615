"""Keras models to `.tflite` files: full integer, float, and the stock conversion to compare with."""

import contextlib
import io
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from edge.errors import UserError


def check_name(output: Path) -> None:
    """Check, before anything is converted, that a file may be called `output`.

    Raises:
        UserError: it would not be known as a .tflite file.
    """
    if output.suffix != ".tflite":
        raise UserError(f"{output}: --output names a .tflite file")


def integer(network: keras.Model, crops: NDArray[np.uint8 | np.int8]) -> bytes:
    """Return the full-integer file: uint8 in and out, INT8 built-in operations, weights per channel.

    Ranges come from the fake-quantization nodes of the network where it has them, else from `crops`, the
    least and the greatest value of each tensor (the converter's stock post-training quantization).

    Args:
        network: takes an RGB picture, 0..255, or less a constant.
        crops: as it takes them, shape (n, size, size, 3).

    Raises:
        UserError: an operation has no integer form.
    """
    converter = tf.lite.TFLiteConverter.from_keras_model(network)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([crop[None].astype(np.float32)] for crop in crops)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = tf.uint8
    converter.inference_output_type = tf.uint8
    return _convert(converter)


def floating(network: keras.Model) -> bytes:
    """Return the float32 file of a network."""
    return _convert(tf.lite.TFLiteConverter.from_keras_model(network))


def _convert(converter: tf.lite.TFLiteConverter) -> bytes:
    try:
        with _unheard():
            return bytes(converter.convert())
    except (ValueError, RuntimeError, tf.errors.OpError) as error:
        raise UserError(f"the model cannot be made a .tflite file: {error}") from None


@contextlib.contextmanager
def _unheard() -> Iterator[None]:
    """Drop what is written to stdout and stderr, by native code too: the converter talks to its makers."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(1), os.dup(2)]
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for stream, copy in zip((1, 2), kept, strict=True):
            os.dup2(copy, stream)
            os.close(copy)
