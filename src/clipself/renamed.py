"""Names that have changed: the old spelling works for one minor release, with a warning that tells the new one.

Modules are found by a finder that is asked last; names of a room by the room's own `__getattr__`; settings and flags
by `engine.resolve` and the command line, which read `FIELDS`. A row goes when its release has passed.
"""

import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, Final

import lazy_loader

GONE_IN: Final = "0.3"
"""The version that drops the old spellings."""

_SEGMENTATION: Final = "clipself.segmentation"

_COMMANDS: Final = (
    "blend", "convert", "data", "detect", "distill", "evaluate", "panoptic", "parity", "quickstart", "scenes",
    "segment", "show",
)  # fmt: skip
_TWO_STAGE: Final = (
    "crops", "feature_cache", "features", "fusion", "pixels", "postprocess", "proposals_network", "published",
    "regions",
)  # fmt: skip

MODULES: Final[Mapping[str, tuple[str, ...]]] = {
    "clipself.backbones.stands_on": ("clipself.backbones.clip_reference",),
    "clipself.backbones.unfilled": ("clipself.backbones.fast_init",),
    "clipself.backbones.words": ("clipself.backbones.word_encoder",),
    "clipself.detection.examples": ("clipself.backbones.examples", "clipself.data.examples"),
    "clipself.detection.vocabulary": ("clipself.backbones.text",),
    "clipself.panoptic.diffusion": ("clipself.panoptic.generators.diffusion",),
    "clipself.panoptic.fcclip": ("clipself.panoptic.generators.fcclip",),
    "clipself.panoptic.mask_model": ("clipself.panoptic.generators.own",),
    "clipself.panoptic.mask_tokens": ("clipself.backbones.mask_tokens",),
    "clipself.panoptic.masks": ("clipself.panoptic.generators.files", "clipself.panoptic.generators.mask_set"),
    "clipself.panoptic.open_masks": ("clipself.panoptic.generators.table",),
    "clipself.panoptic.postprocess": ("clipself.panoptic.to_maps",),
    "clipself.panoptic.scores": ("clipself.panoptic.mixture", "clipself.panoptic.text"),
    "clipself.panoptic.segment": (
        "clipself.panoptic.segmenter",
        "clipself.panoptic.mixture",
        "clipself.panoptic.to_maps",
    ),
    "clipself.panoptic.transformers_masks": ("clipself.panoptic.generators.transformers",),
    f"{_SEGMENTATION}.aggregator": (f"{_SEGMENTATION}.catseg.aggregator", f"{_SEGMENTATION}.catseg.settings"),
    f"{_SEGMENTATION}.appearance": (f"{_SEGMENTATION}.catseg.appearance",),
    f"{_SEGMENTATION}.build": (f"{_SEGMENTATION}.checkpoint", f"{_SEGMENTATION}.segmenters"),
    f"{_SEGMENTATION}.catseg_inference": (f"{_SEGMENTATION}.catseg.inference",),
    f"{_SEGMENTATION}.decide": (f"{_SEGMENTATION}.streamed_argmax",),
    f"{_SEGMENTATION}.methods": (
        f"{_SEGMENTATION}.catseg.loss",
        f"{_SEGMENTATION}.san.loss",
        f"{_SEGMENTATION}.segmenters",
    ),
    f"{_SEGMENTATION}.published": (
        f"{_SEGMENTATION}.catseg.published",
        f"{_SEGMENTATION}.san.published",
        f"{_SEGMENTATION}.published_clip",
    ),
    f"{_SEGMENTATION}.side_adapter": (f"{_SEGMENTATION}.san.side_adapter", f"{_SEGMENTATION}.san.settings"),
    f"{_SEGMENTATION}.workflow": (
        f"{_SEGMENTATION}.evaluate",
        f"{_SEGMENTATION}.predict",
        f"{_SEGMENTATION}.segmenters",
        f"{_SEGMENTATION}.training_free.table",
    ),
    "clipself.detection.baron": ("clipself.detection.detectors.baron.model",),
    **{f"clipself.detection.{part}": (f"clipself.detection.detectors.two_stage.{part}",) for part in _TWO_STAGE},
    "clipself.detection.fvit": ("clipself.detection.detectors.two_stage.model",),
    "clipself.detection.fvlm": ("clipself.detection.detectors.two_stage.model",),
    "clipself.detection.methods": ("clipself.detection.detectors.table",),
    "clipself.detection.owlvit": ("clipself.detection.detectors.owlvit",),
    "clipself.detection.propose": ("clipself.detection.proposals",),
    "clipself.detection.settings": ("clipself.detection.detectors.table",),
    "clipself.detection.two_stage": ("clipself.detection.detectors.two_stage.model",),
    "clipself.detection.vild": ("clipself.detection.detectors.vild.model",),
    "clipself.text.vocab": ("clipself.text.vocabulary",),
    **{
        f"clipself.cli.{command}": ("clipself.cli.commands", "clipself.cli.read", "clipself.cli.options")
        for command in _COMMANDS
    },
    "clipself.engine.begin": ("clipself.engine.run",),
    "clipself.engine.run_folder": ("clipself.engine.folder",),
    f"{_SEGMENTATION}.text": ("clipself.backbones.text",),
    "clipself.engine.settings": ("clipself.engine.fields", "clipself.engine.config"),
    "clipself.distillation.run": ("clipself.distillation.train",),
    "clipself.recipes": (
        "clipself.distillation.recipes",
        "clipself.detection.recipes",
        "clipself.segmentation.recipes",
        "clipself.panoptic.recipes",
    ),
    "clipself.recipes.detect": ("clipself.detection.recipes",),
    "clipself.recipes.distill": ("clipself.distillation.recipes",),
    "clipself.recipes.panoptic": ("clipself.panoptic.recipes",),
    "clipself.recipes.segment": ("clipself.segmentation.recipes",),
}
"""Old module -> the modules that hold its names now, searched in this order."""

