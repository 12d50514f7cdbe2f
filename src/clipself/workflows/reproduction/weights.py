"""Where the released weights lie, what was never released, and the commands that train that."""

from collections.abc import Mapping
from typing import Final

from clipself.workflows.reproduction.places import Place

EVA: Final = "https://huggingface.co/QuanSun/EVA-CLIP"
CLIPSELF: Final = (
    "https://drive.google.com/drive/folders/1APWIE7M5zcymbjh5OONqXdBOxFy3Ghwm (CLIPSelf checkpoints of "
    "https://github.com/wusize/CLIPSelf)"
)
FVIT: Final = (
    "https://drive.google.com/drive/folders/1MaBjbZZCfFd2HG3eCX98myYgWoWlPxrf (detectors of the F-ViT README of "
    "https://github.com/wusize/CLIPSelf)"
)
DETIC: Final = "https://dl.fbaipublicfiles.com/detic/"
CORA: Final = "https://github.com/tgxs002/CORA, model zoo (Google Drive), saved under this name"
CATSEG2: Final = "https://huggingface.co/spaces/hamacojr/CAT-Seg-weights"
SAN: Final = "https://huggingface.co/Mendel192/san"
REFINED_B16: Final = "https://drive.google.com/file/d/15-CVC0mlKNPx09zslHnHGi7hYY9QKjJW"


def _hub(model: str, name: str) -> Place:
    """A CLIP of OpenAI's as open_clip publishes it; "openai" in its name says which activation it has."""
    return Place(
        paths=(name,),
        source=f"https://huggingface.co/timm/{model}: open_clip_model.safetensors, saved under this name",
    )


def _clipself(name: str) -> Place:
    return Place(paths=(name,), source=CLIPSELF)


def _fvit(name: str) -> Place:
    return Place(paths=(name,), source=FVIT)


def _detic(name: str) -> Place:
    return Place(paths=(name,), source=f"{DETIC}{name}")


FVIT_TRAIN: Final = (
    "torchrun --nproc-per-node 8 -m clipself detect train --recipe ov-{set}-{tower} --pretrained {{weights}}/{file} "
    "--annotations {{data}}/{annotations} --images {{data}}/{images} --out {{weights}}/{out}"
)
FVIT_SETS: Final = {
    "coco": ("coco/annotations/instances_train2017.json", "coco/train2017"),
    "lvis": ("lvis_v1/annotations/lvis_v1_train.json", "coco"),
}
EVA_FILES: Final = {"b16": "EVA02_CLIP_B_psz16_s8B.pt", "l14": "EVA02_CLIP_L_336_psz14_s6B.pt"}


def _untrained_fvit(tower: str, name: str) -> Place:
    annotations, images = FVIT_SETS[name]
    out = f"trained/fvit_eva_vit{tower}_ov{name}_original"
    command = FVIT_TRAIN.format(
        set=name, tower=tower, file=EVA_FILES[tower], annotations=annotations, images=images, out=out
    )
    return Place(
        paths=(out,), holds={"detector.json": None}, training=(command,),
        source="F-ViT on the original tower was not released",
    )  # fmt: skip


STUFF: Final = "clipself data prepare coco-stuff --root {data}/coco_stuff --out {data}/prepared/coco-stuff"
CATSEG: Final = (
    "torchrun --nproc-per-node 4 -m clipself segment train --recipe catseg-v1-b --batch-size 1 "
    "--annotations {data}/prepared/coco-stuff"
)
B16: Final = "--segmenter.appearance-weights {weights}/resnet101.pth"
L14: Final = (
    "--segmenter.image-size 336 --segmenter.appearance swin_b "
    "--segmenter.appearance-weights {weights}/swin_base_patch4_window12_384_22k.pth"
)
L14_REFINED: Final = "trained/openai_vitl14_336_coco_clipself_patches"
DISTILL_L14: Final = (
    "clipself distill --recipe published-openai-l14 --model ViT-L-14-336 --crop-size 336 --data {data}/coco/train2017 "
    f"--out {{weights}}/{L14_REFINED}"
)
L14_HOURS: Final = "refining an L/14 took its author 48 GPU hours (6 h on 8 A100 of 80 GB)"
FIRST: Final = "CAT-Seg's first release is in a form that no importer of ours reads"
NEVER: Final = "CAT-Seg on a tower of CLIPSelf was not released"


def _catseg(name: str, source: str, *commands: str, hours: str = "") -> Place:
    out = f"trained/{name}"
    *ahead, last = commands
    return Place(
        paths=(out,), holds={"segmenter.json": None}, source=source, hours=hours,
        training=(STUFF, *ahead, f"{last} --out {{weights}}/{out}"),
    )  # fmt: skip


