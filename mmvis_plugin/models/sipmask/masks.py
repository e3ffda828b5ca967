"""Masks of sub-regions.

Source: SipMask (Cao et al., ECCV 2020), Section 3.2 (spatial preservation); where a sub-region ends
follows the authors' CUDA kernel.
"""

import torch
from torch import Tensor

# Instances whose sub-region masks are held at once: each takes floats on a grid of half the frame.
CHUNK = 50


def region_index(boxes: Tensor, size: tuple[int, int], regions: int) -> tuple[Tensor, Tensor]:
    """In which sub-region of a box each cell of a grid lies.

    A box is divided into ``regions`` x ``regions`` equal cells; 0.1 is added to its sides first, as
    in the authors' kernel, so that the last one is a little narrower.

    Args:
        boxes: (N, 4) xyxy in cells of the grid.
        size: Height and width of the grid.
        regions: Sub-regions per side.

    Returns:
        (N, H, W) index, row by row, valid where (N, H, W) bool: inside the box, its left and upper
        border included.
    """
    height, width = size
    columns, across = _along(boxes[:, 0], boxes[:, 2], width, regions)
    rows, down = _along(boxes[:, 1], boxes[:, 3], height, regions)
    return regions * rows[:, :, None] + columns[:, None], down[:, :, None] & across[:, None]


def _along(start: Tensor, stop: Tensor, length: int, regions: int) -> tuple[Tensor, Tensor]:
    """The same along one axis: (N, length) index and (N, length) bool."""
    places = torch.arange(length, device=start.device, dtype=start.dtype)
    inside = (places >= start[:, None]) & (places < stop[:, None])
    side = (stop - start + 0.1) / regions
    index = ((places - start[:, None]) / side[:, None]).where(inside, 0)
    return index.long().clamp(0, regions - 1), inside


def instance_masks(basis: Tensor, coeffs: Tensor, boxes: Tensor, regions: int) -> Tensor:
    """Soft masks: in each sub-region of a box the basis is weighed by other coefficients.

    Args:
        basis: (C, H, W).
        coeffs: (N, regions² * C), the sub-regions row by row.
        boxes: (N, 4) xyxy in cells of the basis.
        regions: Sub-regions per side.

    Returns:
        (N, H, W) in [0, 1], 0 outside the boxes. The gradient reaches the coefficients of the
        sub-region that a cell lies in only.
    """
    coeffs = coeffs.unflatten(1, (regions**2, len(basis)))
    parts = zip(coeffs.split(CHUNK), boxes.split(CHUNK), strict=True)
    return torch.cat([_chunk_masks(basis, *part, regions) for part in parts])


def _chunk_masks(basis: Tensor, coeffs: Tensor, boxes: Tensor, regions: int) -> Tensor:
    size = tuple(basis.shape[1:])
    logits = (coeffs.flatten(0, 1) @ basis.flatten(1)).view(*coeffs.shape[:2], *size)
    index, inside = region_index(boxes, size, regions)
    return logits.gather(1, index[:, None])[:, 0].sigmoid() * inside
