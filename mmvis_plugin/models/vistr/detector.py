"""VisTR's network on single images, as it is trained on COCO first."""

import torch
from mmdet.models.detectors import BaseDetector
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox_cxcywh_to_xyxy, bbox_xyxy_to_cxcywh
from mmengine.structures import InstanceData
from torch import Tensor

from ..layers.mask_resize import masks_at_original_size
from .network import ClipMemory, ClipPredictions, FrameFeatures
from .vistr import clip_losses


@MODELS.register_module()
class VisTRDetector(BaseDetector):
    """Instance segmentation of images, each a clip of one frame.

    It is DETR for instance segmentation with VisTR's width: :class:`VisTR` starts from its weights.

    Args:
        network: Config of a :class:`VisTRNetwork`.
        criterion: Config of a :class:`VisTRCriterion`.
        data_preprocessor: Config of a ``DetDataPreprocessor``, with ``pad_mask``.
        init_cfg: Initialisation config.
    """

    def __init__(
        self,
        network: dict,
        criterion: dict,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        self.network = MODELS.build(network)
        self.criterion = MODELS.build(criterion)

    def extract_feat(self, batch_inputs: Tensor) -> FrameFeatures:
        """Maps of images (B, 3, H, W)."""
        return self.network.frame_features(batch_inputs)

    def loss(self, batch_inputs: Tensor, batch_data_samples: list[DetDataSample]) -> dict:
        """Losses of a batch of images.

        Args:
            batch_inputs: (B, 3, H, W).
            batch_data_samples: B samples with ``labels``, ``bboxes`` and ``masks`` of their
                ``gt_instances``.

        Returns:
            As :meth:`VisTR.loss`.
        """
        sizes = [tuple(sample.img_shape[:2]) for sample in batch_data_samples]
        targets = [_targets(sample) for sample in batch_data_samples]
        return clip_losses(self.network, self.criterion, batch_inputs[:, None], sizes, targets)

    def _forward(
        self, batch_inputs: Tensor, batch_data_samples: list[DetDataSample]
    ) -> tuple[ClipPredictions, ClipMemory]:
        """Predictions of the last decoder layer and the memory: ``mode='tensor'``."""
        sizes = [tuple(sample.img_shape[:2]) for sample in batch_data_samples]
        images = self.extract_feat(batch_inputs)
        features = FrameFeatures(
            images.cells[:, None], tuple(lateral[:, None] for lateral in images.laterals)
        )
        predictions, memory = self.network(features, batch_inputs.shape[-2:], sizes)
        return predictions[-1], memory

    def predict(
        self, batch_inputs: Tensor, batch_data_samples: list[DetDataSample], rescale: bool = True
    ) -> list[DetDataSample]:
        """Instances of images at their original size: the best class of every query.

        Args:
            batch_inputs: (B, 3, H, W).
            batch_data_samples: B samples with their metainfo.
            rescale: Must be true.

        Returns:
            The samples with ``pred_instances``.
        """
        if not rescale:
            raise ValueError("VisTRDetector gives instances at the images' original size only")
        predictions, memory = self._forward(batch_inputs, batch_data_samples)
        found = []
        for b, sample in enumerate(batch_data_samples):
            scores, labels = predictions.logits[b, 0].softmax(-1)[:, 1:-1].max(-1)
            height, width = sample.ori_shape[:2]
            boxes = bbox_cxcywh_to_xyxy(predictions.boxes[b, 0])
            masks = torch.cat(self.network.masks(memory, b, range(len(labels))))
            masks = masks_at_original_size(masks, batch_inputs.shape[-2:], sample.metainfo)
            objects = InstanceData(
                scores=scores,
                labels=labels,
                bboxes=boxes * boxes.new_tensor([width, height, width, height]),
                masks=masks,
            )
            found.append(objects)
        return self.add_pred_to_datasample(batch_data_samples, found)


def _targets(sample: DetDataSample) -> InstanceData:
    """The objects of an image as tracks of one frame; see :func:`track_targets`."""
    objects = sample.gt_instances
    height, width = sample.img_shape[:2]
    boxes = objects.bboxes / objects.bboxes.new_tensor([width, height, width, height])
    masks = torch.from_numpy(objects.masks.masks).to(boxes.device)
    return InstanceData(
        labels=objects.labels,
        present=torch.ones(len(objects), 1, dtype=torch.bool, device=boxes.device),
        boxes=bbox_xyxy_to_cxcywh(boxes)[:, None],
        masks=masks[:, None],
    )
