"""Every command in one table: what it does, its settings, the public function that it calls."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """One row; modules are imported when the command is called, so that `--help` is quick.

    Attributes:
        does: A line for the list of commands.
        settings: "module:Class" of its settings, whose docstring is the help where `about` is empty.
        run: "module:function" of a config, or of its fields as keywords where the settings are of this room.
        recipes: "module:TABLE" of complete settings, for trainings.
        show: "module:function" from the result to the text that is printed; `to_table` or `str` if empty.
        told: Fields of the settings that `show` takes as keywords.
        about: First paragraph of the help.
        more: "module:function" whose lines follow in the help.
    """

    does: str
    settings: str
    run: str
    recipes: str = ""
    show: str = ""
    told: tuple[str, ...] = ()
    about: str = ""
    more: str = ""


def find(dotted: str) -> Any:
    """What "module:name" of this package means."""
    module, name = dotted.split(":")
    return getattr(import_module(f"clipself.{module}"), name)


COMMANDS: Final[Mapping[str, Command]] = {
    "quickstart": Command(
        does="refine the packaged small CLIP and leave a report with pictures",
        settings="cli.options:QuickstartOptions",
        run="cli.jobs:quickstart",
    ),
    "distill": Command(
        does="refine a CLIP's dense map on a folder of images, no labels needed",
        settings="distillation.config:DistillConfig",
        recipes="distillation.recipes:RECIPES",
        run="distillation.train:distill",
        about="Refines a CLIP's dense map on images without labels. --method NAME chooses how the student learns.",
        more="distillation.methods:list_methods",
    ),
    "pretrain": Command(
        does="pre-train a CLIP on pictures with captions: plain, as RO-ViT, as CFM-ViT",
        settings="pretraining.config:PretrainConfig",
        recipes="pretraining.recipes:PRETRAIN_RECIPES",
        run="pretraining.train:pretrain",
        about="Pre-trains a CLIP on pictures with captions by contrast, from its weights or from scratch.",
    ),
    "evaluate regions": Command(
        does="classify labelled boxes and masks by the dense map",
        settings="regions.config:RegionsEvaluateConfig",
        run="regions.evaluate:evaluate_regions",
        show="regions.report:compare_reports",
        about="Classifies labelled regions by the dense map; the paper's Table 2.",
    ),
    "compare": Command(
        does="one table of models and readouts: regions, mIoU, PQ, crops, time and memory",
        settings="workflows.compare_settings:CompareConfig",
        run="workflows.side_by_side:compare",
        about="Measures every readout on every model; a comparison that was stopped goes on where it was.",
    ),
    "reproduce": Command(
        does="the paper's tables from official data and released weights, published figures beside ours",
        settings="workflows.reproduction.config:ReproduceConfig",
        run="cli.jobs:reproduce",
        about="Runs every row of the paper's tables that can be run: clipself reproduce table2 --data DATA --weights "
        "WEIGHTS. --list prints all rows and what each needs. The same command again goes on where it was stopped.",
    ),
    "show kmeans": Command(
        does="draw the groups of a dense map, original beside refined",
        settings="cli.options:KmeansOptions",
        run="workflows.show:show_kmeans",
    ),
    "show query": Command(
        does="draw where in a picture a text is found",
        settings="cli.options:QueryOptions",
        run="workflows.show:show_query",
    ),
    "label": Command(
        does="label pictures by names: COCO, YOLO, Label Studio, labelme, CVAT, and a page to look through",
        settings="workflows.labelling.config:LabelConfig",
        run="workflows.labelling.run:label",
        about="Labels pictures: clipself label photos/ --names cat dog --formats coco yolo. The same command "
        "again goes on where it was stopped.",
    ),
    "embed": Command(
        does="embed pictures, labelled boxes and names: one table of unit rows, to search and to learn on",
        settings="workflows.embedding.config:EmbedConfig",
        run="workflows.embedding.run:embed",
        about="Embeds pictures, labelled boxes and names: clipself embed photos/ --names cat dog. The same command "
        "again goes on where it was stopped.",
    ),
    "demo": Command(
        does="a page in the browser: a picture, names as they are typed, what the models make of them",
        settings="workflows.live.config:DemoConfig",
        run="workflows.live.run:demo",
        about="Opens a page in the browser (pip install 'clipself[demo]'): similarity, K-means, detection, "
        "segmentation, panoptic, raw beside refined.",
    ),
    "models": Command(
        does="list the models by name and what works with each: dense map, distil, detect, segment",
        settings="cli.options:ModelsOptions",
        run="cli.jobs:models",
        about="Lists models and what works with each: clipself models, clipself models siglip PE-Core",
    ),
    "blend": Command(
        does="average refined and original weights, one alpha or a sweep",
        settings="cli.options:BlendOptions",
        run="workflows.weights:blend",
    ),
    "convert": Command(
        does="write a checkpoint as a folder that open_clip reads",
        settings="cli.options:ConvertOptions",
        run="workflows.weights:convert",
    ),
    "export": Command(
        does="write a model as a graph (ONNX, TorchScript, torch.export) whose names are an input",
        settings="workflows.exporting.config:ExportConfig",
        run="workflows.exporting.run:export",
        about="Writes a dense map, detector or segmenter as a graph that runs without this package: clipself export "
        "--checkpoint runs/mine --to onnx --out graph",
    ),
    "export names": Command(
        does="embed other names for an exported graph",
        settings="workflows.exporting.config:NamesConfig",
        run="workflows.exporting.run:export_names",
        about="Embeds other names for an exported graph: clipself export names graph --names zebra kite",
    ),
    "segment train": Command(
        does="train CAT-Seg or SAN on a CLIP, on classes that may be named later",
        settings="segmentation.config:SegmentationTrainConfig",
        recipes="segmentation.recipes:SEGMENT_RECIPES",
        run="segmentation.train:train_segmenter",
        about="Trains open-vocabulary semantic segmentation on a dense CLIP, raw or refined.",
    ),
    "segment evaluate": Command(
        does="mIoU of trained segmenters, on base and novel classes",
        settings="segmentation.config:SegmentationEvaluateConfig",
        run="segmentation.evaluate:evaluate_segmenters",
        show="segmentation.report:compare_reports",
        told=("per_class",),
    ),
    "segment table": Command(
        does="mIoU without training: every readout on every model",
        settings="segmentation.config:SegmentationTableConfig",
        run="segmentation.training_free.table:training_free_table",
        show="segmentation.report:compare_reports",
    ),
    "segment predict": Command(
        does="name every pixel of pictures and draw it",
        settings="segmentation.config:SegmentationPredictConfig",
        run="segmentation.predict:predict_segments",
        about="Names every pixel: clipself segment predict photos/ --names cat dog [--checkpoint runs/mine]",
    ),
    "segment import": Command(
        does="write a released CAT-Seg or SAN checkpoint as a segmenter folder",
        settings="cli.options:SegmenterImportOptions",
        run="cli.jobs:import_segmenter",
    ),
    "detect train": Command(
        does="train an open-vocabulary detector on a frozen CLIP, base classes only",
        settings="detection.config:DetectionTrainConfig",
        recipes="detection.recipes:DETECT_RECIPES",
        run="detection.train:train_detector",
        about="Trains an open-vocabulary detector on a frozen CLIP, with boxes of base classes only.",
    ),
    "detect evaluate": Command(
        does="AP of a detector on novel, base and all classes, COCO or LVIS",
        settings="detection.config:DetectionEvaluateConfig",
        run="detection.evaluate:evaluate_detector",
        show="detection.report:compare_reports",
        about="AP50 of novel, base and all classes (COCO files), or federated APr, APc, APf (LVIS files).",
    ),
    "detect predict": Command(
        does="find named things in pictures and draw them",
        settings="detection.config:DetectionPredictConfig",
        run="detection.predict:predict_images",
        show="cli.jobs:tell_detections",
        about='Finds named things: clipself detect predict photos/ --checkpoint runs/mine --names "a dog" kite',
    ),
    "detect import": Command(
        does="write a released checkpoint as a detector folder",
        settings="cli.options:DetectorImportOptions",
        run="cli.jobs:import_detector",
    ),
    "detect prompt": Command(
        does="tune the attention pool of a CLIP ResNet on boxes of base classes",
        settings="detection.region_prompt.config:PromptTrainConfig",
        recipes="detection.region_prompt.config:PROMPT_RECIPES",
        run="detection.region_prompt.train:train_prompt",
        about="Tunes the positions of a CLIP ResNet's attention pool on boxes of base classes: CORA's region prompt.",
    ),
    "detect pseudo-boxes": Command(
        does="write what a detector finds as annotations to train on, beside true boxes",
        settings="detection.config:PseudoBoxesConfig",
        run="detection.pseudo_boxes:write_pseudo_boxes",
    ),
    "detect relabel": Command(
        does="rename boxes of base classes by what a CLIP takes them for",
        settings="detection.region_prompt.config:RelabelConfig",
        run="detection.region_prompt.relabel:relabel",
    ),
    "detect split": Command(
        does="write the open-vocabulary split of an official instances file",
        settings="cli.options:SplitOptions",
        run="cli.jobs:split",
    ),
    "proposals": Command(
        does="class-free boxes of a folder of images, to distil on",
        settings="detection.config:ProposalsConfig",
        run="detection.proposals:write_proposals",
        show="cli.jobs:tell_proposals",
        about="Class-free boxes of a folder of images by a trained detector's proposal network.",
    ),
    "panoptic train": Command(
        does="train a mask generator of our own on frozen features",
        settings="panoptic.config:PanopticTrainConfig",
        recipes="panoptic.recipes:PANOPTIC_RECIPES",
        run="panoptic.train:train_panoptic",
        about="Trains a mask generator of our own, FC-CLIP's or ODISE's decoders on frozen features.",
    ),
    "panoptic evaluate": Command(
        does="PQ, mask AP and mIoU of any masks, judged by CLIP, by the generator, or both",
        settings="panoptic.config:PanopticEvaluateConfig",
        run="panoptic.evaluate:evaluate_panoptic",
    ),
    "panoptic predict": Command(
        does="segment pictures by names: panoptic PNGs, JSON, drawings",
        settings="panoptic.config:PanopticPredictConfig",
        run="panoptic.predict:predict_panoptic",
        about="Segments pictures by names given here; writes panoptic PNGs, JSON and drawings.",
    ),
    "panoptic import": Command(
        does="write a released FC-CLIP or ODISE checkpoint as a folder of masks",
        settings="cli.options:MasksImportOptions",
        run="cli.jobs:import_masks",
    ),
    "data check": Command(
        does="tell what a COCO-like file holds, and what of it cannot be used",
        settings="cli.options:CheckOptions",
        run="data.coco.check:check_file",
    ),
    "data prepare": Command(
        does="convert an official segmentation archive to index maps, with checks",
        settings="cli.options:PrepareOptions",
        run="cli.jobs:prepare",
        more="data.prepare:archive_help",
    ),
    "scenes": Command(
        does="write generated scenes with perfect labels as a COCO data set",
        settings="cli.options:ScenesOptions",
        run="cli.jobs:scenes",
    ),
    "env": Command(
        does="tell versions, devices and folders, for a report of a problem",
        settings="cli.options:EnvironmentOptions",
        run="cli.environment:environment",
    ),
    "completion": Command(
        does="print a script that completes commands and flags in bash, zsh or fish",
        settings="cli.options:CompletionOptions",
        run="cli.completion:completion",
        about="Prints a script that completes commands, flags and choices; bash reads it by "
        'eval "$(clipself completion bash)".',
    ),
    "parity": Command(
        does="check the numbers against the published implementations",
        settings="cli.options:ParityOptions",
        run="cli.jobs:parity",
    ),
}
"""Command -> its row."""
