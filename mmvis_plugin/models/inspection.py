"""What is inside a model, as arrays: the form in which a method's ``inspection.py`` gives it.

``inspect(model, video, at, count, **options) -> Inspection`` of that module runs the model on a
video around the frame ``at`` and gives ``count`` frames of what happens there. Nothing is drawn
here; ``tools/analysis_tools/inspect_model.py`` draws.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from torch import Tensor, nn


class ModelFrame(NamedTuple):
    """A frame as it was read, and as a model gets it.

    Attributes:
        image: (H, W, 3) uint8 BGR.
        inputs: (1, 3, h, w) normalised and padded, on the model's device.
        meta: Metainfo of ``inputs``.
    """

    image: np.ndarray
    inputs: Tensor
    meta: dict

    @property
    def padded_size(self) -> tuple[int, int]:
        """Height and width of ``inputs``."""
        return tuple(self.inputs.shape[-2:])


class InspectedVideo(NamedTuple):
    """A video on its way into a model.

    Attributes:
        name: For titles.
        num_frames: Its length.
        read: Gives the first N frames, one at a time.
    """

    name: str
    num_frames: int
    read: Callable[[int], Iterator[ModelFrame]]


class Box(NamedTuple):
    """A box (x1, y1, x2, y2) in fractions of the frame's width and height, and how to draw it."""

    corners: np.ndarray
    identity: int
    bold: bool = False


@dataclass
class View:
    """One frame with what the model has on it. Places are in fractions of the width and height.

    Attributes:
        number: Of the frame.
        caption: Above the picture.
        heat: (h, w), 0 darkest and 1 brightest, over the padded frame.
        unpadded: Whether ``heat`` is over the frame without its padding.
        outline: (h, w) likewise over the padded frame; the outline is where it crosses 0.5.
        boxes: Boxes.
        arrows: Pairs of boxes; an arrow goes from centre to centre.
        points: (P, 3) x, y and weight from 0 to 1.
        bars: (T,) weights, drawn instead of the frame.
    """

    number: int
    caption: str
    heat: np.ndarray | None = None
    unpadded: bool = False
    outline: np.ndarray | None = None
    boxes: list[Box] = field(default_factory=list)
    arrows: list[tuple[Box, Box]] = field(default_factory=list)
    points: np.ndarray | None = None
    bars: np.ndarray | None = None


@dataclass
class Group:
    """Views that belong together.

    Attributes:
        title: What they show.
        views: From left to right.
        identity: Of the track that they are about, None for none, -1 for one without an identity.
    """

    title: str
    views: list[View] = field(default_factory=list)
    identity: int | None = None


@dataclass
class Inspection:
    """What is inside a model around a frame.

    Attributes:
        frames: The frames of the views, by number.
        groups: The views, from the top down.
        scale: What the values of heat are.
        top: The value shown brightest.
        low: The value shown darkest.
        columns: Views side by side.
    """

    frames: dict[int, ModelFrame]
    groups: list[Group]
    scale: str
    top: float = 1.0
    low: float = 0.0
    columns: int = 5


def plain_views(numbers: list[int], key: int | None = None) -> list[View]:
    """The frames themselves."""
    return [View(n, f"{n}{' (key)' * (n == key)}") for n in numbers]


def activation(features: Tensor, channel: int | None = None) -> Tensor:
    """One number per position.

    Args:
        features: (..., C, H, W).
        channel: Take this channel's absolute values; without it, the Euclidean norm over all.

    Returns:
        Tensor: (..., H, W) float32, not negative.

    Raises:
        ValueError: If there is no such channel.
    """
    if channel is None:
        return features.float().norm(dim=-3)
    if not 0 <= channel < features.shape[-3]:
        raise ValueError(f"there is no channel {channel}; the features have {features.shape[-3]}")
    return features.select(-3, channel).float().abs()


def scale_of(name: str, channel: int | None) -> str:
    """What :func:`activation` shows of the features with a name."""
    return f"norm of {name}" if channel is None else f"channel {channel} of {name}"


@contextmanager
def recorded(module: nn.Module) -> Iterator[list]:
    """Record a module's outputs inside the block: a list that grows with each call."""
    outputs: list = []
    handle = module.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    try:
        yield outputs
    finally:
        handle.remove()