WEIGHTS: Final[Mapping[str, Place]] = {
    "eva-b16": Place(paths=("EVA02_CLIP_B_psz16_s8B.pt",), source=EVA),
    "eva-l14": Place(paths=("EVA02_CLIP_L_336_psz14_s6B.pt",), source=f"{EVA} (856 MB)"),
    "eva-b16-patches": _clipself("eva_vitb16_coco_clipself_patches.pt"),
    "eva-b16-proposals": _clipself("eva_vitb16_coco_clipself_proposals.pt"),
    "eva-b16-regionclip": _clipself("eva_vitb16_coco_regionclip.pt"),
    "eva-l14-patches": _clipself("eva_vitl14_coco_clipself_patches.pt"),
    "eva-l14-proposals": _clipself("eva_vitl14_coco_clipself_proposals.pt"),
    "eva-l14-regionclip": _clipself("eva_vitl14_coco_regionclip.pt"),
    **{
        f"fvit-coco-{tower}-{way}": _fvit(f"fvit_eva_vit{tower}_ovcoco_{said}.pth")
        for tower in EVA_FILES
        for way, said in (
            ("patches", "clipself_patches"), ("proposals", "clipself_proposals"), ("regionclip", "regionclip"),
        )
    },
    "fvit-lvis-b16-patches": _fvit("fvit_eva_vitb16_ovlvis_clipself_patches.pth"),
    "fvit-lvis-l14-patches": _fvit("fvit_eva_vitl14_ovlvis_clipself_patches.pth"),
    **{f"fvit-{name}-{tower}": _untrained_fvit(tower, name) for name in FVIT_SETS for tower in EVA_FILES},
    "openai-b32": _hub("vit_base_patch32_clip_224.openai", "openai_vit_b32.safetensors"),
    "openai-l14-336": _hub("vit_large_patch14_clip_336.openai", "openai_vit_l14_336.safetensors"),
    "detic-coco": _detic("Detic_OVCOCO_CLIP_R50_1x_max-size_caption.pth"),
    "detic-lvis-r50": _detic("Detic_LbaseI_CLIP_R5021k_640b64_4x_ft4x_max-size.pth"),
    "detic-lvis-swin-b": _detic("Detic_LbaseI_CLIP_SwinB_896b32_4x_ft4x_max-size.pth"),
    "ovdetr-coco": Place(
        paths=("ovdetr_coco.pth",),
        source="https://github.com/yuhangzang/OV-DETR, model zoo (Google Drive), saved under this name",
    ),
    "cora-coco-rn50": Place(paths=("cora_coco_rn50.pth",), source=CORA),
    "cora-coco-rn50x4": Place(paths=("cora_coco_rn50x4.pth",), source=CORA),
    "catseg2-b16": Place(paths=("model_base.pth",), source=CATSEG2),
    "catseg2-l14": Place(paths=("model_large.pth",), source=CATSEG2),
    "san-b16": Place(paths=("san_vit_b_16.pth",), source=SAN),
    "san-l14": Place(paths=("san_vit_large_14.pth",), source=SAN),
    "catseg-b16": _catseg("catseg_v1_vitb16", FIRST, f"{CATSEG} {B16}"),
    "catseg-l14": _catseg("catseg_v1_vitl14", FIRST, f"{CATSEG} --model ViT-L-14-336 {L14}"),
    "catseg-b16-clipself": _catseg(
        "catseg_v1_vitb16_clipself",
        f"{NEVER}; its tower, openai_vitb16_coco_clipself_patches.pt, was: {REFINED_B16}",
        f"{CATSEG} --pretrained {{weights}}/openai_vitb16_coco_clipself_patches.pt --text-from openai {B16}",
    ),
    "catseg-l14-clipself": _catseg(
        "catseg_v1_vitl14_clipself", f"{NEVER}, nor was the tower, whose settings are not published either",
        DISTILL_L14, f"{CATSEG} --model {{weights}}/{L14_REFINED}/blended {L14}", hours=L14_HOURS,
    ),
    "odise-label": Place(
        paths=("odise_label_coco_50e-b67d2efc.pth",),
        source="https://github.com/NVlabs/ODISE/releases/download/v1.0.0/odise_label_coco_50e-b67d2efc.pth",
    ),
    "stable-diffusion": Place(
        paths=("stable-diffusion-v1-3",), holds={"unet": None, "vae": None, "text_encoder": None, "tokenizer": None},
        source="https://huggingface.co/CompVis/stable-diffusion-v1-3, the whole repository in diffusers' layout",
    ),
    "openai-l14-336-clipself": Place(
        paths=(f"{L14_REFINED}/blended",), holds={"open_clip_config.json": None},
        training=(DISTILL_L14,), hours=L14_HOURS,
        source="the tower that the paper puts into ODISE was not released, and its settings are not published",
    ),
}  # fmt: skip
"""Name -> what lies below `--weights`."""
