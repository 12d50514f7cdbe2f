"""`clipself env`: what a report of a problem needs to say about where it happened."""

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Final

NEEDED: Final = (
    "torch", "torchvision", "open_clip_torch", "timm", "numpy", "pillow", "pycocotools", "safetensors", "scipy",
    "scikit-learn", "tyro",
)  # fmt: skip
OPTIONAL: Final = (
    "transformers", "diffusers", "supervision", "tensorboard", "wandb", "mlflow", "av", "pillow-heif", "gradio",
    "faster-coco-eval",
)  # fmt: skip
"""What an extra of the package installs."""


def environment() -> str:
    """Versions, devices and folders, a line each."""
    import torch

    from clipself import __version__
    from clipself.files import default_cache_dir

    devices = [f"cuda:{place} {torch.cuda.get_device_name(place)}" for place in range(torch.cuda.device_count())]
    devices += ["mps"] if torch.backends.mps.is_available() else []
    rows = [
        ("clipself", __version__),
        ("python", f"{platform.python_version()} ({platform.python_implementation()}), {sys.executable}"),
        ("system", f"{platform.platform()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"),
        ("devices", ", ".join([*devices, "cpu"])),
        ("cuda of torch", str(torch.version.cuda)),
        *((name, _version(name)) for name in NEEDED),
        *((name, _version(name)) for name in OPTIONAL),
        ("cache", str(default_cache_dir())),
        *((name, os.environ[name]) for name in sorted(os.environ) if name.startswith("CLIPSELF_")),
    ]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
