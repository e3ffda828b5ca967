"""Appearance: what makes an object look the same in two frames, as a vector."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn


class Appearance(nn.Module, ABC):
    """Base class of appearance models, registered in MMDetection's ``MODELS``."""

    @abstractmethod
    def forward(self, frame: Tensor, maps: Sequence[Tensor], bboxes: Tensor, meta: dict) -> Tensor:
        """Describe the objects of a frame. Gradients are off.

        Args:
            frame: (3, H, W) resized, normalised and padded.
            maps: The detector's feature maps of it, each (1, C, h, w), fine ones first.
            bboxes: (N, 4) xyxy in pixels of the original frame.
            meta: Of the frame, with ``ori_shape``, ``img_shape`` and ``scale_factor``.

        Returns:
            (N, C) float.
        """
