"""The prediction head: boxes, classes, mask coefficients, embeddings and centerness per anchor."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmdet.registry import MODELS, TASK_UTILS
from mmengine.model import BaseModule
from torch import Tensor, nn

from ..layers.precision import at_least_float32
from .calibration import CalibratedPrediction

BRANCHES = ("cls", "mask", "track")


@dataclass
class HeadOutputs:
    """What the network predicts on B frames with N anchors each, but for the features in
    float32 also under autocast.

    Anchors run level by level, row by row, column by column; those of one position follow each
    other in the order of the kernels.

    Attributes:
        deltas: (B, N, 4) box regression relative to the anchors.
        logits: (B, N, K + 1) classes, the first of them background.
        coeffs: (B, N, M) mask coefficients before the tanh.
        embeddings: (B, N, D) of unit length.
        centerness: (B, N) in (-1, 1), the DIoU to be expected of the box.
        priors: (N, 4) anchors, xyxy in fractions of the padded frame.
        features: Per level (B, C, H_l, W_l), what all branches start from; temporal fusion reads
            it as well.
        prototypes: (B, M, h, w) not negative; None where only the head has run.
    """

    deltas: Tensor
    logits: Tensor
    coeffs: Tensor
    embeddings: Tensor
    centerness: Tensor
    priors: Tensor
    features: tuple[Tensor, ...]
    prototypes: Tensor | None = None


@MODELS.register_module()
class STMaskHead(BaseModule):
    """One head for all levels, with feature calibration for anchors and for boxes.

    A convolution that all branches share, for each branch (boxes, classes, mask coefficients,
    embeddings) a tower of convolutions, and for each anchor of a position a layer of its own.

    Source: STMask (Li et al., CVPR 2021), Section 3.1. Feature calibration for anchors (FCA): the
    anchors of a position have the shapes of their layers' kernels. Without it, all kernels are
    3 x 3, which equals one layer that predicts for all anchors. All coordinates are fractions of
    the padded frame, so that anchors scale with it: an anchor is so many cells of its level.

    Args:
        num_classes: K, without background.
        in_channels: Channels of the levels.
        feat_channels: Channels of the shared convolution and the towers.
        kernel_sizes: Height and width of the layers' kernels, one for each anchor of a position.
        anchor_sizes: Height and width of the anchors in cells; those of the kernels by default.
        fcb: Feature calibration for boxes of the branches ``'cls'``, ``'mask'`` and ``'track'``:
            ``'ada'``, ``'ali'`` or None (also where left out); see :class:`CalibratedPrediction`.
        num_tower_convs: Convolutions of a tower.
        num_coeffs: M, number of prototypes.
        embed_dims: D.
        bbox_coder: Config of the box coder; by default SSD's with variances 0.1 and 0.2, which is
            MMDetection's ``DeltaXYWHBBoxCoder`` but for the clip at a scale of 62.
        centerness_order: The order in which the centerness of a level's anchors is read.
            ``'kernel'``: all positions of the first kernel, then of the second ..., although
            everything else runs position by position. The released models are trained with that
            mix-up and need it. ``'position'``: as everything else.
        init_cfg: Initialisation config.

    Raises:
        ValueError: If an argument has a value that is not listed.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 256,
        feat_channels: int = 256,
        kernel_sizes: Sequence[Sequence[int]] = ((3, 3), (3, 5), (5, 3)),
        anchor_sizes: Sequence[Sequence[float]] | None = None,
        fcb: dict[str, str | None] | None = None,
        num_tower_convs: int = 2,
        num_coeffs: int = 32,
        embed_dims: int = 128,
        bbox_coder: dict | None = None,
        centerness_order: str = "kernel",
        init_cfg: dict | None = None,
    ) -> None:
        if init_cfg is None:
            init_cfg = dict(type="Xavier", layer="Conv2d", distribution="uniform")
        super().__init__(init_cfg)
        anchor_sizes = kernel_sizes if anchor_sizes is None else anchor_sizes
        fcb = fcb or {}
        _check_choices(kernel_sizes, anchor_sizes, fcb, centerness_order)
        self.num_classes = num_classes
        self.anchor_sizes = tuple(map(tuple, anchor_sizes))
        self.centerness_order = centerness_order
        self.bbox_coder = TASK_UTILS.build(
            bbox_coder
            or dict(type="DeltaXYWHBBoxCoder", target_stds=[0.1, 0.1, 0.2, 0.2], clip_border=False)
        )
        self.shared_conv = ConvModule(in_channels, feat_channels, 3, padding=1)

        def tower() -> nn.Sequential:
            return nn.Sequential(
                *(
                    ConvModule(feat_channels, feat_channels, 3, padding=1)
                    for _ in range(num_tower_convs)
                )
            )

        def layers(out_channels: int, mode: str | None = None) -> nn.ModuleList:
            if mode is None:
                # 'same' also pads kernels with an even side, on the right and below.
                return nn.ModuleList(
                    nn.Conv2d(feat_channels, out_channels, tuple(kernel), padding="same")
                    for kernel in kernel_sizes
                )
            return nn.ModuleList(
                CalibratedPrediction(
                    feat_channels, out_channels, kernel, anchor, mode, self.bbox_coder.stds
                )
                for kernel, anchor in zip(kernel_sizes, self.anchor_sizes, strict=True)
            )

        self.reg_convs, self.cls_convs = tower(), tower()
        self.mask_convs, self.track_convs = tower(), tower()
        self.reg_preds, self.centerness_preds = layers(4), layers(1)
        self.cls_preds = layers(num_classes + 1, fcb.get("cls"))
        self.mask_preds = layers(num_coeffs, fcb.get("mask"))
        self.track_preds = layers(embed_dims, fcb.get("track"))

    def init_weights(self) -> None:
        """As configured, except that adaptive offsets start at zero.

        Regression is in units of a tenth of an anchor: random offsets would scatter the taps over
        whole cells before anything is learnt (our choice).
        """
        super().init_weights()
        for layer in self.modules():
            if isinstance(layer, CalibratedPrediction) and layer.conv_offset is not None:
                nn.init.zeros_(layer.conv_offset.weight)

    def forward(self, feats: Sequence[Tensor]) -> HeadOutputs:
        """Predict.

        Args:
            feats: Per level (B, C, H_l, W_l).

        Returns:
            Outputs without prototypes.
        """
        features = tuple(self.shared_conv(feat) for feat in feats)
        levels = zip(*(self._predict_level(feature) for feature in features), strict=True)
        deltas, logits, coeffs, embeddings, centerness = (torch.cat(values, 1) for values in levels)
        priors = torch.cat([self._level_priors(feature) for feature in features])
        return HeadOutputs(
            deltas,
            logits,
            coeffs,
            F.normalize(embeddings, dim=-1),
            centerness[..., 0].tanh(),
            priors,
            features,
        )

    def _predict_level(self, feature: Tensor) -> tuple[Tensor, ...]:
        """Regression, logits, coefficients, embeddings and centerness, each (B, H * W * A, d)."""
        reg_x = self.reg_convs(feature)
        deltas = [layer(reg_x) for layer in self.reg_preds]
        centerness = [layer(reg_x) for layer in self.centerness_preds]
        branches = [
            _apply(layers, convs(feature), deltas)
            for convs, layers in (
                (self.cls_convs, self.cls_preds),
                (self.mask_convs, self.mask_preds),
                (self.track_convs, self.track_preds),
            )
        ]
        values = [_by_position(layer_values) for layer_values in (deltas, *branches)]
        if self.centerness_order == "kernel":
            values.append(torch.cat([value.flatten(2).transpose(1, 2) for value in centerness], 1))
        else:
            values.append(_by_position(centerness))
        return tuple(at_least_float32(value) for value in values)

    def _level_priors(self, feature: Tensor) -> Tensor:
        """(H * W * A, 4) anchors of a level, xyxy in fractions of the padded frame."""
        height, width = feature.shape[-2:]
        dtype = at_least_float32(feature[:0]).dtype
        options = dict(device=feature.device, dtype=dtype)
        y = (torch.arange(height, **options) + 0.5) / height
        x = (torch.arange(width, **options) + 0.5) / width
        centres = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], dim=-1)
        sizes = torch.tensor(self.anchor_sizes, **options) / torch.tensor(
            [height, width], **options
        )
        halves = sizes.flip(1) / 2  # width before height
        centres = centres[:, :, None]
        return torch.cat([centres - halves, centres + halves], dim=-1).flatten(0, 2)


def _apply(layers: nn.ModuleList, x: Tensor, deltas: list[Tensor]) -> list[Tensor]:
    """Predictions of a branch, one of each kernel."""
    return [
        layer(x, delta) if isinstance(layer, CalibratedPrediction) else layer(x)
        for layer, delta in zip(layers, deltas, strict=True)
    ]


def _by_position(values: list[Tensor]) -> Tensor:
    """(B, H * W * A, d) from A maps (B, d, H, W): the anchors of a position follow each other."""
    return torch.stack(values, 1).permute(0, 3, 4, 1, 2).flatten(1, 3)


def _check_choices(kernel_sizes, anchor_sizes, fcb, centerness_order) -> None:
    if len(kernel_sizes) != len(anchor_sizes):
        raise ValueError(
            f"each kernel has one anchor, got {len(kernel_sizes)} kernels and "
            f"{len(anchor_sizes)} anchors"
        )
    unknown = set(fcb) - set(BRANCHES)
    if unknown:
        raise ValueError(f"fcb knows the branches {', '.join(BRANCHES)}, not {unknown}")
    if centerness_order not in ("kernel", "position"):
        raise ValueError(f"centerness_order is {centerness_order!r}; choose 'kernel' or 'position'")
