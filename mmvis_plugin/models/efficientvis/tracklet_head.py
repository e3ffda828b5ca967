"""Tracklet queries and proposals, and the stages that refine them.

Source: EfficientVIS, Sec. 3.1.
"""

from dataclasses import dataclass

import torch
from mmcv.cnn.bricks.transformer import MultiheadAttention
from mmdet.models.dense_heads import EmbeddingRPNHead
from mmdet.models.roi_heads.bbox_heads import DIIHead
from mmdet.registry import MODELS
from mmdet.structures.bbox import bbox_cxcywh_to_xyxy
from mmengine.model import BaseModule, ModuleList
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

SELF_ATTENTIONS = ("factorised", "spatial", "temporal", "joint")


@dataclass
class TrackletPredictions:
    """What a stage says of B clips with N tracklets of T frames.

    Attributes:
        logits: (B, N, T, K+1) class logits; the last one is background, "absent in this frame".
        boxes: (B, N, T, 4) refined proposals, xyxy in pixels of the resized frame.
        masks: (B, N, T, m, m) mask logits inside ``mask_boxes``.
        mask_boxes: (B, N, T, 4) the proposals that the stage started from: masks are segmented
            from the RoI features of these.
    """

    logits: Tensor
    boxes: Tensor
    masks: Tensor
    mask_boxes: Tensor


