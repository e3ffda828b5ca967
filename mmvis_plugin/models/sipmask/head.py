"""The head: classes, boxes, centerness, coefficients of sub-regions, a mask basis, embeddings.

Source: SipMask (Cao et al., ECCV 2020), Section 3; sizes as in the authors' code.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule, Scale
from mmcv.ops import DeformConv2d
from mmdet.registry import MODELS
from mmengine.model import BaseModule, bias_init_with_prob, normal_init
from torch import Tensor, nn


@dataclass
class HeadOutputs:
    """What the head predicts at the N locations of all levels, finest level first.

    Attributes:
        logits: (B, N, K).
        distances: (B, N, 4) pixels from a location to the left, upper, right and lower border.
            They are not bounded: a box may be turned inside out.
        centerness: (B, N) logits.
        coeffs: (B, N, regions² * C) of the basis, see ``masks.instance_masks``.
        points: (N, 2) x and y in pixels.
        strides: (N,) pixels between the locations of a level.
        counts: Locations of each level.
        basis: (B, C, H, W), four cells for one of the finest level.
        embeddings: (B, D, h, w) at the finest level; None without a track branch.
        stride: Of the finest level, in pixels.
        regions: Sub-regions per side.
    """

    logits: Tensor
    distances: Tensor
    centerness: Tensor
    coeffs: Tensor
    points: Tensor
    strides: Tensor
    counts: list[int]
    basis: Tensor
    embeddings: Tensor | None
    stride: int
    regions: int

    @property
    def basis_stride(self) -> float:
        """Pixels per cell of the basis."""
        return self.stride / 4


class FeatureAlignment(BaseModule):
    """A deformable convolution that reads where the predicted box of a location says.

    Args:
        channels: Of the features.
        groups: Groups of channels with their own offsets.
        norm_cfg: Config of the normalisation.
    """

    def __init__(self, channels: int, groups: int, norm_cfg: dict) -> None:
        super().__init__()
        self.conv_offset = nn.Conv2d(4, groups * 18, 1, bias=False)
        self.conv_adapt = DeformConv2d(channels, channels, 3, padding=1, deform_groups=groups)
        self.norm = nn.GroupNorm(norm_cfg["num_groups"], channels)

    def init_weights(self) -> None:
        """Start from no offsets."""
        nn.init.zeros_(self.conv_offset.weight)
        nn.init.normal_(self.conv_adapt.weight, std=0.01)

    def forward(self, x: Tensor, distances: Tensor) -> Tensor:
        """Align features.

        Args:
            x: (B, C, H, W).
            distances: (B, 4, H, W) in strides; they learn nothing from here.

        Returns:
            (B, C, H, W).
        """
        # mmcv's deformable convolution has no bfloat16 kernel on CPU.
        with torch.autocast(x.device.type, enabled=False):
            offsets = self.conv_offset(distances.detach().float())
            x = self.conv_adapt(x.float().contiguous(), offsets)
        return self.norm(x).relu()


@MODELS.register_module()
class SipMaskHead(BaseModule):
    """Predicts everything that instances are made of, at every location of five levels.

    Args:
        num_classes: K, without background.
        in_channels: Of the pyramid levels.
        feat_channels: Of the towers.
        stacked_convs: Convolutions of the box tower; those of classes and track have one less.
        strides: Of the levels, in pixels.
        regions: Sub-regions per side that have coefficients of their own.
        num_basis: C, maps that masks are made of.
        basis_channels: Of the features that they are made of.
        align_groups: Groups of channels of the feature alignment; None for a plain convolution in
            its place.
        embed_dims: D of the track branch; None for images.
        norm_cfg: Config of the normalisation in towers.
        init_cfg: Initialisation config.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 256,
        feat_channels: int = 256,
        stacked_convs: int = 3,
        strides: Sequence[int] = (8, 16, 32, 64, 128),
        regions: int = 2,
        num_basis: int = 32,
        basis_channels: int = 512,
        align_groups: int | None = 4,
        embed_dims: int | None = 512,
        norm_cfg: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        norm_cfg = norm_cfg or dict(type="GN", num_groups=32)
        self.strides = tuple(strides)
        self.regions = regions

        def tower(depth: int) -> nn.ModuleList:
            channels = [in_channels] + [feat_channels] * depth
            return nn.ModuleList(
                ConvModule(channels[i], feat_channels, 3, padding=1, norm_cfg=norm_cfg)
                for i in range(depth)
            )

        self.cls_convs = tower(stacked_convs - 1)
        self.reg_convs = tower(stacked_convs)
        self.conv_cls = nn.Conv2d(feat_channels, num_classes, 3, padding=1)
        self.conv_reg = nn.Conv2d(feat_channels, 4, 3, padding=1)
        self.conv_centerness = nn.Conv2d(feat_channels, 1, 3, padding=1)
        self.scales = nn.ModuleList(Scale(1.0) for _ in self.strides)
        self.align = align_groups is not None
        self.feat_align = (
            FeatureAlignment(feat_channels, align_groups, norm_cfg)
            if self.align
            else ConvModule(feat_channels, feat_channels, 3, padding=1, norm_cfg=norm_cfg)
        )
        self.conv_coeff = nn.Conv2d(feat_channels, num_basis * regions**2, 3, padding=1)
        self.basis_reduce = nn.Conv2d(3 * feat_channels, basis_channels, 1)
        self.conv_basis = nn.Conv2d(basis_channels, num_basis, 3, padding=1)
        self.track_convs = tower(stacked_convs - 1 if embed_dims else 0)
        self.conv_track = nn.Conv2d(3 * feat_channels, embed_dims, 1) if embed_dims else None

    def init_weights(self) -> None:
        """As the authors: all convolutions small, classes rare, no offsets."""
        super().init_weights()
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module is not self.conv_track:
                normal_init(module, std=0.01)
        normal_init(self.conv_cls, std=0.01, bias=bias_init_with_prob(0.01))
        if self.align:
            self.feat_align.init_weights()

    def forward(self, feats: Sequence[Tensor]) -> HeadOutputs:
        """Predict.

        Args:
            feats: Levels (B, C, H_l, W_l), finest first.
        """
        found = [
            self._level(x, scale, stride)
            for x, scale, stride in zip(feats, self.scales, self.strides, strict=True)
        ]
        *predicted, towers = zip(*found, strict=True)
        logits, distances, centerness, coeffs = (
            torch.cat([x.flatten(2).transpose(1, 2) for x in levels], 1) for levels in predicted
        )
        points = [_points(x.shape[-2:], s, x) for x, s in zip(towers, self.strides, strict=True)]
        counts = [len(x) for x in points]
        strides = points[0].new_tensor(self.strides)
        return HeadOutputs(
            logits=logits.float(),
            distances=distances,
            centerness=centerness[..., 0].float(),
            coeffs=coeffs,
            points=torch.cat(points),
            strides=strides.repeat_interleave(torch.tensor(counts, device=strides.device)),
            counts=counts,
            basis=self._basis(towers),
            embeddings=self.embed(feats) if self.conv_track else None,
            stride=self.strides[0],
            regions=self.regions,
        )

    def _level(self, x: Tensor, scale: Scale, stride: int) -> tuple[Tensor, ...]:
        """Logits, distances, centerness and coefficients of a level, and its box features."""
        classes, boxes = x, x
        for conv in self.cls_convs:
            classes = conv(classes)
        for conv in self.reg_convs:
            boxes = conv(boxes)
        distances = scale(self.conv_reg(boxes))
        aligned = self.feat_align(classes, distances) if self.align else self.feat_align(classes)
        return (
            self.conv_cls(aligned),
            distances.float() * stride,
            self.conv_centerness(boxes),
            self.conv_coeff(aligned),
            boxes,
        )

    def _basis(self, towers: Sequence[Tensor]) -> Tensor:
        """(B, C, H, W) of the box features of all levels, of which the finest three are used."""
        basis = self.conv_basis(self.basis_reduce(_to_finest(towers[:3])).relu()).relu()
        return F.interpolate(basis, scale_factor=4, mode="bilinear", align_corners=False)

    def embed(self, feats: Sequence[Tensor]) -> Tensor:
        """(B, D, h, w) embeddings from the levels; also of frames that only give references."""
        found = []
        for x in feats[:3]:
            for conv in self.track_convs:
                x = conv(x)
            found.append(x)
        return self.conv_track(_to_finest(found))


