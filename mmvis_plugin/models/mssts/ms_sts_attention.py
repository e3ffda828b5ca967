"""Attention over time: MS-STS attention in the encoder, temporal attention in the decoder.

Source: MS-STS VIS (Thawakar et al., ECCV 2022) names a multi-scale spatio-temporal split attention
in the encoder "to capture spatio-temporal feature relationships at multiple scales across frames"
and "a temporal attention block in the decoder for enhancing the temporal consistency of the box
queries". What is the source's: that temporal attention in the encoder is split into one within a
scale and one between adjacent scales, that it follows the spatial attention of each frame, and
that the decoder's attends over the frames of a box query. The rest is our reading: see the classes.

Every block ends in a projection that starts at zero, so that a network to which it is added is the
same network until it is trained.
"""

import torch
import torch.nn.functional as F
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn

from .deformable import FeatureLevels


def attend(query: Tensor, key: Tensor, value: Tensor, num_heads: int, mask=None) -> Tensor:
    """Multi-head scaled dot-product attention over the second dimension.

    Args:
        query: (B, S, N, C): for each of N places its own set of S tokens.
        key: (B, S, N, C).
        value: (B, S, N, C).
        num_heads: M, a divisor of C.
        mask: (B, N, S) bool, true for keys that take part; None for all.

    Returns:
        (B, S, N, C).
    """
    # (B, S, N, C) -> (B N, M, S, C / M): PyTorch's fused kernels take four dimensions only.
    heads = (
        x.unflatten(-1, (num_heads, -1)).permute(0, 2, 3, 1, 4).flatten(0, 1)
        for x in (query, key, value)
    )
    if mask is not None:
        mask = mask.flatten(0, 1)[:, None, None]
    out = F.scaled_dot_product_attention(*heads, attn_mask=mask)
    return out.unflatten(0, (len(query), -1)).permute(0, 3, 1, 2, 4).flatten(3)


class _ZeroStartAttention(BaseModule):
    """Norm and projections of an attention that adds nothing until it is trained."""

    def __init__(self, channels: int, num_heads: int) -> None:
        super().__init__()
        if channels % num_heads:
            raise ValueError(f"{channels} channels cannot be split among {num_heads} heads")
        self.num_heads = num_heads
        self.norm = nn.LayerNorm(channels)
        self.in_proj = nn.Linear(channels, 3 * channels)
        self.out_proj = nn.Linear(channels, channels)
        nn.init.xavier_uniform_(self.in_proj.weight)
        nn.init.zeros_(self.in_proj.bias)
        nn.init.zeros_(self.out_proj.weight)
        nn.init.zeros_(self.out_proj.bias)


class TemporalAttention(_ZeroStartAttention):
    """Each place attends to itself in all T frames.

    There is no encoding of time: the baseline has none, the frames of a training clip are any
    distances apart, and a video has any number of frames (our reading).

    Args:
        channels: C.
        num_heads: A divisor of C.
    """

    def forward(self, x: Tensor) -> Tensor:
        """What to add to ``x``.

        Args:
            x: (B, T, N, C), N positions or queries.

        Returns:
            (B, T, N, C).
        """
        query, key, value = self.in_proj(self.norm(x)).chunk(3, dim=-1)
        return self.out_proj(attend(query, key, value, self.num_heads))


class InterScaleAttention(_ZeroStartAttention):
    """Each position attends to itself in all T frames of two adjacent scales.

    For each pair of adjacent scales the coarser one is brought to the finer one's grid (nearest,
    as the mask head does); every position of that grid attends over the 2T tokens there. The finer
    half of the result is that of the finer scale, the coarser half is averaged over the cells that
    a coarse cell was copied to. A scale of two pairs takes the mean. One set of weights serves all
    pairs; the position with its level embedding, which tells the scales apart, is added to queries
    and keys (our readings).

    Where padding of one scale falls on a valid cell of the other it is no key.

    Args:
        channels: C.
        num_heads: A divisor of C.
    """

    def forward(
        self, x: Tensor, position: Tensor, levels: FeatureLevels, padding: Tensor | None = None
    ) -> Tensor:
        """What to add to ``x``.

        Args:
            x: (B, T, P, C) tokens of all scales.
            position: (B, P, C).
            levels: The scales.
            padding: (B, P) bool, true for tokens of padding; None without any.

        Returns:
            (B, T, P, C).
        """
        x = self.norm(x)
        placed = x + position[:, None]
        weight_qk, weight_v = self.in_proj.weight.tensor_split([2 * x.shape[-1]])
        bias_qk, bias_v = self.in_proj.bias.tensor_split([2 * x.shape[-1]])
        # Linear layers and nearest upsampling commute: project on the small grid.
        qkv = torch.cat([F.linear(placed, weight_qk, bias_qk), F.linear(x, weight_v, bias_v)], -1)
        scales = levels.split(qkv)
        valid = None if padding is None else levels.split(~padding[..., None])
        out = [[] for _ in scales]
        for fine, coarse in zip(range(len(scales) - 1), range(1, len(scales)), strict=True):
            cells = nearest_cells(levels.shapes[fine], levels.shapes[coarse], x.device)
            pair = torch.cat([scales[fine], scales[coarse][:, :, cells]], dim=1)
            mask = None
            if valid is not None:
                mask = _keys_of_pair(valid[fine], valid[coarse][:, cells], x.shape[1])
            attended = attend(*pair.chunk(3, dim=-1), self.num_heads, mask)
            of_fine, of_coarse = attended.chunk(2, dim=1)
            out[fine].append(of_fine)
            out[coarse].append(mean_over_cells(of_coarse, cells, scales[coarse].shape[2]))
        means = [sum(of_pairs) / len(of_pairs) for of_pairs in out]
        return self.out_proj(torch.cat(means, dim=2))


