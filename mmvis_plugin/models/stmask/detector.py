"""The image model of STMask: YOLACT with feature calibration."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from mmdet.models.detectors import BaseDetector
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torch import Tensor

from .detections import at_original_size, detect
from .head import HeadOutputs
from .matching import collect_targets


@MODELS.register_module()
class STMaskDetector(BaseDetector):
    """One-stage instance segmentation of single images.

    :class:`~mmvis_plugin.models.stmask.stmask.STMask` runs it on the frames of a video; by itself
    it is what is trained on images first, and its weights are what a video model starts from.

    Args:
        backbone: Config of a backbone.
        neck: Config of a :class:`STMaskFPN`.
        bbox_head: Config of a :class:`STMaskHead`.
        mask_head: Config of a :class:`MaskPrototypes`.
        loss: Config of a :class:`STMaskLoss`.
        test_cfg: ``score_thr``, ``iou_thr``, ``top_k`` and, if wanted, ``max_per_img`` and
            ``class_agnostic``; see :func:`~mmvis_plugin.models.stmask.detections.detect`.
        data_preprocessor: Config of a ``DetDataPreprocessor``.
        init_cfg: Initialisation config.
    """

    def __init__(
        self,
        backbone: dict,
        neck: dict,
        bbox_head: dict,
        mask_head: dict,
        loss: dict,
        test_cfg: dict,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        self.backbone = MODELS.build(backbone)
        self.neck = MODELS.build(neck)
        self.bbox_head = MODELS.build(bbox_head)
        self.mask_head = MODELS.build(mask_head)
        self.criterion = MODELS.build(loss)
        self.test_cfg = test_cfg

    def extract_feat(self, batch_inputs: Tensor) -> tuple[Tensor, ...]:
        """Pyramid levels (B, C, H_l, W_l), finest first, of images (B, 3, H, W)."""
        return self.neck(self.backbone(batch_inputs))

    def outputs(self, feats: Sequence[Tensor]) -> HeadOutputs:
        """All that is predicted from the pyramid levels, prototypes included."""
        return replace(self.bbox_head(feats), prototypes=self.mask_head(feats[0]))

    def detect(self, outputs: HeadOutputs, frame: int) -> InstanceData:
        """Detections of one frame of the batch; see ``detections.detect``."""
        with torch.autocast(outputs.logits.device.type, enabled=False):
            return detect(outputs, frame, self.bbox_head.bbox_coder, **self.test_cfg)

    def loss(self, batch_inputs: Tensor, batch_data_samples: list[DetDataSample]) -> dict:
        """Losses of a batch of images; each object is one of its own.

        Args:
            batch_inputs: (B, 3, H, W).
            batch_data_samples: B samples with ``gt_instances``.

        Returns:
            Those of :class:`STMaskLoss`.
        """
        counts = [len(sample.gt_instances) for sample in batch_data_samples]
        identities = torch.arange(sum(counts), device=batch_inputs.device).split(counts)
        targets = collect_targets(batch_data_samples, identities, batch_inputs)
        outputs = self.outputs(self.extract_feat(batch_inputs))
        return self.criterion(outputs, targets, self.bbox_head.bbox_coder)[0]

    def predict(
        self, batch_inputs: Tensor, batch_data_samples: list[DetDataSample], rescale: bool = True
    ) -> list[DetDataSample]:
        """Instances of single images, at original size.

        Args:
            batch_inputs: (B, 3, H, W).
            batch_data_samples: B samples with their metainfo.
            rescale: Must be true.

        Returns:
            The samples with ``pred_instances``.
        """
        if not rescale:
            raise ValueError("STMaskDetector gives instances at the images' original size only")
        outputs = self.outputs(self.extract_feat(batch_inputs))
        size = tuple(batch_inputs.shape[-2:])
        found = [
            at_original_size(self.detect(outputs, i), size, sample.metainfo)
            for i, sample in enumerate(batch_data_samples)
        ]
        return self.add_pred_to_datasample(batch_data_samples, found)

    def _forward(self, batch_inputs: Tensor, batch_data_samples: list | None = None) -> HeadOutputs:
        """Raw outputs, as ``mode='tensor'`` asks for."""
        return self.outputs(self.extract_feat(batch_inputs))
