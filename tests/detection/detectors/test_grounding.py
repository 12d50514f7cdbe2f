"""Grounding DINO of a few thousand weights: names against transformers' own reading of the same outputs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from clipself.detection.detectors import grounding
from clipself.detection.detectors.grounding import GroundingDetector

transformers = pytest.importorskip("transformers")
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "cat", "hot", "dog", "traffic", "light", "a"]


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> GroundingDetector:
    folder = tmp_path_factory.mktemp("tokenizer")
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    tokenizer = transformers.BertTokenizerFast(str(folder / "vocab.txt"))
    size = {"shortest_edge": 64, "longest_edge": 96}
    images = transformers.GroundingDinoImageProcessor(size=size)
    swin = transformers.SwinConfig(
        image_size=64, embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 1, 1], window_size=2,
        out_features=["stage2", "stage3", "stage4"],
    )  # fmt: skip
    text = transformers.BertConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    config = transformers.GroundingDinoConfig(
        backbone_config=swin, text_config=text, d_model=32, encoder_layers=1, decoder_layers=2, num_queries=12,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16,
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.GroundingDinoForObjectDetection(config)
    processor: Any = transformers.GroundingDinoProcessor(images, tokenizer)
    return GroundingDetector(model=model, processor=processor, device="cpu")


PICTURE = np.random.default_rng(0).integers(0, 255, (60, 90, 3), dtype=np.uint8)


def test_scores_and_boxes_are_those_of_the_released_reading(detector: GroundingDetector) -> None:
    names = ["cat", "hot_dog", "a traffic light"]
    (found,) = detector.stream(PICTURE, names)
    text = "cat. hot dog. a traffic light."
    inputs = detector.processor(images=PICTURE, text=text, return_tensors="pt")
    with torch.no_grad():
        outputs = detector.model(**inputs)
    (theirs,) = detector.processor.post_process_grounded_object_detection(
        outputs, inputs["input_ids"], threshold=0.0, text_threshold=0.0, target_sizes=[(60, 90)]
    )
    chances = outputs.logits[0].sigmoid()
    tokens = detector.processor.tokenizer.convert_ids_to_tokens(inputs["input_ids"][0].tolist())
    assert tokens == ["[CLS]", "cat", ".", "hot", "dog", ".", "a", "traffic", "light", ".", "[SEP]"]
    mine = torch.stack([chances[:, [1]].amax(1), chances[:, [3, 4]].amax(1), chances[:, [6, 7, 8]].amax(1)], dim=1)
    expected, labels = mine.max(1)
    order = expected.argsort(descending=True)
    torch.testing.assert_close(found.scores, expected[order], atol=1e-5, rtol=1e-5)
    assert found.labels.tolist() == labels[order].tolist()
    boxes = theirs["boxes"].clamp(min=0).minimum(torch.tensor([90, 60, 90, 60]))
    torch.testing.assert_close(found.boxes, boxes[order], atol=1e-3, rtol=1e-4)
    assert found.names == tuple(names)


def test_many_names_are_asked_for_in_several_texts(
    detector: GroundingDetector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grounding, "MOST_TOKENS", 9)
    names = ["cat", "hot dog", "light"]
    (found,) = detector.stream(PICTURE, names)
    assert len(detector._texts) == 2
    (first,) = detector.stream(PICTURE, names[:1])
    assert len(found) == 24  # the queries of each text
    one = found[found.labels == 0]
    assert set(found.labels.tolist()) <= {0, 1, 2}
    assert len(detector._texts) == 1
    assert len(first) == 12
    assert len(one) <= 24
    with pytest.raises(ValueError, match=r"the name 'a cat a cat .* makes \d+ tokens, 9 are the most"):
        detector.use(["a cat " * 5])


def test_what_it_cannot_do_is_said(detector: GroundingDetector) -> None:
    with pytest.raises(ValueError, match="there are no names to look for"):
        detector.use([])
    with pytest.raises(ValueError, match="has no class-free proposals"):
        detector.propose(PICTURE)
    with pytest.raises(ValueError, match="Grounding DINO has no settings that could be changed, such as nms"):
        detector.change_scoring(nms=0.5)


def test_it_is_opened_by_its_kind(detector: GroundingDetector, tmp_path: Path) -> None:
    from clipself.detection.detector import open_detector

    detector.model.save_pretrained(tmp_path)
    detector.processor.save_pretrained(tmp_path)
    opened = open_detector(f"hf:{tmp_path}", device="cpu")
    assert isinstance(opened, GroundingDetector)
    (ours,), (theirs,) = opened.stream(PICTURE, ["cat"]), detector.stream(PICTURE, ["cat"])
    torch.testing.assert_close(ours.scores, theirs.scores)