NAMES: Final[Mapping[str, str]] = {
    "clipself.backbones.loading.ALIASES": "clipself.backbones.model_config.ALIASES",
    "clipself.backbones.loading.WEIGHTS_NAME": "clipself.backbones.model_folder.WEIGHTS_NAME",
    "clipself.backbones.weights.from_official_eva": "clipself.backbones.layouts.from_official_eva",
    "clipself.backbones.weights.is_official_eva": "clipself.backbones.layouts.is_official_eva",
    "clipself.backbones.weights.is_openai": "clipself.backbones.layouts.is_openai",
    "clipself.backbones.weights.load_strictly": "clipself.backbones.strict.load_strictly",
    "clipself.backbones.weights.to_model_names": "clipself.backbones.layouts.to_model_names",
    "clipself.backbones.weights.to_official_eva": "clipself.backbones.layouts.to_official_eva",
    "clipself.data.semantic.write_index_map": "clipself.data.images.write_index_map",
    "clipself.panoptic.EvaluatePanopticConfig": "clipself.panoptic.config.PanopticEvaluateConfig",
    "clipself.panoptic.FcClipHeads": "clipself.panoptic.generators.fcclip.FcClipHeads",
    "clipself.panoptic.PanopticMap": "clipself.structures.Panoptic",
    "clipself.panoptic.PanopticSegment": "clipself.structures.PanopticSegment",
    "clipself.panoptic.PredictPanopticConfig": "clipself.panoptic.config.PanopticPredictConfig",
    "clipself.panoptic.TrainMasksConfig": "clipself.panoptic.config.PanopticTrainConfig",
    "clipself.panoptic.config.EvaluatePanopticConfig": "clipself.panoptic.config.PanopticEvaluateConfig",
    "clipself.panoptic.config.PredictPanopticConfig": "clipself.panoptic.config.PanopticPredictConfig",
    "clipself.panoptic.config.SegmentConfig": "clipself.panoptic.config.PanopticConfig",
    "clipself.panoptic.config.TrainMasksConfig": "clipself.panoptic.config.PanopticTrainConfig",
    "clipself.panoptic.load_mask_model": "clipself.panoptic.generators.own.load_own_masks",
    "clipself.panoptic.mask_model.MaskModelConfig": "clipself.panoptic.settings.OwnMasksSettings",
    "clipself.panoptic.mask_model.load_mask_model": "clipself.panoptic.generators.own.load_own_masks",
    "clipself.panoptic.mask_model.save_mask_model": "clipself.panoptic.generators.own.save_own_masks",
    "clipself.panoptic.open_masks": "clipself.panoptic.generators.table.open_generator",
    "clipself.panoptic.open_masks.open_masks": "clipself.panoptic.generators.table.open_generator",
    "clipself.panoptic.postprocess.PanopticMap": "clipself.structures.Panoptic",
    "clipself.panoptic.train.TrainMasksResult": "clipself.engine.result.TrainResult",
    "clipself.panoptic.train.train_masks": "clipself.panoptic.train.train_panoptic",
    "clipself.panoptic.train_masks": "clipself.panoptic.train.train_panoptic",
    **{
        f"{_SEGMENTATION}{module}.Segment{verb}Config": f"{_SEGMENTATION}.config.Segmentation{verb}Config"
        for module in ("", ".config")
        for verb in ("Evaluate", "Predict", "Table", "Train")
    },
    f"{_SEGMENTATION}.config.METHODS": f"{_SEGMENTATION}.config.READOUTS",
    f"{_SEGMENTATION}.methods.CatSegMethod": f"{_SEGMENTATION}.catseg.loss.CatSegLoss",
    f"{_SEGMENTATION}.methods.SanMethod": f"{_SEGMENTATION}.san.loss.SanLoss",
    f"{_SEGMENTATION}.train.SegmentTrainResult": "clipself.engine.result.TrainResult",
    f"{_SEGMENTATION}.decide": f"{_SEGMENTATION}.streamed_argmax.streamed_argmax",
    f"{_SEGMENTATION}.decide.decide": f"{_SEGMENTATION}.streamed_argmax.streamed_argmax",
    **{
        f"{_SEGMENTATION}.catseg.{name}": f"{_SEGMENTATION}.catseg.{home}.{name}"
        for name, home in (("CLIP_LR_SCALE", "model"), ("SCENE", "model"), ("TrainClip", "settings"))
    },
    **{
        f"{_SEGMENTATION}.san.{name}": f"{_SEGMENTATION}.san.model.{name}"
        for name in ("BLOCKED", "Head", "format_bias", "look", "pool_bias")
    },
    "clipself.backbones.dense_clip.to_map": "clipself.backbones.tokens.to_map",
    "clipself.detection.DetectorSettings": "clipself.detection.detectors.table.make_settings",
    "clipself.detection.METHODS": "clipself.detection.detectors.table.DETECTORS",
    **{
        f"clipself.detection{module}.Detect{verb}Config": f"clipself.detection.config.Detection{verb}Config"
        for module in ("", ".config")
        for verb in ("Evaluate", "Predict", "Train")
    },
    "clipself.detection.fvit.FViT": "clipself.detection.detectors.two_stage.model.TwoStage",
    "clipself.detection.fvlm.FVLM": "clipself.detection.detectors.two_stage.model.TwoStage",
    "clipself.detection.methods.METHODS": "clipself.detection.detectors.table.DETECTORS",
    **{
        f"clipself.text{module}.{old}": f"clipself.text.vocabulary.{new}"
        for module in ("", ".vocab")
        for old, new in (("VOCABS", "VOCABULARIES"), ("Vocab", "Vocabulary"), ("load_vocab", "load_vocabulary"))
    },
    **{
        f"clipself.detection{module}.{old}": f"clipself.backbones.text.{new}"
        for module in ("", ".vocabulary")
        for old, new in (("Vocabulary", "EmbeddedVocabulary"), ("make_vocabulary", "make_vocabulary"))
    },
    "clipself.detection.evaluate.compare_reports": "clipself.detection.report.compare_reports",
    "clipself.regions.EvaluateRegionsConfig": "clipself.regions.config.RegionsEvaluateConfig",
    "clipself.regions.config.EvaluateRegionsConfig": "clipself.regions.config.RegionsEvaluateConfig",
    "clipself.detection.settings.DetectorSettings": "clipself.detection.detectors.table.make_settings",
    "clipself.engine.settings.RunSettings": "clipself.engine.config.Settings",
    "clipself.data.EpochSampler": "clipself.engine.sampler.EpochSampler",
    "clipself.data.make_loader": "clipself.engine.loader.make_loader",
    "clipself.distillation.DistillResult": "clipself.engine.result.TrainResult",
    "clipself.distillation.run.DistillResult": "clipself.engine.result.TrainResult",
}
"""Old dotted name -> the new one, for what has another name in the same or another module."""

