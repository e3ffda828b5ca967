"""IFC's network on single images, as it is trained on COCO first."""

import torch
from mmdet.models.detectors import BaseDetector
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.mask import mask2bbox
from mmengine.structures import InstanceData
from torch import Tensor

from ..layers.mask_resize import masks_at_original_size
from .ifc import clip_losses
from .network import FrameFeatures


@MODELS.register_module()
class IFCDetector(BaseDetector):
    """Instance segmentation of images, each a clip of one frame.

    Its weights are what :class:`IFC` starts from, all but the class head where the classes differ.

    Args:
        network: Config of an :class:`IFCNetwork`.
        criterion: Config of an :class:`IFCCriterion` but for the number of classes.
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
        self.criterion = MODELS.build({**criterion, "num_classes": self.network.num_classes})

    def extract_feat(self, batch_inputs: Tensor) -> FrameFeatures:
        """Maps of images (B, 3, H, W)."""
        return self.network.frame_features(batch_inputs)

    def loss(self, batch_inputs: Tensor, batch_data_samples: list[DetDataSample]) -> dict:
        """Losses of a batch of images.

        Args:
            batch_inputs: (B, 3, H, W).
            batch_data_samples: B samples with ``labels`` and ``masks`` of their ``gt_instances``.

        Returns:
            ``d0.loss_cls`` and so on.
        """
        sizes = [tuple(sample.img_shape[:2]) for sample in batch_data_samples]
        targets = []
        for sample in batch_data_samples:
            objects = sample.gt_instances
            masks = torch.from_numpy(objects.masks.masks).to(batch_inputs.device)
            targets.append(InstanceData(labels=objects.labels, masks=masks[:, None]))
        return clip_losses(self.network, self.criterion, batch_inputs[:, None], sizes, targets)

    def _forward(self, batch_inputs: Tensor, batch_data_samples: list[DetDataSample]) -> tuple:
        """Class logits (B, Q, K + 1) and mask logits (B, Q, h, w): ``mode='tensor'``."""
        sizes = [tuple(sample.img_shape[:2]) for sample in batch_data_samples]
        features = self.extract_feat(batch_inputs).map(lambda maps: maps[:, None])
        queries, mask_features = self.network(features, sizes)
        masks = self.network.mask_logits(queries[-1], mask_features)[:, 0]
        return self.network.class_logits(queries[-1]), masks

    def predict(
        self, batch_inputs: Tensor, batch_data_samples: list[DetDataSample], rescale: bool = True
    ) -> list[DetDataSample]:
        """Instances of images at their original size: the queries whose best class is one.

        Args:
            batch_inputs: (B, 3, H, W).
            batch_data_samples: B samples with their metainfo.
            rescale: Must be true.

        Returns:
            The samples with ``pred_instances``; an instance without a pixel is left out.
        """
        if not rescale:
            raise ValueError("IFCDetector gives instances at the images' original size only")
        found = []
        for logits, masks, sample in zip(
            *self._forward(batch_inputs, batch_data_samples), batch_data_samples, strict=True
        ):
            scores, labels = logits.softmax(dim=1).max(dim=1)
            kept = labels < self.network.num_classes
            full = masks_at_original_size(masks[kept], batch_inputs.shape[-2:], sample.metainfo)
            objects = InstanceData(
                scores=scores[kept], labels=labels[kept], masks=full, bboxes=mask2bbox(full)
            )
            found.append(objects[full.flatten(1).any(1)])
        return self.add_pred_to_datasample(batch_data_samples, found)