@MODELS.register_module()
class TrackletStage(DIIHead):
    """One iteration of the query-video interaction.

    Extends the head of Sparse R-CNN and QueryInst by time: self-attention of the queries over
    frames, dynamic convolution over frames, a class with background and a box in every frame, and
    a mask from the features of that same convolution. With one frame, still convolution and
    spatial attention it computes what ``DIIHead`` does, with the same parameters. Losses are those
    of :class:`TrackletCriterion`; ``DIIHead``'s are not used.

    Args:
        self_attention: How queries see each other (Table 1a): ``'factorised'`` (FTSA, Eq. 1 and 2:
            over the frames of a tracklet, then over the tracklets of a frame), ``'spatial'``,
            ``'temporal'`` or ``'joint'`` (all frames of all tracklets at once).
        time_shared: One embedding per tracklet for the whole clip (Table 1f). Heads still see the
            features of each frame; their mean over the clip is the next query (our reading).
        mask_head: Config of an ``FCNMaskHead``, class-agnostic.
        num_heads: Heads of the self-attentions.
        in_channels: C.
        dropout: Of the self-attentions, the dynamic convolution and the FFN.
        **kwargs: Of ``DIIHead``; ``dynamic_conv_cfg`` is that of a :class:`TemporalDynamicConv`.

    Raises:
        ValueError: If there is no such self-attention, or masks are not class-agnostic.
    """

    def __init__(
        self,
        mask_head: dict,
        self_attention: str = "factorised",
        time_shared: bool = False,
        num_heads: int = 8,
        in_channels: int = 256,
        dropout: float = 0.0,
        **kwargs,
    ) -> None:
        super().__init__(num_heads=num_heads, in_channels=in_channels, dropout=dropout, **kwargs)
        if self_attention not in SELF_ATTENTIONS:
            raise ValueError(
                f"self_attention is {self_attention!r}; choose one of {', '.join(SELF_ATTENTIONS)}"
            )
        self.self_attention = self_attention
        self.time_shared = time_shared
        if self_attention in ("factorised", "temporal"):
            self.temporal_attention = MultiheadAttention(in_channels, num_heads, dropout)
            self.temporal_attention_norm = nn.LayerNorm(in_channels)
        if self_attention == "temporal":
            del self.attention, self.attention_norm
        self.mask_head = MODELS.build(mask_head)
        if not self.mask_head.class_agnostic:
            raise ValueError(
                "a tracklet has one mask in a frame, whatever its class: set class_agnostic=True "
                "in mask_head"
            )

    def init_weights(self) -> None:
        """As ``DIIHead``, except that an untrained stage leaves the proposals as they are.

        Otherwise they jump by half a frame at random, and the first steps of training go into
        bringing them back (our choice).
        """
        super().init_weights()
        nn.init.zeros_(self.fc_reg.weight)
        nn.init.zeros_(self.fc_reg.bias)

    def attend(self, queries: Tensor, valid: Tensor | None = None) -> Tensor:
        """Self-attention of the queries, Eq. 1 and 2, each with its shortcut and norm.

        Args:
            queries: (B, N, T, C).
            valid: (B, T) bool, False in frames that only pad a clip; they are not attended to.
                None where all are frames.

        Returns:
            (B, N, T, C).
        """
        batch, num_queries, num_frames = queries.shape[:3]
        ignored = None if valid is None else ~valid
        if self.self_attention in ("factorised", "temporal"):
            mask = None if valid is None else ignored.repeat_interleave(num_queries, 0)
            tracklets = _attend(
                self.temporal_attention, self.temporal_attention_norm, queries.flatten(0, 1), mask
            )
            queries = tracklets.unflatten(0, (batch, num_queries))
        if self.self_attention in ("factorised", "spatial"):
            frames = queries.transpose(1, 2).flatten(0, 1)
            frames = _attend(self.attention, self.attention_norm, frames)
            queries = frames.unflatten(0, (batch, num_frames)).transpose(1, 2)
        if self.self_attention == "joint":
            mask = None if valid is None else ignored.repeat(1, num_queries)
            joint = _attend(self.attention, self.attention_norm, queries.flatten(1, 2), mask)
            queries = joint.unflatten(1, (num_queries, num_frames))
        return queries

    def interact(
        self, queries: Tensor, rois: Tensor, valid: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Queries with each other, then with the video.

        Args:
            queries: (B, N, T, C).
            rois: (B, N, T, C, S, S) features in the proposals.
            valid: See :meth:`attend`.

        Returns:
            (B, N, T, C) features of the tracklets in each frame, from which class, box and the
            next query follow, and (B, N, T, C, S, S) tracklet features o, from which the mask does.
        """
        if self.time_shared:
            # All frames bring the same embedding; one of them stands for the clip.
            queries = self.attend(queries[:, :, :1]).expand(-1, -1, rois.shape[2], -1)
        else:
            queries = self.attend(queries, valid)
        tracklet_features = self.instance_interactive_conv(queries, rois, valid)
        projected = self.instance_interactive_conv.project(tracklet_features)
        features = queries + self.instance_interactive_conv_dropout(projected)
        features = self.ffn_norm(self.ffn(self.instance_interactive_conv_norm(features)))
        return features, tracklet_features

    def next_queries(self, features: Tensor, valid: Tensor | None = None) -> Tensor:
        """Queries of the next stage.

        Args:
            features: (B, N, T, C) of :meth:`interact`.
            valid: See :meth:`attend`.

        Returns:
            (B, N, T, C).
        """
        if not self.time_shared:
            return features
        return mean_over_time(features, valid)[:, :, None].expand_as(features)

    def refine(self, features: Tensor, boxes: Tensor) -> Tensor:
        """Proposals of the next stage.

        Args:
            features: (B, N, T, C) of :meth:`interact`.
            boxes: (B, N, T, 4) the stage's proposals, xyxy.

        Returns:
            (B, N, T, 4) float32, not clipped to the frame.
        """
        for layer in self.reg_fcs:
            features = layer(features)
        deltas = self.fc_reg(features).float()
        refined = self.bbox_coder.decode(boxes.flatten(0, 2).float(), deltas.flatten(0, 2))
        return refined.view_as(boxes)

    def classify(self, features: Tensor) -> Tensor:
        """(B, N, T, K+1) class logits, float32, from (B, N, T, C) of :meth:`interact`."""
        for layer in self.cls_fcs:
            features = layer(features)
        return self.fc_cls(features).float()

    def segment(self, tracklet_features: Tensor) -> Tensor:
        """(B, N, T, m, m) mask logits, float32, from (B, N, T, C, S, S) of :meth:`interact`."""
        masks = self.mask_head(tracklet_features.flatten(0, 2))[:, 0].float()
        return masks.unflatten(0, tracklet_features.shape[:3])


def _attend(
    attention: MultiheadAttention, norm: nn.Module, x: Tensor, ignored: Tensor | None = None
) -> Tensor:
    """Attention over the second axis of (B, L, C) with shortcut and norm; MMDetection's is L first.

    ``ignored`` is (B, L) bool: keys to leave out.
    """
    return norm(attention(x.transpose(0, 1), key_padding_mask=ignored)).transpose(0, 1)


def mean_over_time(queries: Tensor, valid: Tensor | None = None) -> Tensor:
    """Mean of (B, N, T, C) over the frames that are ``valid``, (B, T) bool: (B, N, C)."""
    if valid is None:
        return queries.mean(2)
    weights = valid / valid.sum(1, keepdim=True)
    return (queries * weights[:, None, :, None]).sum(2)


@MODELS.register_module()
class TrackletHead(BaseModule):
    """Learned tracklet queries and proposals, and the M stages that refine them on a clip.

    The learned ones, q* and b*, are MMDetection's ``EmbeddingRPNHead``: one embedding and one box
    per tracklet, the box that of the whole frame before training.

    Args:
        num_queries: N.
        num_stages: M.
        roi_extractor: Config of a RoI extractor with S x S cells.
        stage: Config of a :class:`TrackletStage`; all stages are alike and have their own weights.
        with_cp: Compute the activations of a stage anew in the backward pass to save memory.
        init_cfg: Initialisation config.
    """

    def __init__(
        self,
        num_queries: int,
        num_stages: int,
        roi_extractor: dict,
        stage: dict,
        with_cp: bool = False,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.roi_extractor = MODELS.build(roi_extractor)
        self.stages = ModuleList(MODELS.build(stage) for _ in range(num_stages))
        self.tracklets = EmbeddingRPNHead(num_queries, self.stages[0].in_channels)
        self.with_cp = with_cp

    @property
    def initial_queries(self) -> Tensor:
        """(N, C) q*."""
        return self.tracklets.init_proposal_features.weight

    def initial_proposals(self, image_sizes: Tensor) -> Tensor:
        """b* for images of different sizes.

        Args:
            image_sizes: (B, 2) height and width in pixels.

        Returns:
            (B, N, 4) xyxy in pixels.
        """
        boxes = bbox_cxcywh_to_xyxy(self.tracklets.init_proposal_bboxes.weight)
        return boxes * image_sizes.flip(1).repeat(1, 2)[:, None]

    def forward(
        self,
        x: tuple[Tensor, ...],
        queries: Tensor,
        image_sizes: Tensor,
        valid: Tensor | None = None,
    ) -> tuple[list[TrackletPredictions], Tensor]:
        """Refine queries and proposals on B clips of T frames.

        Args:
            x: Feature maps (B * T, C, H_l, W_l), the frames of a clip one after another.
            queries: (B, N, C) what the clips start from: q*, or the mean of the queries that came
                out of the clip before.
            image_sizes: (B, 2) height and width in pixels.
            valid: (B, T) bool, False in frames that only pad a clip; None where all are frames.

        Returns:
            The predictions, in training of every stage, else of the last one; and (B, N, T, C)
            queries.
        """
        num_frames = len(x[0]) // len(queries)
        queries = queries[:, :, None].expand(-1, -1, num_frames, -1)
        boxes = self.initial_proposals(image_sizes)[:, :, None].expand(-1, -1, num_frames, -1)
        predictions = []
        for stage in self.stages:
            predicts = self.training or stage is self.stages[-1]
            arguments = stage, x, queries, boxes, valid, predicts
            if self.with_cp and self.training:
                outputs = checkpoint(self._run_stage, *arguments, use_reentrant=False)
            else:
                outputs = self._run_stage(*arguments)
            queries, refined, logits, masks = outputs
            if predicts:
                predictions.append(TrackletPredictions(logits, refined, masks, boxes))
            boxes = refined.detach()  # each stage learns its own step, as in Sparse R-CNN
        return predictions, queries

    def _run_stage(
        self,
        stage: TrackletStage,
        x: tuple[Tensor, ...],
        queries: Tensor,
        boxes: Tensor,
        valid: Tensor | None,
        predicts: bool,
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        """Queries and boxes of the next stage; class and mask logits where the stage predicts."""
        features, tracklet_features = stage.interact(queries, self._roi_features(x, boxes), valid)
        refined = stage.refine(features, boxes)
        queries = stage.next_queries(features, valid)
        if not predicts:
            return queries, refined, None, None
        return queries, refined, stage.classify(features), stage.segment(tracklet_features)

    def _roi_features(self, x: tuple[Tensor, ...], boxes: Tensor) -> Tensor:
        """(B, N, T, C, S, S) features in (B, N, T, 4) boxes, each in its own frame."""
        batch, _, num_frames = boxes.shape[:3]
        frames = torch.arange(batch * num_frames, device=boxes.device).view(batch, 1, -1, 1)
        rois = torch.cat([frames.expand_as(boxes[..., :1]).to(boxes.dtype), boxes], dim=-1)
        features = self.roi_extractor(x[: self.roi_extractor.num_inputs], rois.flatten(0, 2))
        return features.unflatten(0, boxes.shape[:3])
