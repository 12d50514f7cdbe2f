"""Names to rows of the joint space, by the published prompts."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from clipself.backbones.dense_clip import DenseCLIP
from clipself.panoptic.scores import TextRows
from clipself.text.synonyms import fill_plainly, split_synonyms
from clipself.text.templates import load_templates, spoken_name

SENTENCES_AT_ONCE = 256


def average_templates(prompts_TD: Tensor, *, names: int) -> Tensor:
    """Each prompt normalised, averaged over the sentences of a name, normalised again.

    Args:
        prompts_TD: Text embeddings, all sentences of the first name first.
        names: How many names there are.

    Returns:
        (names, D).
    """
    each = F.normalize(prompts_TD, dim=-1).reshape(names, -1, prompts_TD.shape[-1])
    return F.normalize(each.mean(1), dim=-1)


@torch.no_grad()
def embed_names(clip: DenseCLIP, names: Sequence[str], *, templates: str = "vild") -> TextRows:
    """Embeds classes; a name with commas is several names of one class.

    Names are spoken: "sky-other-merged" is asked for as "sky", "floor_wood" as "floor wood".

    Args:
        clip: The model whose text tower speaks.
        names: One string a class.
        templates: A set of sentences by name, or a text file.

    Raises:
        ValueError: There are no names, one is empty, or the model has no text tower.
    """
    if not names:
        raise ValueError("there are no names to look for; pass at least one")
    split = [split_synonyms(name) for name in names]
    flat = [spoken_name(name, drop_suffixes=True) for some in split for name in some]
    sentences = load_templates(templates)
    at_once = max(1, SENTENCES_AT_ONCE // len(sentences))
    rows = []
    for start in range(0, len(flat), at_once):
        some = flat[start : start + at_once]
        prompts = clip.encode_text(fill_plainly(some, sentences)).float()
        rows.append(average_templates(prompts, names=len(some)))
    return TextRows(rows_SD=torch.cat(rows), counts=tuple(map(len, split)))