_JUDGED: Final[Mapping[str, str]] = {
    "judge_by": "judge.by",
    **{field: f"judge.{field}" for field in ("image_size", "readout", "templates")},
    **{field: f"rules.{field}" for field in ("object_threshold", "overlap_threshold", "top")},
}
_SEGMENTER: Final = (
    "class_prior", "classes_per_step", "clip_scale", "cost_gain", "hidden", "ignored", "image_size",
    "learn_positions", "logit_scale", "method", "num_points", "queries", "readout", "release", "side_width",
    "train_clip",
)  # fmt: skip
_GENERATOR: Final = (
    "channels", "heads", "hidden", "image_size", "layers", "pixel_hidden", "pixel_layers", "queries", "taps",
    "templates",
)  # fmt: skip
_RUN: Final[Mapping[str, str]] = {"tensorboard": "track=tensorboard"}
FIELDS: Final[Mapping[str, Mapping[str, str]]] = {
    "DetectionTrainConfig": _RUN,
    "DistillConfig": _RUN,
    "PretrainConfig": _RUN,
    "PromptTrainConfig": _RUN,
    "DetectionEvaluateConfig": {"detector": "checkpoint"},
    "DetectionPredictConfig": {"detector": "checkpoint"},
    "ProposalsConfig": {"detector": "checkpoint"},
    "SegmentationEvaluateConfig": {"data": "annotations", "models": "checkpoint"},
    "SegmentationTableConfig": {"data": "annotations", "methods": "readouts", "models": "model", "unseen": "novel"},
    "SegmentationTrainConfig": {
        **_RUN,
        "data": "annotations",
        "evaluate_data": "evaluate_annotations",
        "seen": "base",
        "appearance": "segmenter.appearance_weights",
        **{field: f"segmenter.{field}" for field in _SEGMENTER},
    },
    "PanopticTrainConfig": {
        **_RUN,
        "without": "novel",
        **{field: f"generator.{field}" for field in _GENERATOR},
        **{
            field: f"loss.{field}"
            for field in ("class_weight", "dice_weight", "mask_weight", "no_object", "num_points")
        },
    },
    "PanopticEvaluateConfig": {**_JUDGED, "models": "model"},
    "PanopticPredictConfig": {**_JUDGED, "inputs": "images", "things": "names"},
    "RegionsEvaluateConfig": {"models": "model"},
    "ScenesOptions": {"folder": "out"},
}
"""Class of settings -> {old field: new field}; a dot reaches into nested settings ("hidden": "segmenter.hidden"), and
"track=tensorboard" stands for a switch that is now a value of another field.

The flag of a field is its name with dashes, so that one row serves Python and the command line.
"""


