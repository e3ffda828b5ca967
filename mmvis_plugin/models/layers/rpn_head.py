"""Region proposals when the video model calls the RPN itself."""

from collections.abc import Sequence

import torch
from mmdet.models.dense_heads import RPNHead
from mmdet.models.utils import unpack_gt_instances
from mmdet.registry import MODELS
from mmdet.structures import SampleList
from mmengine.structures import InstanceData
from torch import Tensor

from .precision import at_least_float32


def class_agnostic(samples: SampleList) -> SampleList:
    """Shallow copies of the samples in which every object has label 0."""
    copies = []
    for sample in samples:
        copy = sample.new()
        copy.gt_instances = sample.gt_instances.new()
        copy.gt_instances.labels = torch.zeros_like(sample.gt_instances.labels)
        copies.append(copy)
    return copies


def predict_proposals(
    rpn_head: RPNHead, x: tuple[Tensor, ...], metas: Sequence[dict]
) -> list[InstanceData]:
    """``rpn_head.predict`` with its post-processing in float32: NMS has no bfloat16 kernel on CPU.

    Args:
        rpn_head: The RPN head.
        x: Feature maps (B, C, H_l, W_l).
        metas: Metainfo of the B frames.

    Returns:
        The proposals of each frame, in pixels of the resized frame.
    """
    outputs = [[level.float() for level in levels] for levels in rpn_head(x)]
    return rpn_head.predict_by_feat(*outputs, batch_img_metas=list(metas), rescale=False)


def rpn_loss_and_proposals(
    rpn_head: RPNHead, x: tuple[Tensor, ...], samples: SampleList, proposal_cfg: dict
) -> tuple[dict[str, Tensor], list[InstanceData]]:
    """``rpn_head.loss_and_predict`` for ground truth of any class, post-processed in float32.

    Args:
        rpn_head: The RPN head.
        x: Feature maps (B, C, H_l, W_l).
        samples: B samples with ``gt_instances``; left as they are.
        proposal_cfg: Test settings of the proposals that train the RoI head.

    Returns:
        The losses of the RPN, and the proposals of each frame in pixels of the resized frame.
    """
    outputs = [[at_least_float32(level) for level in levels] for levels in rpn_head(x)]
    ground_truth, ignored, metas = unpack_gt_instances(class_agnostic(samples))
    with torch.autocast(x[0].device.type, enabled=False):
        losses = rpn_head.loss_by_feat(*outputs, ground_truth, metas, ignored)
        proposals = rpn_head.predict_by_feat(*outputs, batch_img_metas=metas, cfg=proposal_cfg)
    return losses, proposals


@MODELS.register_module()
class AgnosticRPNHead(RPNHead):
    """MMDetection's ``RPNHead`` that takes ground truth of any class for foreground.

    ``RPNHead`` trains on the labels it is given, and label 0 alone means foreground.
    ``TwoStageDetector.loss`` therefore zeroes the labels first; ``MaskTrackRCNN.loss``, which
    calls the head itself, does not, so that all classes but the first would be trained as
    background. Arguments are those of ``RPNHead``.
    """

    def loss_and_predict(
        self, x: tuple[Tensor], batch_data_samples: SampleList, proposal_cfg: dict | None = None
    ) -> tuple[dict[str, Tensor], list[InstanceData]]:
        """Losses and proposals; see ``RPNHead``. ``batch_data_samples`` is left as it is."""
        return rpn_loss_and_proposals(self, x, batch_data_samples, proposal_cfg or self.test_cfg)
