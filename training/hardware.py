"""What the machine has: mixed precision on a GPU, and all GPUs at once where Keras can share a batch out."""

import math
import os

import keras


def cores() -> int:
    """Return how many processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # no system but Linux can tell more


def gpus() -> list[str]:
    """Return the names of the GPUs that Keras' backend sees."""
    if keras.backend.backend() == "torch":
        import torch

        return [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    # JAX raises an error when it is asked for GPUs where there are none.
    names = map(str, keras.distribution.list_devices())
    return [name for name in names if not name.startswith("cpu")]


def use_all(seed: int) -> str:
    """Set seeds, precision and distribution for a run; return in words what is used.

    With GPUs the arithmetic is mixed bfloat16 (weights stay float32). Keras' own distribution shares every
    batch out over several of them with JAX alone; the other backends use the first.
    """
    keras.utils.set_random_seed(seed)
    backend, found = keras.backend.backend(), gpus()
    if not found:
        return f"{backend}, CPU"
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    if backend != "jax":
        return f"{backend}, mixed bfloat16 on {found[0]}"
    if len(found) > 1:
        keras.distribution.set_distribution(keras.distribution.DataParallel(devices=found))
    return f"{backend}, mixed bfloat16 on {', '.join(found)}"


def sharers() -> int:
    """Return how many devices share every batch, whose size must be a multiple of that."""
    shared = keras.distribution.distribution()
    return math.prod(shared.device_mesh.shape) if shared else 1


def settle() -> None:
    """Go on as any machine can: in float32, on one device."""
    keras.distribution.set_distribution(None)
    keras.mixed_precision.set_global_policy("float32")
