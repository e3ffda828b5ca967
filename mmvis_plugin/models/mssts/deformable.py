"""Multi-scale deformable attention over all frames of a clip at once."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from mmcv.ops.multi_scale_deform_attn import (
    MultiScaleDeformableAttention,
    MultiScaleDeformableAttnFunction,
)
from torch import Tensor

from ..layers.precision import at_least_float32


class FeatureLevels(NamedTuple):
    """Where the scales of a feature pyramid lie in its flattened tokens, finest first.

    Attributes:
        shapes: Height and width of each of L scales.
        sizes: (L, 2) the same, long, on the device.
        starts: (L,) index of each scale's first token, long, on the device.
    """

    shapes: tuple[tuple[int, int], ...]
    sizes: Tensor
    starts: Tensor

    @classmethod
    def of(cls, maps: Sequence[Tensor]) -> "FeatureLevels":
        """The scales of (..., h, w) feature maps."""
        shapes = tuple((x.shape[-2], x.shape[-1]) for x in maps)
        sizes = torch.tensor(shapes)
        starts = sizes.prod(1).cumsum(0) - sizes.prod(1)
        device = maps[0].device
        return cls(shapes, sizes.to(device), starts.to(device))

    def counts(self) -> list[int]:
        """Number of tokens of each scale."""
        return [height * width for height, width in self.shapes]

    def split(self, tokens: Tensor) -> tuple[Tensor, ...]:
        """(..., P, C) tokens as L tensors (..., P_s, C)."""
        return tokens.split(self.counts(), dim=-2)


class FrameDeformableAttention(MultiScaleDeformableAttention):
    """mmcv's multi-scale deformable attention of the queries of each frame to that frame.

    Parameters and operator are mmcv's. What differs from its ``forward``: it stops before the
    output projection and the residual, since SeqFormer's decoder has two projections of what was
    sampled; queries that are the same in all frames are given once; sampling is done in at least
    float32.
    """

    def forward(
        self,
        query: Tensor,
        references: Tensor,
        memory: Tensor,
        levels: FeatureLevels,
        padding: Tensor | None = None,
    ) -> Tensor:
        """Sample each frame's features.

        Args:
            query: (B, T, Q, C) with the position added; (B, 1, Q, C) where all frames have the
                same.
            references: (B, T, Q, L, 2) points or (B, T, Q, L, 4) boxes (cx, cy, w, h) in widths
                and heights of the padded scale.
            memory: (B, T, P, C) features.
            levels: Their scales.
            padding: (B, P) bool, true where the features are of padding; None without any.

        Returns:
            (B, T, Q, C), before any output projection.
        """
        heads, scales, points = self.num_heads, self.num_levels, self.num_points
        value = self.value_proj(memory)
        if padding is not None:
            value = value.masked_fill(padding[:, None, :, None], 0)
        offsets = at_least_float32(self.sampling_offsets(query))
        offsets = offsets.unflatten(-1, (heads, scales, points, 2))
        weights = at_least_float32(self.attention_weights(query))
        weights = weights.unflatten(-1, (heads, -1)).softmax(-1).unflatten(-1, (scales, points))

        references = references[:, :, :, None, :, None]  # (B, T, Q, 1, L, 1, 2 or 4)
        if references.shape[-1] == 2:
            offsets = offsets / levels.sizes.flip(1)[:, None]
        else:
            offsets = offsets / points * references[..., 2:] * 0.5
        locations = references[..., :2] + offsets
        weights = weights.expand(*locations.shape[:-1])
        sampled = sample_levels(
            at_least_float32(value).unflatten(-1, (heads, -1)).flatten(0, 1),
            levels,
            locations.flatten(0, 1),
            weights.flatten(0, 1),
        )
        return sampled.unflatten(0, memory.shape[:2])


def sample_levels(
    value: Tensor, levels: FeatureLevels, locations: Tensor, weights: Tensor
) -> Tensor:
    """Weighted sums of bilinear samples: mmcv's operator on a GPU.

    mmcv's PyTorch fallback for the CPU computes the same as the two functions used there, which
    need less memory; it is what the tests compare them with.

    Args:
        value: (N, P, M, D) features of M heads.
        levels: Their L scales.
        locations: (N, Q, M, L, K, 2) x and y in widths and heights of the scale.
        weights: (N, Q, M, L, K).

    Returns:
        (N, Q, M D).
    """
    if not value.is_cuda:
        wants_gradient = value.requires_grad or locations.requires_grad or weights.requires_grad
        if torch.is_grad_enabled() and wants_gradient:
            return _sample_maps(value, levels, locations, weights)
        return _sample_bags(value, levels, locations, weights)
    # The kernel takes so many entries of the batch at a time and wants them to go without a rest.
    step = max(n for n in range(1, min(len(value), 64) + 1) if len(value) % n == 0)
    return MultiScaleDeformableAttnFunction.apply(
        value.contiguous(),
        levels.sizes,
        levels.starts,
        locations.contiguous(),
        weights.contiguous(),
        step,
    )


def _sample_maps(
    value: Tensor, levels: FeatureLevels, locations: Tensor, weights: Tensor
) -> Tensor:
    """:func:`sample_levels` on the CPU, with a gradient.

    Scale by scale, summed over the points in long rows of queries: 1.7 times as fast as mmcv's
    fallback, which stores all scales side by side and sums over short rows of points.
    """
    batch, _, heads, _ = value.shape
    maps = levels.split(value.permute(0, 2, 1, 3).flatten(0, 1))
    grids = (2 * locations - 1).permute(3, 0, 2, 4, 1, 5).flatten(1, 2)  # (L, N M, K, Q, 2)
    weights = weights.permute(3, 0, 2, 4, 1).flatten(1, 2)  # (L, N M, K, Q)
    total = 0
    for tokens, shape, grid, weight in zip(maps, levels.shapes, grids, weights, strict=True):
        samples = F.grid_sample(tokens.mT.unflatten(2, shape), grid, align_corners=False)
        total = total + (samples * weight[:, None]).sum(2)  # (N M, D, Q)
    return total.unflatten(0, (batch, heads)).permute(0, 3, 1, 2).flatten(2)


def _sample_bags(
    value: Tensor, levels: FeatureLevels, locations: Tensor, weights: Tensor
) -> Tensor:
    """:func:`sample_levels` on the CPU, without a gradient.

    A query's result is the weighted sum of the values in the four cells around each of its points,
    which is what ``embedding_bag`` computes. Unlike mmcv's PyTorch fallback it stores no samples,
    which are L K times as many as the values. Frames go one by one, so that what is in between
    stays in the processor's cache: together 7 times as fast at 5 frames of 360 x 640 on one core,
    in a quarter of the memory. But the gradient of ``embedding_bag`` is slow.
    """
    frames = zip(value, locations, weights, strict=True)
    return torch.stack([_sum_bags(x, levels, *points) for x, *points in frames])


def _sum_bags(value: Tensor, levels: FeatureLevels, locations: Tensor, weights: Tensor) -> Tensor:
    """:func:`_sample_bags` of one frame: without N."""
    _, heads, width = value.shape
    num_queries, points = len(locations), locations.shape[3]

    def per_point(of_level: Tensor) -> Tensor:
        """(M L K,) from (L,): as long rows, since short ones broadcast slowly."""
        return of_level.repeat_interleave(points).repeat(heads)

    heights, widths = (per_point(size) for size in levels.sizes.unbind(1))
    locations = locations.reshape(num_queries, -1, 2)
    left, right = _two_cells(locations[..., 0], widths)
    top, bottom = _two_cells(locations[..., 1], heights)
    weights = weights.reshape(num_queries, -1)

    # A row of the table is a head of a token.
    head = torch.arange(heads, dtype=torch.int32).repeat_interleave(len(widths) // heads)
    first = (per_point(levels.starts) * heads).int() + head
    down = (widths * heads).int()
    rows, shares = [], []
    for y, share_y in (top, bottom):
        y, share_y = y * down + first, share_y * weights
        for x, share_x in (left, right):
            rows.append((y + x * heads).unflatten(1, (heads, -1)))
            shares.append((share_y * share_x).unflatten(1, (heads, -1)))
    sampled = F.embedding_bag(
        torch.cat(rows, dim=2).flatten(0, 1),
        value.reshape(-1, width),
        per_sample_weights=torch.cat(shares, dim=2).flatten(0, 1),
        mode="sum",
    )
    return sampled.view(num_queries, heads * width)


def _two_cells(place: Tensor, size: Tensor) -> list[tuple[Tensor, Tensor]]:
    """The cells around a place on a line of ``size`` cells, int32, and their linear shares.

    ``place`` is in [0, 1] inside of the line; a cell outside of it has no share.
    """
    place = place * size - 0.5
    low = place.floor()
    cells = []
    for cell, share in ((low, low + 1 - place), (low + 1, place - low)):
        inside = cell.clamp(min=0).minimum((size - 1).to(cell))
        cells.append((inside.int(), share * (inside == cell)))
    return cells
