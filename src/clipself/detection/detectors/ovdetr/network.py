"""OV-DETR without its trunk: maps and conditions in, boxes of each condition out."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from clipself.detection.detectors.deformable.network import BoxSet, DeformableDetr, Encoded


class OvDetr(DeformableDetr):
    """Source: OV-DETR (arXiv:2203.11876), released code, by its names; arguments are those of `DeformableDetr`."""

    def __init__(self, *, joint_dim: int, channels: int = 256, **sizes: Any) -> None:
        super().__init__(joint_dim=joint_dim, channels=channels, **sizes)
        self.patch2query = nn.Linear(joint_dim, channels)
        self.patch2query_img = nn.Linear(joint_dim, channels)
        for linear in (self.patch2query, self.patch2query_img):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def condition(self, rows_RD: Tensor, of_text_R: Tensor | bool) -> Tensor:
        """Rows of the joint space, of text or of pictures -> what is added to the queries (R, C)."""
        text_RC, picture_RC = self.patch2query(rows_RD), self.patch2query_img(rows_RD)
        of_text_R = torch.as_tensor(of_text_R, device=rows_RD.device)
        chosen: Tensor = torch.where(of_text_R[..., None], text_RC, picture_RC)
        return chosen

    def decode(self, encoded: Encoded, conditions_BRC: Tensor) -> list[BoxSet]:
        """What each layer predicts for each condition, the last layer last.

        Args:
            encoded: See `encode`.
            conditions_BRC: See `condition`; each picture may be asked for other classes.
        """
        copies, queries = conditions_BRC.shape[1], encoded.queries
        added_BNC = conditions_BRC.repeat_interleave(queries.contents_BQC.shape[1], dim=1)
        asked = replace(
            queries,
            contents_BQC=queries.contents_BQC.repeat(1, copies, 1) + added_BNC,
            positions_BQC=queries.positions_BQC.repeat(1, copies, 1),
            references=queries.references.repeat(1, copies, 1),
        )
        decoded = self.transformer.decode(asked, encoded.memory, head=self.boxes_of, refine=self.refine, copies=copies)
        return [
            BoxSet(
                logits_BN=self.class_embed[self.head_of(index)](one.hidden_BQC)[..., 0],
                boxes_BN4=one.boxes_BQ4,
                embeddings_BND=self.feature_align[self.head_of(index)](one.hidden_BQC),
            )
            for index, one in enumerate(decoded)
        ]
