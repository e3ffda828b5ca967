"""The mask propagation head of MaskProp, and optical flow in its place.

Source: Bertasius & Torresani, "Classifying, Segmenting, and Tracking Object Instances in Video
with Mask Propagation", CVPR 2020, section 3 (instance features, propagation, segmentation).
"""

from collections.abc import Sequence

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmcv.ops import DeformConv2d
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn

from ..layers.precision import at_least_float32
from ..layers.soft_iou import soft_iou
from ..layers.tap_grid import tap_grid

COMPETITIONS = ("softmax", "softmax_or_none", "sigmoid")


class ResidualBlock(BaseModule):
    """Two 3 x 3 convolutions and a skip connection.

    Args:
        channels: Channels of input and output.
        dilation: Distance in cells between the taps of the convolutions.
        norm_cfg: Config of the normalisation.
    """

    def __init__(self, channels: int, dilation: int, norm_cfg: dict) -> None:
        super().__init__()
        shape = dict(padding=dilation, dilation=dilation, norm_cfg=norm_cfg)
        self.conv1 = ConvModule(channels, channels, 3, **shape)
        self.conv2 = ConvModule(channels, channels, 3, act_cfg=None, **shape)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        return F.relu(x + self.conv2(self.conv1(x)))


@MODELS.register_module()
class PropagationHead(BaseModule):
    """Propagates instance masks from the key frame of a clip to its other frames.

    The feature tensor f_t is the mean of several FPN levels brought to one resolution, reduced by
    a 1 x 1 convolution. The paper's slides say "feature tensor from the backbone network"; levels,
    resolution and channels are our reading: fine levels carry the outline; coarse ones, whose
    cells see farther, let the small kernels of the residual block see large motion in the
    difference of two frames. The block is dilated for the same end: with a dilation of 3 an offset
    is predicted from 7 cells to either side. At stride 8 and 128 channels a running video keeps 13
    frames of 360 x 640 in 13 x 128 x 48 x 80 float32 = 24 MiB.

    Args:
        in_channels: Channels of the FPN levels.
        in_strides: Strides of the levels that are used; the first levels of the FPN.
        stride: Stride of the common resolution, one of ``in_strides``.
        channels: C, channels of f_t.
        kernel_size: k, of the deformable convolution.
        dilation: Of the residual block that sees the motion.
        competition: How the logits z_i of a clip's instances and the attention map A become masks.

            - ``'softmax'``: ``A * softmax_i(z_i)``, over the instances detected in the key frame.
              With one instance the mask is A alone, which covers every object of the frame.
            - ``'softmax_or_none'``: the same with a constant zero logit in the softmax, which
              takes the objects that are none of the instances.
            - ``'sigmoid'``: ``sigmoid(w (A phi) + b)``: instances do not compete, and A scales
              logits, so that it zeroes no pixel.

            The slides say that A zeroes the pixels of no object and leave the form open. Our
            reading is the softmax.
        norm_cfg: Config of the normalisation; group normalisation of 32 groups by default, since
            clips make small batches.
        loss_weight: Weight of the propagation loss.
        init_cfg: Initialisation config.

    Raises:
        ValueError: ``stride`` or ``competition`` is not one of the choices.
    """

    def __init__(
        self,
        in_channels: int = 256,
        in_strides: Sequence[int] = (4, 8, 16, 32),
        stride: int = 8,
        channels: int = 128,
        kernel_size: int = 3,
        dilation: int = 3,
        competition: str = "softmax",
        norm_cfg: dict | None = None,
        loss_weight: float = 1.0,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if stride not in in_strides:
            raise ValueError(f"stride is {stride}; choose one of the levels' {tuple(in_strides)}")
        if competition not in COMPETITIONS:
            raise ValueError(f"competition is {competition!r}; choose one of {COMPETITIONS}")
        norm_cfg = norm_cfg or dict(type="GN", num_groups=32)
        self.competition = competition
        self.in_strides = tuple(in_strides)
        self.stride = stride
        self.loss_weight = loss_weight
        self.reduce = ConvModule(in_channels, channels, 1, norm_cfg=norm_cfg)
        self.motion = ResidualBlock(channels, dilation, norm_cfg)
        padding = kernel_size // 2
        self.offset = nn.Conv2d(channels, 2 * kernel_size**2, 3, padding=1)
        self.deform = DeformConv2d(channels, channels, kernel_size, padding=padding)
        self.attention = nn.Conv2d(channels, 1, 3, padding=1)
        self.predict = nn.Conv2d(channels, 1, 1)

    def init_weights(self) -> None:
        """Start from no motion, as deformable convolutions do."""
        super().init_weights()
        nn.init.zeros_(self.offset.weight)
        nn.init.zeros_(self.offset.bias)

    def frame_features(self, x: Sequence[Tensor], frames: Tensor) -> Tensor:
        """f_t: what a running video keeps of each frame.

        Args:
            x: FPN levels (B, C_in, H_l, W_l).
            frames: (B, 3, H, W) the normalised frames; not used.

        Returns:
            (B, C, H / stride, W / stride).
        """
        levels = x[: len(self.in_strides)]
        size = levels[self.in_strides.index(self.stride)].shape[-2:]
        resized = [
            F.adaptive_avg_pool2d(level, size)
            if level.shape[-1] > size[-1]
            else F.interpolate(level, size, mode="bilinear", align_corners=False)
            for level in levels
        ]
        return self.reduce(torch.stack(resized).mean(0))

    def motion_offsets(self, key: Tensor, frames: Tensor) -> Tensor:
        """O_{t,t+d}: from the difference of the frame pair, the same for all instances.

        Args:
            key: (K, C, H, W) features of the key frames.
            frames: (K, T, C, H, W) features of the frames of their clips.

        Returns:
            (K, T, 2k^2, H, W) in cells.
        """
        difference = (key[:, None] - frames).flatten(0, 1)
        return self.offset(self.motion(difference)).unflatten(0, frames.shape[:2])

    def forward(self, key: Tensor, frames: Tensor, masks: Tensor, clip_inds: Tensor) -> Tensor:
        """Mask logits of every instance in every frame of its clip.

        The paper's steps are a deformable convolution ``g = sum_k W_k f_t^i(p + p_k + o_k)``, the
        sum ``phi = g + f_{t+d}`` and a 1 x 1 convolution ``z = w phi + b``. All are linear in g,
        so that w can be taken into the sum: with the k^2 maps ``s_k = w W_k f_t`` of the key
        frame, which all instances share, ``z = sum_k (M_i s_k)(p + p_k + o_k) + w f_{t+d} + b``.
        One value is sampled per tap where the plain order samples C; the result is the same
        (:meth:`propagated_features` and the tests have the plain order).

        Args:
            key: (K, C, H, W) features of the key frames.
            frames: (K, T, C, H, W) features of the frames of their clips, key frames included.
            masks: (N, H, W) soft masks M_t^i in the key frames, in [0, 1].
            clip_inds: (N,) clip of each instance, in [0, K), ascending.

        Returns:
            (N, T, H, W) logits of the masks, after attention and competition.
        """
        if len(masks) == 0:
            return masks.new_zeros(0, frames.shape[1], *masks.shape[1:])
        offsets = self.motion_offsets(key, frames)
        attention = self.attention(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])
        attention = at_least_float32(attention)[clip_inds, :, 0]
        weight = self.predict.weight[0, :, 0, 0]
        taps = torch.einsum("c,cdij->ijd", weight, self.deform.weight).flatten(0, 1)
        maps = F.conv2d(key, taps[:, :, None, None])  # (K, k^2, H, W)
        slots = _slots(clip_inds, len(key))
        num_slots = int(slots.max()) + 1

        def by_clip(values: Tensor, absent: float) -> Tensor:  # (N, ...) to (K, S, ...)
            padded = values.new_full((len(key), num_slots, *values.shape[1:]), absent)
            padded[clip_inds, slots] = values
            return padded

        propagated = self._sample(maps, offsets, by_clip(masks, 0))[clip_inds, :, slots]
        scene = torch.einsum("c,ktchw->kthw", weight, frames)
        logits = propagated + scene[clip_inds]
        if self.competition == "sigmoid":
            return attention.sigmoid() * logits + self.predict.bias
        logits = at_least_float32(logits + self.predict.bias)
        shares = logits - self._rivals(by_clip(logits, -torch.inf))[clip_inds]
        return _logit_of(F.logsigmoid(attention) + shares)

    def _rivals(self, logits: Tensor) -> Tensor:
        """Denominators of the softmax over the instances of each clip, as logarithms.

        Args:
            logits: (K, S, T, H, W) z_i of the S places of each clip, -inf where one is empty.

        Returns:
            (K, T, H, W).
        """
        if self.competition == "softmax_or_none":
            logits = torch.cat([logits, torch.zeros_like(logits[:, :1])], dim=1)
        # A clip without instances has no denominator, and none is asked for.
        has_any = torch.isfinite(logits).any(1, keepdim=True)
        return torch.where(has_any, logits, torch.zeros_like(logits)).logsumexp(1)

    def _sample(self, maps: Tensor, offsets: Tensor, masks: Tensor) -> Tensor:
        """``sum_k (M_i s_k)(p + p_k + o_k)``, bilinearly, zero outside.

        The instances of a clip share the sampling grids, so they are the channels of one call.

        Args:
            maps: (K, k^2, H, W) s_k.
            offsets: (K, T, 2k^2, H, W) in cells, y before x for each tap.
            masks: (K, S, H, W) M_i of the S places of each clip, 0 where one is empty.

        Returns:
            (K, T, S, H, W).
        """
        num_clips, num_taps = maps.shape[:2]
        num_frames = offsets.shape[1]
        instances = masks[:, None] * maps[:, :, None]  # (K, k^2, S, H, W)
        instances = instances[:, None].expand(-1, num_frames, -1, -1, -1, -1)
        # Positions would be rounded to half a cell by 16 bits.
        offsets = at_least_float32(offsets).unflatten(2, (num_taps, 2))
        grid = tap_grid(offsets, self.deform.kernel_size)
        sampled = F.grid_sample(
            instances.flatten(0, 2).float(), grid.flatten(0, 2).float(), align_corners=False
        )
        return sampled.unflatten(0, (num_clips, num_frames, num_taps)).sum(2)

    def propagated_features(self, key: Tensor, frames: Tensor, masks: Tensor) -> Tensor:
        """g^i_{t,t+d} itself, in the paper's order of steps, to look at (slides, Figure 5).

        Args:
            key: (C, H, W) features of the key frame.
            frames: (T, C, H, W) features of the clip.
            masks: (N, H, W) in [0, 1].

        Returns:
            (N, T, C, H, W).
        """
        num_frames = len(frames)
        offsets = self.motion_offsets(key[None], frames[None])[0]
        instances = (masks[:, None] * key).repeat_interleave(num_frames, dim=0)
        offsets = offsets.repeat(len(masks), 1, 1, 1)
        # mmcv's operator takes only batches that its im2col step divides.
        features = [
            self.deform(x, o) for x, o in zip(instances.split(1), offsets.split(1), strict=True)
        ]
        return torch.cat(features).unflatten(0, (len(masks), num_frames))

    def propagate(self, key: Tensor, frames: Tensor, masks: Tensor) -> Tensor:
        """Soft masks of the instances of one key frame in all frames of its clip.

        Args:
            key: (C, H, W) features of the key frame.
            frames: (T, C, H, W) features of the clip.
            masks: (N, H, W) in [0, 1].

        Returns:
            (N, T, H, W) in [0, 1].
        """
        clip_inds = torch.zeros(len(masks), dtype=torch.long, device=masks.device)
        return self(key[None], frames[None], masks, clip_inds).float().sigmoid()

    def loss(self, logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Propagation loss L_prop.

        It is taken at the resolution of the targets, to which the logits are interpolated as they
        are for the final masks, so that the head learns outlines finer than its grid.

        Args:
            logits: (N, T, H, W) of :meth:`forward`.
            targets: (N, T, H', W') binary ground truth of the instances, float.

        Returns:
            ``loss_prop``, averaged over instances and frames; see :func:`propagation_loss`.
        """
        if len(logits) == 0:
            # Every parameter takes part in every iteration, as distributed training expects.
            return dict(loss_prop=sum(parameter.sum() for parameter in self.parameters()) * 0)
        predicted = F.interpolate(
            logits.float(), targets.shape[-2:], mode="bilinear", align_corners=False
        ).sigmoid()
        return dict(loss_prop=self.loss_weight * propagation_loss(predicted, targets))


def _slots(groups: Tensor, num_groups: int) -> Tensor:
    """(N,) place of each item in its group, from 0, where (N,) ``groups`` ascends."""
    counts = torch.bincount(groups, minlength=num_groups)
    starts = counts.cumsum(0) - counts
    return torch.arange(len(groups), device=groups.device) - starts[groups]


def _logit_of(log_probability: Tensor) -> Tensor:
    """``log(p / (1 - p))`` from ``log(p)``, finite also where p is 1."""
    log_probability = log_probability.clamp(max=-1e-6)
    return log_probability - torch.log(-torch.expm1(log_probability))


def propagation_loss(predicted: Tensor, targets: Tensor) -> Tensor:
    """``mean(1 - sIoU)`` over instances and frames, with a defined value for absent instances.

    Source: the slides' L_prop, there a sum; the mean keeps its weight independent of clip length
    and number of instances. Where the instance is absent from a frame, the target is empty and
    sIoU is 0 whatever is predicted, so that nothing could be learnt. There, our reading is
    ``A / (A + S)`` with A the predicted area and S the mean area of the instance in the frames of
    the clip where it is seen: 0 for an empty prediction, growing with every predicted pixel.

    Args:
        predicted: (N, T, H, W) in [0, 1].
        targets: (N, T, H, W) binary, float.

    Returns:
        Scalar in [0, 1].
    """
    areas = targets.sum((-2, -1))
    present = areas > 0
    seen_area = areas.sum(1, keepdim=True) / present.sum(1, keepdim=True).clamp(min=1)
    predicted_area = predicted.sum((-2, -1))
    absent_loss = predicted_area / (predicted_area + seen_area.clamp(min=1))
    present_loss = 1 - soft_iou(predicted.flatten(2), targets.flatten(2))
    return torch.where(present, present_loss, absent_loss).mean()


@MODELS.register_module()
class FlowPropagation(BaseModule):
    """Propagation by optical flow, the baseline of the paper's Table 3.

    The paper uses FlowNet2; here it is OpenCV's DIS flow, which needs no weights. Masks are warped
    directly from the key frame to each frame of the clip (our reading). It has nothing to learn.

    Args:
        stride: Pixels per cell of the masks. Flow is computed at full resolution.
        preset: Preset of ``cv2.DISOpticalFlow_create``: 0 ultrafast, 1 fast, 2 medium.
        init_cfg: Initialisation config.
    """

    def __init__(
        self,
        stride: int = 4,
        preset: int = cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.stride = stride
        self.preset = preset

    def frame_features(self, x: Sequence[Tensor], frames: Tensor) -> Tensor:
        """Grey pictures, all that flow needs.

        Args:
            x: FPN levels; not used.
            frames: (B, 3, H, W) normalised frames.

        Returns:
            (B, 1, H, W) in [0, 255]; two standard deviations to either side of the mean span it.
        """
        return (frames.mean(1, keepdim=True) * 64 + 128).clamp(0, 255)

    def propagate(self, key: Tensor, frames: Tensor, masks: Tensor) -> Tensor:
        """Soft masks warped to all frames of a clip.

        Args:
            key: (1, H, W) grey key frame.
            frames: (T, 1, H, W) grey frames of the clip.
            masks: (N, H / stride, W / stride) in [0, 1].

        Returns:
            (N, T, H / stride, W / stride) in [0, 1].
        """
        height, width = masks.shape[-2:]
        if len(masks) == 0:
            return masks.new_zeros(0, len(frames), height, width)
        flows = torch.from_numpy(self._flows(key, frames)).to(masks)
        flows = F.avg_pool2d(flows.permute(0, 3, 1, 2), self.stride) / self.stride
        y, x = torch.meshgrid(
            torch.arange(height, device=masks.device, dtype=masks.dtype),
            torch.arange(width, device=masks.device, dtype=masks.dtype),
            indexing="ij",
        )
        grid = torch.stack([x, y], dim=-1) + flows.permute(0, 2, 3, 1)
        grid = (2 * grid + 1) / grid.new_tensor([width, height]) - 1
        warped = F.grid_sample(
            masks[None].expand(len(frames), -1, -1, -1), grid, align_corners=False
        )
        return warped.transpose(0, 1)

    def _flows(self, key: Tensor, frames: Tensor) -> np.ndarray:
        """(T, H, W, 2) displacement in pixels from each frame to the key frame."""
        grey_key = key[0].byte().cpu().numpy()
        algorithm = cv2.DISOpticalFlow_create(self.preset)
        return np.stack(
            [algorithm.calc(grey, grey_key, None) for grey in frames[:, 0].byte().cpu().numpy()]
        )

    def forward(self, key: Tensor, frames: Tensor, masks: Tensor, clip_inds: Tensor) -> Tensor:
        """Mask logits of every instance in every frame of its clip, as :class:`PropagationHead`."""
        clips = [self.propagate(key[k], frames[k], masks[clip_inds == k]) for k in range(len(key))]
        return torch.logit(torch.cat(clips), eps=1e-6)

    def loss(self, logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Nothing to learn: no losses."""
        return {}
