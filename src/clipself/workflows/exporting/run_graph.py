"""Runs the graph of this folder on pictures: python run_graph.py PICTURE ...; onnxruntime, numpy and pillow are enough.

Other names: clipself export names FOLDER --names ...
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

FOLDER = Path(__file__).parent


def read(file: str | Path) -> Image.Image:
    """A picture in RGB, the right way up, black where it is transparent."""
    with Image.open(file) as opened:
        picture = ImageOps.exif_transpose(opened)
        if picture.has_transparency_data:
            picture = Image.alpha_composite(Image.new("RGBA", picture.size, (0, 0, 0, 255)), picture.convert("RGBA"))
        return picture.convert("RGB")


def prepare(picture: Image.Image, how: dict[str, Any]) -> tuple[Any, float]:
    """An RGB picture as the graph takes it (1, 3, H, W), and what its sides were scaled by."""
    scale = how["size"] / (max(picture.size) if how["side"] == "longest" else min(picture.size))
    scale, step = min(scale, (how["most"] or np.inf) / max(picture.size)), how["multiple"]
    size = [max(1, round(side * scale / step)) * step for side in picture.size]
    resample, extent = Image.Resampling[how["resample"].upper()], Image.Transform.EXTENT
    right, bottom = picture.size
    if how["canvas"]:  # boxes are scaled by one number, so that what is left of half a pixel is not read
        right, bottom = (min(old, new / scale) for old, new in zip(picture.size, size, strict=True))
    if how["antialias"]:
        small = picture.resize((size[0], size[1]), resample, box=(0, 0, right, bottom))
    else:
        small = picture.transform((size[0], size[1]), extent, (0, 0, right, bottom), resample)
    pixels = np.asarray(small, np.float32) / np.float32(255)
    image = ((pixels - np.float32(how["mean"])) / np.float32(how["std"])).transpose(2, 0, 1)[None]
    return image, scale


def run(file: str | Path, folder: Path = FOLDER, names_file: str = "names.npz") -> dict[str, Any]:
    """What the graph gives for a picture, boxes in its own pixels; with the list of `names`, where there is one."""
    card = json.loads((folder / "graph.json").read_text(encoding="utf-8"))
    picture, how = read(file), card["prepare"]
    image, scale = prepare(picture, how)
    inputs: dict[str, Any] = {"images": image}
    names: list[str] = []
    if card["names"]:
        inputs |= dict(np.load(folder / names_file))
        names = json.loads((folder / names_file).with_suffix(".json").read_text(encoding="utf-8"))
    if how["canvas"]:
        height, width = image.shape[2:]
        mean, std = (np.array(how[name], np.float32)[None, :, None, None] for name in ("mean", "std"))
        grey = 0 * mean if how["fill"] is None else (np.float32(how["fill"]) - mean) / std
        inputs["images"] = np.broadcast_to(grey, (1, 3, how["canvas"], how["canvas"])).copy()
        inputs["images"][:, :, :height, :width] = image
        inputs["sizes"] = np.array([[height, width]], np.float32)
    session = onnxruntime.InferenceSession(folder / card["file"], providers=["CPUExecutionProvider"])
    found = dict(zip(card["outputs"], (out[0] for out in session.run(None, inputs)), strict=True))
    if card["kind"] == "detector":
        there = found["labels"] >= 0
        found = {name: value[there] for name, value in found.items()}
        found["boxes"] = np.clip(found["boxes"] / scale, 0, np.array([*picture.size, *picture.size], np.float32))
    return {**found, "names": names}


if __name__ == "__main__":
    for path in sys.argv[1:]:
        result = run(path)
        if "boxes" in result:
            for box, score, label in zip(result["boxes"], result["scores"], result["labels"], strict=True):
                print(f"{path}  {result['names'][label]}  {score:.3f}  {[round(float(side), 1) for side in box]}")
        elif "labels" in result:
            for label, count in zip(*np.unique(result["labels"], return_counts=True), strict=True):
                print(f"{path}  {result['names'][label]}  {count / result['labels'].size:.1%} of the picture")
        else:
            print(f"{path}  dense map of {result['dense_map'].shape}")
