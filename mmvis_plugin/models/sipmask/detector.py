"""The image model of SipMask."""

import torch
from mmdet.models.detectors import BaseDetector
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torch import Tensor

from .detections import detect, masks_of
from .head import HeadOutputs
from .targets import collect_objects


@MODELS.register_module()
class SipMaskDetector(BaseDetector):
    """One-stage instance segmentation of single images.

    :class:`~mmvis_plugin.models.sipmask.sipmask.SipMask` runs it on the frames of a video; by
    itself, without a track branch, it is what is trained on images first.

    Args:
        backbone: Config of a backbone.
        neck: Config of a neck with five levels.
        bbox_head: Config of a :class:`SipMaskHead`.
        loss: Config of a :class:`SipMaskLoss`.
        test_cfg: ``nms_pre``, ``score_thr``, ``iou_thr``, ``top_k`` and ``max_per_img``; see
            :func:`~mmvis_plugin.models.sipmask.detections.detect`.
        data_preprocessor: Config of a ``DetDataPreprocessor``.
        init_cfg: Initialisation config.
    """

    def __init__(
        self,
        backbone: dict,
        neck: dict,
        bbox_head: dict,
        loss: dict,
        test_cfg: dict,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        self.backbone = MODELS.build(backbone)
        self.neck = MODELS.build(neck)
        self.bbox_head = MODELS.build(bbox_head)
        self.criterion = MODELS.build(loss)
        self.test_cfg = test_cfg

    def extract_feat(self, batch_inputs: Tensor) -> tuple[Tensor, ...]:
        """Pyramid levels (B, C, H_l, W_l), finest first, of images (B, 3, H, W)."""
        return self.neck(self.backbone(batch_inputs))

    def outputs(self, batch_inputs: Tensor) -> HeadOutputs:
        """All that is predicted from images (B, 3, H, W)."""
        return self.bbox_head(self.extract_feat(batch_inputs))

    def detect(self, outputs: HeadOutputs, frame: int, meta: dict) -> InstanceData:
        """Detections of one frame of the batch with ``masks`` (n, H, W) bool at original size."""
        with torch.autocast(outputs.logits.device.type, enabled=False):
            found = detect(outputs, frame, meta, **self.test_cfg)
            found.masks = masks_of(found, outputs, frame, meta)
        return found

    def loss(self, batch_inputs: Tensor, batch_data_samples: list[DetDataSample]) -> dict:
        """Losses of a batch of images (B, 3, H, W); see :class:`SipMaskLoss`."""
        objects = collect_objects(batch_data_samples, batch_inputs)
        return self.criterion(self.outputs(batch_inputs), objects)

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
            raise ValueError("SipMaskDetector gives instances at the images' original size only")
        outputs = self.outputs(batch_inputs)
        found = [
            self.detect(outputs, i, sample.metainfo) for i, sample in enumerate(batch_data_samples)
        ]
        return self.add_pred_to_datasample(batch_data_samples, found)

    def _forward(self, batch_inputs: Tensor, batch_data_samples: list | None = None) -> HeadOutputs:
        """Raw outputs, as ``mode='tensor'`` asks for."""
        return self.outputs(batch_inputs)
