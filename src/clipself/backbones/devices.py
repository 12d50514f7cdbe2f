"""Where to compute."""

import torch


def pick_device(name: str | int | torch.device = "auto") -> torch.device:
    """The device of a name, or of a number of CUDA's; "auto" takes CUDA, then MPS, then the CPU.

    Raises:
        ValueError: The name is unknown or the device is not there.
    """
    name = f"cuda:{name}" if isinstance(name, int) else str(name)
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"unknown device {name!r}; use auto, cpu, cuda, cuda:1 or mps") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"{name!r} was asked for, but this PyTorch sees no CUDA device; use --device cpu or auto")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ValueError(f"{name!r} was asked for, but this PyTorch sees no MPS device; use --device cpu or auto")
    return device
