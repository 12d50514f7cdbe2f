"""Frames of videos as pictures: decoded in their order, one at a time."""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from PIL import Image

VIDEO_SUFFIXES: Final = frozenset((".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg"))
"""Suffixes of files that are read as videos, lower-case."""


def is_video(path: str | Path) -> bool:
    """Whether a file is one by its suffix."""
    return Path(path).suffix.lower() in VIDEO_SUFFIXES


class Video:
    """A video file whose frames are read by number; in ascending order each is decoded once.

    Args:
        path: The file.

    Raises:
        FileNotFoundError: There is no such file.
        ImportError: PyAV is not installed.
        ValueError: It is no video that can be read.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise FileNotFoundError(f"no video at {self.path}; check the path")
        try:
            self._av: Any = import_module("av")
        except ImportError as error:
            raise ImportError(f"{self.path} is a video, which needs PyAV; pip install 'clipself[video]'") from error
        self._decoded: Iterator[tuple[int, Any]] | None = None
        self._last: tuple[int, Image.Image] | None = None
        self.count = self._count()

    def _open(self) -> Any:
        try:
            container = self._av.open(str(self.path))
        except Exception as error:  # PyAV has a class of its own for each code of FFmpeg
            raise ValueError(f"{self.path} is no video that can be read ({error}); convert it to MP4") from error
        if not container.streams.video:
            container.close()
            raise ValueError(f"{self.path} holds no pictures, only {len(container.streams)} other streams")
        return container

    def _count(self) -> int:
        """Frames, counted by their packets: what the head of a file says is often missing or wrong."""
        with self._open() as container:
            count = sum(1 for packet in container.demux(video=0) if packet.size)
        if not count:
            raise ValueError(f"{self.path} holds no frames; was it cut short while copying?")
        return count

    def read(self, number: int) -> Image.Image:
        """A frame as it is shown, RGB.

        Raises:
            ValueError: There is no such frame, or it is damaged.
        """
        if self._last is not None and self._last[0] == number:
            return self._last[1]
        if self._decoded is None or (self._last is not None and number < self._last[0]):
            self._decoded = self._decode()
        try:
            for place, frame in self._decoded:
                if place == number:
                    self._last = number, _upright(frame)
                    return self._last[1]
        except Exception as error:
            self._decoded = self._last = None
            raise ValueError(f"{self.path} is damaged at frame {number} ({error}); copy it again") from error
        self._decoded = self._last = None
        raise ValueError(f"{self.path} has no frame {number} that can be decoded, of {self.count}")

    def _decode(self) -> Iterator[tuple[int, Any]]:
        with self._open() as container:
            yield from enumerate(container.decode(video=0))


def _upright(frame: Any) -> Image.Image:
    image: Image.Image = frame.to_image()
    turn = int(getattr(frame, "rotation", 0) or 0)
    return image.rotate(turn, expand=True) if turn % 360 else image


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of a video, decoded when it is read.

    Attributes:
        video: The video.
        number: From 0.
    """

    video: Video
    number: int

    def read(self) -> Image.Image:
        """Its pixels; see `Video.read`."""
        return self.video.read(self.number)


def read_video(path: str | Path, *, every: int = 1) -> Iterator[Image.Image]:
    """The frames of a video, one after another.

    Args:
        path: The file.
        every: 1 gives all, 10 every tenth.

    Raises:
        FileNotFoundError: There is no such file.
        ImportError: PyAV is not installed.
        ValueError: It is no video that can be read, or `every` is below 1.
    """
    if every < 1:
        raise ValueError(f"every={every} must be at least 1; 1 gives all frames")
    video = Video(path)
    return (video.read(number) for number in range(0, video.count, every))
