"""The forty networks of the study's Table 2, by name, each with the input that Keras documents for it.

Every one takes RGB 0..255: what a network wants of its input (its `preprocess_input`) becomes its first
layers, so that no mean or deviation is kept beside a model file.
"""

import warnings
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from edge.errors import UserError

if TYPE_CHECKING:
    import keras


class Input(StrEnum):
    """How a network of `keras.applications` wants its input, as Keras names it."""

    INSIDE = "inside"
    """RGB 0..255: the network scales it itself."""
    TF = "tf"
    """RGB -1..1."""
    CAFFE = "caffe"
    """BGR 0..255 less the mean of ImageNet."""
    TORCH = "torch"
    """RGB 0..1, less the mean of ImageNet, over its deviation."""


@dataclass(frozen=True, slots=True)
class Backbone:
    """One network of `keras.applications`."""

    constructor: str
    size: int
    """Side of its input in pixels."""
    input: Input
    dropout: float = 0.0
    """Share of the pooled features that the network's own top drops in training (`keras.applications`)."""


BACKBONES: dict[str, Backbone] = {
    "convnext_xlarge": Backbone("ConvNeXtXLarge", 224, Input.INSIDE),
    "convnext_large": Backbone("ConvNeXtLarge", 224, Input.INSIDE),
    "convnext_base": Backbone("ConvNeXtBase", 224, Input.INSIDE),
    "convnext_small": Backbone("ConvNeXtSmall", 224, Input.INSIDE),
    "convnext_tiny": Backbone("ConvNeXtTiny", 224, Input.INSIDE),
    "vgg19": Backbone("VGG19", 224, Input.CAFFE),
    "vgg16": Backbone("VGG16", 224, Input.CAFFE),
    "efficientnet_v2_l": Backbone("EfficientNetV2L", 480, Input.INSIDE, 0.2),
    "efficientnet_v2_m": Backbone("EfficientNetV2M", 480, Input.INSIDE, 0.2),
    "efficientnet_v2_s": Backbone("EfficientNetV2S", 384, Input.INSIDE, 0.2),
    "efficientnet_v2_b3": Backbone("EfficientNetV2B3", 300, Input.INSIDE, 0.2),
    "efficientnet_v2_b2": Backbone("EfficientNetV2B2", 260, Input.INSIDE, 0.2),
    "efficientnet_v2_b1": Backbone("EfficientNetV2B1", 240, Input.INSIDE, 0.2),
    "efficientnet_v2_b0": Backbone("EfficientNetV2B0", 224, Input.INSIDE, 0.2),
    "nasnet_large": Backbone("NASNetLarge", 331, Input.TF),
    "nasnet_mobile": Backbone("NASNetMobile", 224, Input.TF),
    "efficientnet_b7": Backbone("EfficientNetB7", 600, Input.INSIDE, 0.5),
    "efficientnet_b6": Backbone("EfficientNetB6", 528, Input.INSIDE, 0.5),
    "efficientnet_b5": Backbone("EfficientNetB5", 456, Input.INSIDE, 0.4),
    "efficientnet_b4": Backbone("EfficientNetB4", 380, Input.INSIDE, 0.4),
    "efficientnet_b3": Backbone("EfficientNetB3", 300, Input.INSIDE, 0.3),
    "efficientnet_b2": Backbone("EfficientNetB2", 260, Input.INSIDE, 0.3),
    "efficientnet_b1": Backbone("EfficientNetB1", 240, Input.INSIDE, 0.2),
    "efficientnet_b0": Backbone("EfficientNetB0", 224, Input.INSIDE, 0.2),
    "resnet152": Backbone("ResNet152", 224, Input.CAFFE),
    "resnet152_v2": Backbone("ResNet152V2", 224, Input.TF),
    "resnet101": Backbone("ResNet101", 224, Input.CAFFE),
    "resnet101_v2": Backbone("ResNet101V2", 224, Input.TF),
    "resnet50": Backbone("ResNet50", 224, Input.CAFFE),
    "resnet50_v2": Backbone("ResNet50V2", 224, Input.TF),
    "inception_resnet_v2": Backbone("InceptionResNetV2", 299, Input.TF),
    "inception_v3": Backbone("InceptionV3", 299, Input.TF),
    "xception": Backbone("Xception", 299, Input.TF),
    "densenet201": Backbone("DenseNet201", 224, Input.TORCH),
    "densenet169": Backbone("DenseNet169", 224, Input.TORCH),
    "densenet121": Backbone("DenseNet121", 224, Input.TORCH),
    "mobilenet_v3_large": Backbone("MobileNetV3Large", 224, Input.INSIDE, 0.2),
    "mobilenet_v3_small": Backbone("MobileNetV3Small", 224, Input.INSIDE, 0.2),
    "mobilenet": Backbone("MobileNet", 224, Input.TF, 0.001),
    "mobilenet_v2": Backbone("MobileNetV2", 224, Input.TF),
}

_IMAGENET_MEAN = (123.675, 116.28, 103.53)
"""Of red, green, blue, 0..255; `keras.applications.imagenet_utils`."""
_IMAGENET_DEVIATION = (58.395, 57.12, 57.375)
_CAFFE_MEAN = (103.939, 116.779, 123.68)
"""Of blue, green, red."""
_TOLD = 200
"""Characters of Keras' reason that are told."""


def size_of(name: str) -> int:
    """Return the side of the input, pixels, of the network called `name`.

    Raises:
        UserError: no network has that name.
    """
    if name not in BACKBONES:
        raise UserError(f"--model {name}: unknown; choose one of {', '.join(BACKBONES)}")
    return BACKBONES[name].size


def build_backbone(name: str, weights: str | None, size: int | None = None) -> "keras.Model":
    """Return the network without its top: RGB 0..255 (size, size, 3) in, feature maps out.

    Args:
        name: a key of `BACKBONES`.
        weights: a Keras weights file without top, "imagenet" for Keras' own download, None for none.
        size: side of the input, pixels; None takes the network's own.

    Raises:
        UserError: the weights cannot be read, fetched, or do not fit.
    """
    # The names are needed where no network is: Keras takes seconds to start.
    import keras

    size = size or size_of(name)
    backbone = BACKBONES[name]
    image = keras.Input((size, size, 3), name="image")
    try:
        with warnings.catch_warnings():
            # The weights are of convolutions alone, which fit every size; of those that do not fit Keras
            # names each layer before it fails.
            warnings.simplefilter("ignore")
            network: keras.Model = getattr(keras.applications, backbone.constructor)(
                input_tensor=_prepare(image, backbone.input), include_top=False, weights=weights
            )
    except Exception as error:  # Keras raises a bare Exception where a download fails
        told = str(error).partition("\n")[0][:_TOLD]
        raise UserError(
            f"{name}: the weights {weights!r} cannot be used ({told}); --weights names a Keras weights file "
            "of this network without its top, imagenet, or none"
        ) from None
    return network


def _prepare(image: Any, wanted: Input) -> Any:
    import keras

    if wanted is Input.INSIDE:
        return image
    if wanted is Input.TF:
        return keras.layers.Rescaling(1 / 127.5, offset=-1.0)(image)
    if wanted is Input.CAFFE:
        blue_first = keras.ops.flip(image, axis=-1)
        return keras.layers.Normalization(mean=_CAFFE_MEAN, variance=(1.0, 1.0, 1.0))(blue_first)
    variance = tuple(d**2 for d in _IMAGENET_DEVIATION)
    return keras.layers.Normalization(mean=_IMAGENET_MEAN, variance=variance)(image)