def _to_finest(levels: Sequence[Tensor]) -> Tensor:
    """Interpolate levels to the size of the first and concatenate their channels."""
    size = levels[0].shape[-2:]
    larger = [F.interpolate(x, size, mode="bilinear", align_corners=False) for x in levels[1:]]
    return torch.cat([levels[0], *larger], 1)


def _points(size: Sequence[int], stride: int, like: Tensor) -> Tensor:
    """(H * W, 2) x and y of a level's locations in pixels, row by row."""
    y, x = (torch.arange(n, device=like.device).float() * stride + stride // 2 for n in size)
    return torch.stack([x.repeat(len(y)), y.repeat_interleave(len(x))], 1)


def center_features(embeddings: Tensor, boxes: Tensor, stride: int) -> Tensor:
    """The embedding at the centre of each box, without interpolation.

    Args:
        embeddings: (D, h, w) of a frame.
        boxes: (N, 4) xyxy in pixels of the padded frame. A centre outside the map takes the
            nearest cell.
        stride: Pixels per cell.

    Returns:
        (N, D).
    """
    cells = ((boxes[:, :2] + boxes[:, 2:]) / 2 / stride).floor().long()
    height, width = embeddings.shape[1:]
    x, y = cells[:, 0].clamp(0, width - 1), cells[:, 1].clamp(0, height - 1)
    return embeddings[:, y, x].T
