"""Mask2Former's head, which also hands out the embeddings of its queries."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from mmdet.models.dense_heads import Mask2FormerHead
from mmdet.registry import MODELS
from mmdet.utils import InstanceList
from torch import Tensor

from ..layers.class_weights import with_class_weights


class QueryOutputs(NamedTuple):
    """What the last decoder layer says of each query of N images.

    Attributes:
        class_logits: (N, Q, K + 1), the last column for no object.
        mask_logits: (N, Q, h, w) at a quarter of the size of the padded images.
        embeddings: (N, Q, D), what class and mask are computed from.
    """

    class_logits: Tensor
    mask_logits: Tensor
    embeddings: Tensor


@MODELS.register_module()
class MinVISHead(Mask2FormerHead):
    """MMDetection's ``Mask2FormerHead`` for instances, with the same weights.

    Its losses are the authors': an image without an object does not count as one with an object,
    as it does in MMDetection, when the masks' losses are divided by the number of objects.

    Args:
        num_classes: Number of classes; ``loss_cls.class_weight`` follows it, see
            :func:`with_class_weights`.
        **kwargs: Of ``Mask2FormerHead``.
    """

    def __init__(self, num_classes: int, **kwargs) -> None:
        head = with_class_weights(dict(kwargs, num_classes=num_classes))
        del head["num_classes"]
        super().__init__(num_things_classes=num_classes, num_stuff_classes=0, **head)

    def _forward_head(
        self, decoder_out: Tensor, mask_feature: Tensor, attn_mask_target_size: tuple[int, int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As in ``Mask2FormerHead``; behind the columns of the classes are the embeddings."""
        class_logits, *others = super()._forward_head(
            decoder_out, mask_feature, attn_mask_target_size
        )
        embeddings = self.transformer_decoder.post_norm(decoder_out)
        return torch.cat([class_logits, embeddings], dim=-1), *others

    def forward(
        self, x: Sequence[Tensor], batch_data_samples: list | None = None
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Class logits and mask logits of each layer; see ``Mask2FormerHead``."""
        columns, mask_logits = super().forward(x, batch_data_samples)
        return [layer[..., : self.num_classes + 1] for layer in columns], mask_logits

    def get_targets(
        self,
        cls_scores_list: list[Tensor],
        mask_preds_list: list[Tensor],
        batch_gt_instances: InstanceList,
        batch_img_metas: list[dict],
    ) -> tuple:
        """As in ``Mask2FormerHead``; the last value is the number of objects."""
        *targets, _ = super().get_targets(
            cls_scores_list, mask_preds_list, batch_gt_instances, batch_img_metas
        )
        return *targets, sum(len(objects.labels) for objects in batch_gt_instances)

    def last_layer(self, x: Sequence[Tensor]) -> QueryOutputs:
        """The queries after the last decoder layer.

        Args:
            x: Levels (N, C, H_l, W_l) of the backbone, finest first.

        Returns:
            Float32, whatever the precision of the network.
        """
        columns, mask_logits = super().forward(x, None)
        class_logits, embeddings = (
            columns[-1].float().split([self.num_classes + 1, self.decoder_embed_dims], dim=-1)
        )
        return QueryOutputs(class_logits, mask_logits[-1].float(), embeddings)