def warn_renamed(old: str, new: str, *, stacklevel: int = 3) -> None:
    """Tells once where an old name was used.

    Args:
        old: As it was written.
        new: As it is written now.
        stacklevel: Frames up to the caller who wrote it.
    """
    warnings.warn(f"{old} is now {new}; the old name goes in version {GONE_IN}", FutureWarning, stacklevel=stacklevel)


def attach(package: str, file: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """`lazy_loader.attach_stub` for a room, whose old names are found too.

    Args:
        package: The room's `__name__`.
        file: Its `__file__`; the stub lies beside it.

    Returns:
        `__getattr__`, `__dir__` and `__all__` of the room.
    """
    find, listing, names = lazy_loader.attach_stub(package, file)

    def find_or_renamed(name: str) -> Any:
        old = f"{package}.{name}"
        if old in NAMES:
            warn_renamed(old, NAMES[old])
            return _load(NAMES[old])
        return find(name)

    return find_or_renamed, listing, names


def old_names(module: str) -> Callable[[str], Any]:
    """The `__getattr__` of a module that stays, some of whose names have changed.

    Args:
        module: Its `__name__`.
    """

    def find(name: str) -> Any:
        old = f"{module}.{name}"
        if old not in NAMES:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        warn_renamed(old, NAMES[old])
        return _load(NAMES[old])

    return find


def _load(dotted: str) -> Any:
    module, name = dotted.rsplit(".", 1)
    return getattr(import_module(module), name)


class _OldModule(Loader):
    """A module whose names are looked up in the modules that hold them now."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = ModuleType(spec.name)
        homes = MODULES[spec.name]

        def find(name: str) -> Any:
            if name.startswith("__"):
                raise AttributeError(name)
            old = f"{spec.name}.{name}"
            if old in NAMES:
                return _load(NAMES[old])
            for home in map(import_module, homes):
                if hasattr(home, name):
                    return getattr(home, name)
            raise AttributeError(f"{old} is gone; its module is now {', '.join(homes)}")

        module.__getattr__ = find  # type: ignore[method-assign]
        return module

    def exec_module(self, module: ModuleType) -> None:
        del module


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        del path, target
        if fullname not in MODULES:
            return None
        warn_renamed(fullname, ", ".join(MODULES[fullname]), stacklevel=2)
        return ModuleSpec(fullname, _OldModule(), is_package=any(name.startswith(f"{fullname}.") for name in MODULES))


def find_old_modules() -> None:
    """Lets `import` find old modules; asked after everything else, and once."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())
