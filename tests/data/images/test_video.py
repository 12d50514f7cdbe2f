"""Videos as pictures: the frames that PyAV wrote, in their order, wherever pictures are taken."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipself.data.images import find_pictures, read_image, read_video

av = pytest.importorskip("av")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve frames, each of a grey of its own."""
    path = tmp_path_factory.mktemp("video") / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(12):
            image = Image.new("RGB", (64, 48), (20 * number,) * 3)
            for packet in stream.encode(av.VideoFrame.from_image(image)):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def greys(images: "list[Image.Image]") -> list[int]:
    return [round(float(np.asarray(image).mean()) / 20) for image in images]


def test_frames_come_in_their_order(clip: Path) -> None:
    assert greys(list(read_video(clip))) == list(range(12))
    assert greys(list(read_video(clip, every=5))) == [0, 5, 10]
    with pytest.raises(ValueError, match="every=0 must be at least 1"):
        read_video(clip, every=0)


def test_a_video_among_pictures_is_its_frames(clip: Path, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    found = find_pictures([tmp_path / "a.png", clip])
    assert len(found) == 13
    assert [one.file for one in found][:3] == ["a.png", "clip/000000.png", "clip/000001.png"]
    assert greys([one.read() for one in found][1:]) == list(range(12))
    frames = [one.opened for one in found if one.opened is not None]
    assert greys([read_image(frames[7]), read_image(frames[2]), read_image(frames[2])]) == [7, 2, 2]  # any order
    assert read_image(frames[0]).size == (64, 48)
    assert [one.file for one in find_pictures(clip, every=6)] == ["clip/000000.png", "clip/000006.png"]


def test_what_is_no_video_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.mp4").write_bytes(b"no video")
    with pytest.raises(ValueError, match=r"a\.mp4 is no video that can be read .*; convert it to MP4"):
        find_pictures(tmp_path / "a.mp4")
    with pytest.raises(FileNotFoundError, match=r"no video at .*gone\.mp4"):
        read_video(tmp_path / "gone.mp4")

    def without(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr("clipself.data.images.video.import_module", without)
    with pytest.raises(ImportError, match=r"a video, which needs PyAV; pip install 'clipself\[video\]'"):
        find_pictures(tmp_path / "a.mp4")
