"""Resizing by torchvision's rule."""

import numpy as np
from mmcv.transforms import BaseTransform
from mmdet.datasets.transforms import Resize
from mmdet.registry import TRANSFORMS


@TRANSFORMS.register_module()
class ResizeShortSide(BaseTransform):
    """Resize to a length of the short side, the long one in proportion.

    The long side loses its fraction of a pixel, as in torchvision: 854 x 480 becomes 640 x 360 for
    a short side of 360. MMDetection's ``Resize`` with ``keep_ratio=True`` rounds it, to 641.

    The backend ``"pillow"`` resizes with anti-aliasing. It takes uint8 only, so that frames of
    floats are cut to [0, 255] and lose their fractions.

    Keys as in MMDetection's ``Resize``.

    Args:
        side (int): Length of the short side in pixels.
        max_long_side (int, optional): Where the long side would be longer, the short side becomes
            that of this long side, rounded. Defaults to None: no limit.
        backend (str): Backend of MMDetection's ``Resize``.
        interpolation (str): Interpolation of MMDetection's ``Resize``.
    """

    def __init__(
        self,
        side: int,
        max_long_side: int | None = None,
        backend: str = "cv2",
        interpolation: str = "bilinear",
    ) -> None:
        self.side = side
        self.max_long_side = max_long_side
        self.options = dict(keep_ratio=False, backend=backend, interpolation=interpolation)

    def transform(self, results: dict) -> dict:
        """Resize one frame and what is annotated in it."""
        height, width = results["img_shape"]
        short, long = sorted((height, width))
        side = self.side
        if self.max_long_side is not None and long * side > short * self.max_long_side:
            side = round(self.max_long_side * short / long)
        if self.options["backend"] == "pillow":
            results["img"] = results["img"].clip(0, 255).astype(np.uint8, copy=False)
        scale = width * side // short, height * side // short
        return Resize(scale=scale, **self.options)(results)
