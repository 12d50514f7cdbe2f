"""What an evaluation leaves on disk: predictions of every way in COCO's format, and drawings of the first pictures."""

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from clipself.data.images import distinct_names
from clipself.data.panoptic import PanopticImages, PanopticTruth, PanopticWriter
from clipself.panoptic.to_maps import Segmented
from clipself.viz.panels import lay_out, shrink
from clipself.viz.panoptic_maps import paint_segments

HEIGHT: Final = 320
"""Of drawings, in pixels."""
Way = tuple[str, str]
"""Title of the judge and row of `MIXTURES`."""


class EvaluationFolder:
    """A folder for each way, `panoptic.json` with its PNGs, and `picture_NNN.png` with all of them side by side.

    Args:
        folder: Made when missing.
        data: What is evaluated on.
        files: Name of each picture below its folder.
        pictures: How many of the first ones are drawn.
    """

    def __init__(self, folder: Path, data: PanopticImages, *, files: Sequence[str], pictures: int) -> None:
        self.folder, self.data, self.files, self.pictures = folder, data, files, pictures
        self._names = distinct_names(files)
        self._writers: dict[Way, PanopticWriter] = {}
        self._columns: dict[int, list[tuple[str, Any]]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Of an evaluation that breaks off the PNGs stay, without a JSON."""
        if error is None:
            self.close()
        for writer in self._writers.values():
            writer.flush()

    def add(self, way: Way, index: int, truth: PanopticTruth, found: Segmented) -> None:
        """Keeps one picture of one way."""
        if way not in self._writers:
            self._writers[way] = PanopticWriter(
                self.folder / f"{len(self._writers) + 1}_{Path(way[0]).name}_{way[1]}",
                class_ids=self.data.class_ids,
                class_names=self.data.class_names,
                class_is_thing=self.data.class_is_thing,
            )
        self._writers[way].add(found.panoptic, image_id=truth.image_id, file=self.files[index], name=self._names[index])
        if index < self.pictures:
            if index not in self._columns:
                true_labels = {segment.id: segment.label for segment in truth.segments}
                shown, true_ids = shrink(truth.image, truth.ids_HW, height=HEIGHT)
                self._columns[index] = [("truth", paint_segments(shown, true_ids, true_labels, self.data.class_names))]
            title = way[1] if way[0] == "-" else f"{Path(way[0]).name}, {way[1]}"
            labels = {segment.id: segment.label for segment in found.panoptic.segments}
            shown, ids = shrink(truth.image, found.panoptic.ids_HW.cpu().numpy(), height=HEIGHT)
            self._columns[index].append((title, paint_segments(shown, ids, labels, self.data.class_names)))

    def close(self) -> None:
        """Writes what is complete only at the end."""
        for writer in self._writers.values():
            writer.close()
        for index, columns in self._columns.items():
            self.folder.mkdir(parents=True, exist_ok=True)
            lay_out([columns], height=HEIGHT).save(self.folder / f"picture_{index:03d}.png")
