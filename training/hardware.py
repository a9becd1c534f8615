"""What the machine has: mixed precision on a GPU, and all GPUs at once where Keras can share a batch out."""

import keras


def gpus() -> list[str]:
    """Return the names of the GPUs that Keras' backend sees."""
    if keras.backend.backend() == "torch":
        import torch

        return [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    return [str(name) for name in keras.distribution.list_devices("gpu")]


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
