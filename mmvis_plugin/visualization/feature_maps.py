"""Values inside a model as pictures: heat over the frame they are of."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import cv2
import matplotlib
import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from .contact_sheet import WHITE, Section, contact_sheet
from .labels import text_height, text_width, write_label

BAR_TEXT = 14  # size of letters


def activation(features: Tensor, channel: int | None = None) -> Tensor:
    """One number a position.

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


def at_frame_size(
    maps: Tensor, padded_size: tuple[int, int], meta: dict, size: tuple[int, int]
) -> np.ndarray:
    """Maps that cover a padded frame, as they lie on the frame itself.

    Args:
        maps: (N, h, w) on any grid that covers the padded frame.
        padded_size: Height and width of the frame that the model got.
        meta: Its metainfo: ``img_shape``, what of it is not padding.
        size: Width and height wanted.

    Returns:
        np.ndarray: (N, H, W) float32.
    """
    if len(maps) == 0:
        return np.zeros((0, *size[::-1]), np.float32)
    height, width = meta["img_shape"][:2]
    settings = dict(mode="bilinear", align_corners=False)
    padded = F.interpolate(maps[:, None].float(), padded_size, **settings)
    return F.interpolate(padded[..., :height, :width], size[::-1], **settings)[:, 0].cpu().numpy()


def heat_colors(values: np.ndarray) -> np.ndarray:
    """Colours of Matplotlib's inferno, which grow lighter evenly, also for colour-blind viewers.

    Args:
        values: (...), from 0 to 1; what lies beyond is cut off.

    Returns:
        np.ndarray: (..., 3) uint8 BGR.
    """
    rgba = matplotlib.colormaps["inferno"](values.clip(0, 1), bytes=True)
    return np.ascontiguousarray(rgba[..., 2::-1])


def paint_heat(frame: np.ndarray, heat: np.ndarray, top: float, low: float = 0.0) -> np.ndarray:
    """Heat over a frame, which is grey and dim, so that bright places are those of large values.

    Args:
        frame: (H, W, 3) uint8 BGR.
        heat: (H, W).
        top: The value shown brightest.
        low: The value shown darkest.

    Returns:
        np.ndarray: (H, W, 3) uint8 BGR.
    """
    heat = ((heat - low) / max(top - low, np.finfo(np.float32).tiny)).clip(0, 1)
    grey = 0.8 * cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)[..., None]
    opacity = 0.3 + 0.7 * heat[..., None]
    return (opacity * heat_colors(heat) + (1 - opacity) * grey).round().astype(np.uint8)


def heat_bar(width: int, top: float, low: float, text: str) -> np.ndarray:
    """The scale of heat, with what it is of.

    Args:
        width: Of the picture in pixels.
        top: The value shown brightest.
        low: The value shown darkest.
        text: What the values are.

    Returns:
        np.ndarray: (H, W, 3) uint8 BGR.
    """
    height = text_height(BAR_TEXT)
    bar = np.full((2 * height, width, 3), 255, np.uint8)
    bar[height:] = heat_colors(np.linspace(0, 1, width))
    high = f"{top:.3g}"
    write_label(bar, f"{low:.3g}   {text}", (0, 0), BAR_TEXT, WHITE)
    write_label(bar, high, (max(width - text_width(high, BAR_TEXT), 0), 0), BAR_TEXT, WHITE)
    return bar


def heat_sheet(
    sections: Sequence[Section], columns: int, text: str, top: float, low: float = 0.0
) -> np.ndarray:
    """A contact sheet of heat with its scale below; see :func:`contact_sheet`, :func:`heat_bar`."""
    sheet = contact_sheet(sections, columns)
    return np.vstack([sheet, heat_bar(sheet.shape[1], top, low, text)])


def draw_outline(picture: np.ndarray, mask: np.ndarray, color: tuple[int, int, int]) -> None:
    """Draw the outline of a mask (H, W) on a picture of that size, changed in place."""
    found, _ = cv2.findContours(
        np.ascontiguousarray(mask, np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE
    )
    cv2.drawContours(picture, found, -1, color, max(1, round(min(picture.shape[:2]) / 150)))


@contextmanager
def recorded(module: nn.Module) -> Iterator[list]:
    """What a module gives in the calls inside the block: a list that grows with each call."""
    outputs: list = []
    handle = module.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    try:
        yield outputs
    finally:
        handle.remove()
