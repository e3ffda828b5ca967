"""Resizing by torchvision's rule."""

from mmcv.transforms import BaseTransform
from mmdet.datasets.transforms import Resize
from mmdet.registry import TRANSFORMS


@TRANSFORMS.register_module()
class ResizeShortSide(BaseTransform):
    """Resize to a length of the short side, the long one in proportion, without a maximum.

    The long side loses its fraction of a pixel, as in torchvision: 854 x 480 becomes 640 x 360 for
    a short side of 360. MMDetection's ``Resize`` with ``keep_ratio=True`` rounds it, to 641.

    Keys as in MMDetection's ``Resize``.

    Args:
        side: Length of the short side in pixels.
        backend: Of MMDetection's ``Resize``.
        interpolation: Likewise.
    """

    def __init__(self, side: int, backend: str = "cv2", interpolation: str = "bilinear") -> None:
        self.side = side
        self.options = dict(keep_ratio=False, backend=backend, interpolation=interpolation)

    def transform(self, results: dict) -> dict:
        """Resize one frame and what is annotated in it."""
        height, width = results["img_shape"]
        short = min(height, width)
        scale = width * self.side // short, height * self.side // short
        return Resize(scale=scale, **self.options)(results)