def nearest_cells(fine: tuple[int, int], coarse: tuple[int, int], device) -> Tensor:
    """(P_fine,) long: the coarse cell that nearest upsampling copies to each fine one."""
    rows = torch.arange(fine[0], device=device) * coarse[0] // fine[0]
    columns = torch.arange(fine[1], device=device) * coarse[1] // fine[1]
    return (rows[:, None] * coarse[1] + columns).flatten()


def mean_over_cells(x: Tensor, cells: Tensor, num_cells: int) -> Tensor:
    """Mean of (B, T, P_fine, C) over the fine cells of each coarse one: (B, T, num_cells, C)."""
    total = x.new_zeros(*x.shape[:2], num_cells, x.shape[-1]).index_add(2, cells, x)
    # Not bincount, which would wait for the GPU.
    count = cells.new_zeros(num_cells).index_add(0, cells, torch.ones_like(cells))
    return total / count[:, None].to(x.dtype)


def _keys_of_pair(fine: Tensor, coarse: Tensor, num_frames: int) -> Tensor:
    """(B, P, 2T) keys where scales are valid, (B, P, 1) each; all where neither is."""
    neither = ~(fine | coarse)
    halves = [(x | neither).expand(-1, -1, num_frames) for x in (fine, coarse)]
    return torch.cat(halves, dim=-1)


@MODELS.register_module()
class MSSTSAttention(BaseModule):
    """Multi-scale spatio-temporal split attention: the temporal part, within and between scales.

    It stands in an encoder layer behind the deformable attention of each frame, inside of that
    one's residual, before its norm. *Intra-scale*: each position of each scale attends over the T
    frames (:class:`TemporalAttention`). *Inter-scale*: over both of two adjacent scales
    (:class:`InterScaleAttention`). The results of the two are added (our reading).

    Cost in a layer, for P tokens a frame, P_L of them in the coarsest scale: the projections take
    4 P T C^2 multiplications in each branch; the attention 2 P T^2 C within scales and
    8 (P - P_L) T^2 C between them, linear in the size of the frames, quadratic in their number.
    Memory is that of queries, keys and values, 3 P T C within and 6 (P - P_L) T C between scales:
    scaled_dot_product_attention need not store its weights. What they and the rest of the encoder
    cost is measured in docs/mssts.md.

    Args:
        channels: C.
        num_heads: A divisor of C.
        intra: Within scales.
        inter: Between adjacent scales.

    Raises:
        ValueError: If neither branch is wanted; ``ms_sts=None`` in the encoder says that.
    """

    def __init__(
        self, channels: int = 256, num_heads: int = 8, intra: bool = True, inter: bool = True
    ) -> None:
        super().__init__()
        if not (intra or inter):
            raise ValueError("MSSTSAttention without intra and inter does nothing: use ms_sts=None")
        self.intra = TemporalAttention(channels, num_heads) if intra else None
        self.inter = InterScaleAttention(channels, num_heads) if inter else None

    def forward(
        self, x: Tensor, position: Tensor, levels: FeatureLevels, padding: Tensor | None = None
    ) -> Tensor:
        """What to add to ``x``; arguments as in :class:`InterScaleAttention`."""
        out = 0
        if self.intra is not None:
            out = out + self.intra(x)
        if self.inter is not None:
            out = out + self.inter(x, position, levels, padding)
        return out
