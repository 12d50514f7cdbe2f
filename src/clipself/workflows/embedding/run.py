"""`clipself embed` as a function: streams pictures through a CLIP, keeps a journal, writes one table."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.devices import pick_device
from clipself.backbones.loading import load_clip
from clipself.backbones.refinement import dense_side, refinement_of
from clipself.backbones.text import embed_names
from clipself.data.images import find_pictures
from clipself.engine.pictures import resolve_opened
from clipself.engine.task import digest_of
from clipself.files import write_atomically
from clipself.text.names import parse_names
from clipself.workflows import journal
from clipself.workflows.embedding.config import EmbedConfig
from clipself.workflows.embedding.sources import LabelledBoxes, Source, WholePictures

TABLES: Final = "embeddings.npz"
INDEX: Final = "embeddings.json"


class Journal(journal.Journal):
    """A line a piece of pictures, and the rows themselves beside it."""

    LINES, CARD, WHAT = "pieces.jsonl", "embed.json", "embeddings"

    def pieces(self) -> Iterator[dict[str, Any]]:
        """What each piece holds."""
        return map(json.loads, self.lines())


@dataclass(frozen=True, slots=True)
class RowFile:
    """Rows of float32, one after another, on disk.

    Args:
        path: The file.
        width: Numbers of a row.
    """

    path: Path
    width: int

    def keep(self, count: int) -> None:
        """Cuts off what is no whole piece.

        Raises:
            ValueError: There are fewer rows.
        """
        held, wanted = self.path.stat().st_size if self.path.exists() else 0, 4 * self.width * count
        if held < wanted:
            raise ValueError(f"{self.path} lacks rows that were embedded before; begin anew with overwrite")
        if self.path.exists():
            os.truncate(self.path, wanted)

    def add(self, rows_ND: Tensor) -> None:
        """More rows; what is there is on disk."""
        with self.path.open("ab") as stream:
            stream.write(np.ascontiguousarray(rows_ND.numpy(), dtype="<f4").tobytes())

    def read(self) -> NDArray[np.float32]:
        """All of them, without being in memory."""
        if not self.path.exists() or not self.path.stat().st_size:
            return np.zeros((0, self.width), np.float32)
        held: NDArray[np.float32] = np.memmap(self.path, dtype="<f4", mode="r").reshape(-1, self.width)
        return held


@dataclass(frozen=True, kw_only=True, slots=True)
class EmbedResult:
    """What was written.

    Attributes:
        out: The folder.
        tables: `embeddings.npz`: "pictures" or "boxes", and "names"; unit rows (N, D) in float32.
        index: `embeddings.json`: what each row is of.
        rows: How many rows each table has.
        left_out: Pictures that could not be read, with the reason.
        resumed: Rows that an earlier part of the run had embedded.
    """

    out: Path
    tables: Path
    index: Path
    rows: Mapping[str, int]
    left_out: tuple[Mapping[str, str], ...] = field(default=())
    resumed: int = 0

    def to_table(self) -> str:
        """A summary."""
        held = ", ".join(f"{count} {kind}" for kind, count in self.rows.items())
        taken = f" ({self.resumed} of them before)" if self.resumed else ""
        bad = f"; {len(self.left_out)} left out, such as {self.left_out[0]['reason']}" if self.left_out else ""
        return f"{held}{taken}{bad}\n{self.tables}\n{self.index}"


def embed(config: EmbedConfig | Mapping[str, Any] | str | Path | None = None, /, **options: Any) -> EmbedResult:
    """Embeds pictures, labelled boxes and names as unit rows of one joint space.

    A piece of pictures after another is in memory. Each is kept as soon as it is done: the same call again goes on
    where a run was stopped, and leaves the same files as one that was not. Names may be others then.

    Args:
        config: All settings, also as a table or a file; or give them as keywords.
        options: Fields of `EmbedConfig`; `images` may hold opened pictures too (PIL, arrays, tensors).

    Raises:
        ValueError: There is nothing to embed, a setting does not fit, no picture can be read, or the folder holds
            embeddings of another model or other pictures.
        FileNotFoundError: A picture, label file or model is missing.
    """
    made, clip, source = _open(config, options)
    done = Journal(made.out)
    rows, resumed = RowFile(made.out / "rows.f32", clip.embed_dim), 0
    if source is not None:
        resumed = _embed_rest(made, clip, source, done, rows)
    return _finish(made, clip, source, done, rows, resumed)


def _open(config: Any, options: dict[str, Any]) -> tuple[EmbedConfig, DenseCLIP, Source | None]:
    """The settings, the model, and what is to be looked at, if anything is."""
    made, listed = resolve_opened(EmbedConfig, config, **options)
    device = pick_device(made.device)
    clip = load_clip(made.model, made.pretrained, text_from=made.text_from, device=device).eval()
    if made.annotations is not None:
        refined = refinement_of(made.model)
        readout, side = made.readout or refined.readout or "value", made.image_size or dense_side(clip, refined)
        return made, clip, LabelledBoxes(made.annotations, made.images[0], readout=readout, image_size=side)
    if made.images:
        return made, clip, WholePictures(listed or find_pictures(made.images, every=made.every))
    return made, clip, None


def _embed_rest(config: EmbedConfig, clip: DenseCLIP, source: Source, done: Journal, rows: RowFile) -> int:
    """Looks at the pieces that are not done; says how many rows were."""
    made_with = {
        "model": config.model, "weights": clip.weights_hash("image"), "of": source.kind, **source.made_with,
        "pictures": digest_of(source.files),
    }  # fmt: skip
    first = done.begin(made_with, overwrite=config.overwrite)
    resumed = sum(len(piece["rows"]) for piece in done.pieces())
    rows.keep(resumed)
    starts = range(first * source.at_once, len(source.files), source.at_once)
    with tqdm(total=len(source.files), initial=min(starts.start, len(source.files)), unit="image", leave=False) as bar:
        try:
            for start in starts:
                places = range(start, min(start + source.at_once, len(source.files)))
                piece = source.embed(clip, places)
                rows.add(piece.rows_ND)
                done.add(json.dumps({"rows": piece.told, "left_out": piece.left_out}))
                bar.update(len(places))
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"stopped; what is embedded is kept in {config.out}, and the same command goes on from there"
            ) from None
    return resumed


def _finish(
    config: EmbedConfig, clip: DenseCLIP, source: Source | None, done: Journal, rows: RowFile, resumed: int
) -> EmbedResult:
    """Writes the table and its index."""
    tables: dict[str, NDArray[np.float32]] = {}
    names = list(parse_names(config.names).names) if config.names else []
    left_out = [] if source is None else [one for piece in done.pieces() for one in piece["left_out"]]
    if source is not None:
        tables[source.kind] = rows.read()
        if not len(tables[source.kind]):
            raise ValueError(f"none of {len(left_out)} pictures can be read; the first: {left_out[0]['reason']}")
    if names:
        tables["names"] = embed_names(clip, names, templates=config.templates).rows_SD.cpu().numpy()
    head = {
        "model": config.model, "image_tower": clip.identity.image, "text_tower": clip.identity.text,
        "embed_dim": clip.embed_dim, **({} if source is None else source.made_with),
        "templates": config.templates if names else None, "left_out": left_out, "names": names,
    }  # fmt: skip
    told = () if source is None else (json.dumps(row) for piece in done.pieces() for row in piece["rows"])
    index = write_atomically(
        config.out / INDEX, lambda part: _write_index(part, head, "" if source is None else source.kind, told)
    )
    return EmbedResult(
        out=config.out, tables=write_atomically(config.out / TABLES, lambda part: _write_tables(part, tables)),
        index=index, rows={kind: len(table) for kind, table in tables.items()}, left_out=tuple(left_out),
        resumed=resumed,
    )  # fmt: skip


def _write_tables(part: Path, tables: Mapping[str, NDArray[np.float32]]) -> None:
    with part.open("wb") as stream:
        np.savez(stream, **tables)  # type: ignore[arg-type]


def _write_index(part: Path, head: Mapping[str, Any], kind: str, told: Iterable[str]) -> None:
    """The head as JSON, and a line a row at its end, so that millions of them are never in memory."""
    with part.open("w", encoding="utf-8") as stream:
        stream.write(json.dumps(head, indent=2)[:-2])
        if kind:
            stream.write(f',\n  "{kind}": [')
            for number, one in enumerate(told):
                stream.write(f"{',' if number else ''}\n    {one}")
            stream.write("\n  ]")
        stream.write("\n}\n")
