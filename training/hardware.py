"""What the machine has: mixed precision on a GPU, all GPUs at once. The same for every Keras backend."""

import keras


def gpus() -> list[str]:
    """Return the names of the GPUs that Keras' backend sees."""
    return [str(name) for name in keras.distribution.list_devices("gpu")]


def use_all(seed: int) -> str:
    """Set seeds, precision and distribution for a run; return in words what is used.

    With GPUs the arithmetic is mixed bfloat16 (weights stay float32). With several of them every batch
    is shared out, where Keras' own distribution knows the backend.
    """
    keras.utils.set_random_seed(seed)
    found = gpus()
    if not found:
        return f"{keras.backend.backend()}, CPU"
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    if len(found) > 1:
        keras.distribution.set_distribution(keras.distribution.DataParallel(devices=found))
    return f"{keras.backend.backend()}, mixed bfloat16 on {', '.join(found)}"
