"""EfficientVIS: a query is an identity, from the first clip of a video to the last.

Source: Wu et al., "Efficient Video Instance Segmentation via Tracklet Query and Proposal",
CVPR 2022.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from mmdet.registry import MODELS, TASK_UTILS
from mmdet.structures import DetDataSample, TrackDataSample
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch import Tensor

from mmvis_plugin.ytvis.rle import encode_masks

from ..layers.clip_targets import clip_targets, cut_clips, sample_instances
from ..video_segmentor import StreamState, VideoSegmentor, tracked_frame
from .linking import ClipTracklets, HandCraftLinks, QueryLinks, carried_queries
from .tracklet_head import TrackletPredictions, mean_over_time


@dataclass(kw_only=True)
class EfficientVISState(StreamState):
    """A running video.

    Attributes:
        links: What the next clip starts from, and the identities.
        frames: Frames of the clip that is being filled, each (3, H, W).
        metas: Their metainfo.
        scores: For each track the (K,) sum of its class probabilities over the frames in which it
            is present.
        num_present: For each track the number of these frames.
    """

    links: QueryLinks | HandCraftLinks
    frames: list[Tensor] = field(default_factory=list)
    metas: list[dict] = field(default_factory=list)
    scores: dict[int, Tensor] = field(default_factory=dict)
    num_present: dict[int, int] = field(default_factory=dict)


@MODELS.register_module()
class EfficientVIS(VideoSegmentor):
    """Video instance segmentation clip by clip, end to end over the whole video.

    A clip is segmented by N tracklet queries in M stages. The queries that come out, averaged over
    time, are those that the next clip starts from, so that a query stays with its instance.

    A track's class is the one with the largest mean probability over the frames in which the
    track is present, its score that mean. Where background is the most probable, the track has no
    mask in a frame (our readings).

    Args:
        backbone: Config of the backbone, which runs frame by frame.
        neck: Config of the FPN.
        tracklet_head: Config of a :class:`TrackletHead`.
        criterion: Config of a :class:`TrackletCriterion`.
        clip_length: T. Training samples hold one clip of T frames, or two of the same video
            (``ClipSample``).
        linking: Config of :class:`QueryLinking` (the method) or :class:`HandCraftLinking` (the
            comparison of Table 1d).
        late_share: Share of the objects in the first clip of a pair that training treats as if
            they entered in the second one: their queries are set to q* between the clips, so that
            free queries learn to take up objects beside queries that hold one (our reading).
        frames_per_batch: Frames that go through the backbone together at test time.
        mask_threshold: Probability from which a pixel belongs to the mask.
        data_preprocessor: Config of a ``TrackDataPreprocessor``.
        init_cfg: Initialisation config.

    Raises:
        ValueError: ``clip_length`` is not positive, or ``late_share`` is not in [0, 1].
    """

    def __init__(
        self,
        backbone: dict,
        neck: dict,
        tracklet_head: dict,
        criterion: dict,
        clip_length: int = 36,
        linking: dict | None = None,
        late_share: float = 0.2,
        frames_per_batch: int = 9,
        mask_threshold: float = 0.5,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        if clip_length < 1:
            raise ValueError(f"clip_length must be at least 1, got {clip_length}")
        self.backbone = MODELS.build(backbone)
        self.neck = MODELS.build(neck)
        self.tracklet_head = MODELS.build(tracklet_head)
        self.criterion = MODELS.build(criterion)
        self.linking = TASK_UTILS.build(linking or dict(type="QueryLinking"))
        if not 0 <= late_share <= 1:
            raise ValueError(f"late_share must be in [0, 1], got {late_share}")
        self.clip_length = clip_length
        self.late_share = late_share
        self.frames_per_batch = frames_per_batch
        self.mask_threshold = mask_threshold

    # --- training -----------------------------------------------------------------------------

    def loss(self, inputs: Tensor, data_samples: list[TrackDataSample]) -> dict[str, Tensor]:
        """Losses of every stage on every clip; the second clip goes on where the first one ends.

        As at test time, queries that hold no instance are q* in the second clip.

        Args:
            inputs: (B, T or 2T, 3, H, W) normalised frames of one or two clips.
            data_samples: B samples; frames that only pad a clip say ``is_padding`` in their
                metainfo and end it.

        Returns:
            ``clip1.s0.loss_cls`` and so on.

        Raises:
            ValueError: If the frames do not make whole clips.
        """
        batch, num_frames = inputs.shape[:2]
        if num_frames % self.clip_length:
            raise ValueError(
                f"samples of {num_frames} frames do not make clips of {self.clip_length}: set "
                "clip_length of the model and of ClipSample in the pipeline alike"
            )
        instances = [sample_instances(sample) for sample in data_samples]
        image_sizes = inputs.new_tensor([sample[0].img_shape[:2] for sample in data_samples])
        queries = self.tracklet_head.initial_queries.expand(batch, -1, -1)
        losses, known = {}, None
        for first in range(0, num_frames, self.clip_length):
            clips, real = cut_clips(data_samples, first, self.clip_length)
            length = real.shape[1]
            valid = None if real.all() else real.to(inputs.device)
            if known is not None:
                known = forget(known, self.late_share)
                initial = self.tracklet_head.initial_queries
                queries = carried_queries(queries, holding(known, len(initial)), initial)
            x = self.extract_feat(inputs[:, first : first + length].flatten(0, 1))
            predictions, queries = self.tracklet_head(x, queries, image_sizes, valid)
            queries = mean_over_time(queries, valid)
            targets = [
                clip_targets(clip, *instances[b], real[b], inputs.shape[-2:])
                for b, clip in enumerate(clips)
            ]
            # Sums over frames and pixels would lose by 16 bits.
            with torch.autocast(inputs.device.type, enabled=False):
                clip_losses, known = self._clip_loss(
                    predictions, targets, image_sizes, valid, known
                )
            number = first // self.clip_length + 1
            losses |= {f"clip{number}.{name}": loss for name, loss in clip_losses.items()}
        return losses

    def _clip_loss(
        self,
        predictions: list[TrackletPredictions],
        targets: list[InstanceData],
        image_sizes: Tensor,
        valid: Tensor | None,
        known: list[Tensor] | None,
    ) -> tuple[dict[str, Tensor], list[Tensor]]:
        """Losses of the stages of a clip, and the query of each instance after it.

        Each stage is matched by itself, as in Sparse R-CNN. The last stage's assignment is the one
        that the next clip is trained with, as its queries are those that go there (our reading).
        """
        losses = {}
        for number, stage in enumerate(predictions):
            assignments = self.criterion.assign(stage, targets, image_sizes, valid, known)
            stage_losses = self.criterion(stage, targets, assignments, image_sizes, valid)
            losses |= {f"s{number}.{name}": loss for name, loss in stage_losses.items()}
        return losses, assignments

    def extract_feat(self, frames: Tensor) -> tuple[Tensor, ...]:
        """Feature maps of (F, 3, H, W) frames, each by itself."""
        return self.neck(self.backbone(frames))

    # --- streaming ----------------------------------------------------------------------------

    def start_video(self, meta: dict) -> EfficientVISState:
        """Begin a video; see :class:`VideoSegmentor`."""
        queries = self.tracklet_head.initial_queries.detach()
        return EfficientVISState(meta, links=self.linking.start(queries))

    def take_frame(
        self, state: EfficientVISState, frame: Tensor, meta: dict
    ) -> list[DetDataSample]:
        """Frames are final when their clip is full; see :class:`VideoSegmentor`."""
        state.frames.append(frame)
        state.metas.append(meta)
        return self._close_clip(state) if len(state.frames) == self.clip_length else []

    def last_frames(self, state: EfficientVISState) -> tuple[list[DetDataSample], InstanceData]:
        """The last clip, which may be a short one, and the tracks of the video."""
        final = self._close_clip(state) if state.frames else []
        ids = sorted(state.scores)
        means = [state.scores[track] / state.num_present[track] for track in ids]
        best = (torch.stack(means) if means else torch.zeros(0, 1)).max(1)
        return final, InstanceData(
            instances_id=torch.tensor(ids, dtype=torch.long),
            labels=best.indices,
            scores=best.values,
        )

    def _close_clip(self, state: EfficientVISState) -> list[DetDataSample]:
        """Segment the frames held, and hand the queries on to the next clip."""
        clip = self.segment(torch.stack(state.frames), state.metas, state.links.queries)
        ids = self.linking.link(state.links, clip)
        state.frames, state.metas = [], []
        self._count(state, clip, ids)
        labels = track_labels(state, ids)
        return [final_frame(clip, ids, labels, t) for t in range(len(clip.metas))]

    def segment(self, frames: Tensor, metas: Sequence[dict], queries: Tensor) -> ClipTracklets:
        """Segment one clip.

        Args:
            frames: (T, 3, H, W) resized, normalised and padded.
            metas: T dicts, likewise.
            queries: (N, C) what the clip starts from.

        Returns:
            Its tracklets, which ``self.linking`` gives their identities.
        """
        batches = [self.extract_feat(batch) for batch in frames.split(self.frames_per_batch)]
        x = tuple(torch.cat(level) for level in zip(*batches, strict=True))
        del batches  # the same features again
        image_sizes = frames.new_tensor([metas[0]["img_shape"][:2]])
        predictions, queries = self.tracklet_head(x, queries[None], image_sizes)
        probabilities = predictions[-1].logits[0].softmax(-1)
        present = probabilities.argmax(-1) < probabilities.shape[-1] - 1
        present &= inside(predictions[-1].mask_boxes[0], metas[0]["img_shape"])
        masks = []
        for t, meta in enumerate(metas):
            rows = present[:, t].nonzero()[:, 0]
            pasted = self._paste(predictions[-1], rows, t, meta)
            present[rows, t] = pasted.flatten(1).any(1)
            masks.append(dict(zip(rows.tolist(), encode_masks(pasted), strict=True)))
        boxes = [to_original(predictions[-1].boxes[0, :, t], meta) for t, meta in enumerate(metas)]
        return ClipTracklets(
            metas=list(metas),
            queries=mean_over_time(queries)[0].float(),
            probabilities=probabilities.cpu(),
            present=present.cpu(),
            boxes=torch.stack(boxes, 1).cpu(),
            masks=masks,
        )

    def _paste(self, predictions: TrackletPredictions, rows: Tensor, t: int, meta: dict) -> Tensor:
        """(R, H, W) bool masks of R tracklets in frame t at its original size."""
        instances = InstanceData(
            bboxes=predictions.mask_boxes[0, rows, t].clone(),
            labels=torch.zeros_like(rows),
        )
        mask_head = self.tracklet_head.stages[-1].mask_head
        logits = predictions.masks[0, rows, t][:, None]
        settings = ConfigDict(mask_thr_binary=self.mask_threshold)
        return mask_head.predict_by_feat((logits,), [instances], [meta], settings, rescale=True)[
            0
        ].masks

    def _count(self, state: EfficientVISState, clip: ClipTracklets, ids: Tensor) -> None:
        """Add a clip to what its tracks' classes and scores are the means of."""
        present = clip.present.sum(1)
        totals = (clip.probabilities[..., :-1] * clip.present[..., None]).sum(1)
        for query in present.nonzero()[:, 0].tolist():
            track = int(ids[query])
            state.scores[track] = state.scores.get(track, 0) + totals[query]
            state.num_present[track] = state.num_present.get(track, 0) + int(present[query])


def forget(known: list[Tensor], share: float) -> list[Tensor]:
    """Take the queries of some objects away, each with probability ``share``.

    Args:
        known: Per clip (G,) query of each object, -1 for none.
        share: In [0, 1].

    Returns:
        The same with -1 for the objects that are forgotten.
    """
    chosen = [torch.rand(len(queries)).to(queries.device) < share for queries in known]
    return [queries.masked_fill(c, -1) for queries, c in zip(known, chosen, strict=True)]


def holding(known: list[Tensor], num_queries: int) -> Tensor:
    """(B, N) bool, which queries hold an object, from B times (G,) ``known`` queries."""
    held = torch.zeros(len(known), num_queries, dtype=torch.bool, device=known[0].device)
    for row, queries in zip(held, known, strict=True):
        row[queries[queries >= 0]] = True
    return held


def track_labels(state: EfficientVISState, ids: Tensor) -> Tensor:
    """(N,) classes, so far, of the tracks with the (N,) ``ids``; -1 for those that are none."""
    labels = [
        int(state.scores[track].argmax()) if track in state.scores else -1 for track in ids.tolist()
    ]
    return torch.tensor(labels, dtype=torch.long)


def final_frame(clip: ClipTracklets, ids: Tensor, labels: Tensor, t: int) -> DetDataSample:
    """Frame t of a clip, with the (N,) identities and classes of its tracklets."""
    rows = clip.present[:, t].nonzero()[:, 0]
    return tracked_frame(
        clip.metas[t],
        clip.boxes[rows, t],
        labels[rows],
        clip.probabilities[rows, t, labels[rows]],
        ids[rows],
        [clip.masks[t][query] for query in rows.tolist()],
    )


def inside(boxes: Tensor, size: tuple[int, ...]) -> Tensor:
    """Whether a part of each (..., 4) xyxy box is inside a frame of ``size`` (H, W); (...) bool.

    A box need not be: nothing teaches it where the object is absent.
    """
    low, high = boxes.clamp(min=0)[..., :2], boxes[..., 2:]
    return ((torch.minimum(high, high.new_tensor(size[1::-1])) - low) > 0).all(-1)


def to_original(boxes: Tensor, meta: dict) -> Tensor:
    """(N, 4) boxes of the resized frame in pixels of the original one, cut off at its border."""
    height, width = meta["ori_shape"][:2]
    boxes = boxes / boxes.new_tensor(meta["scale_factor"]).repeat(2)
    limits = boxes.new_tensor([width, height, width, height])
    return torch.minimum(boxes.clamp(min=0), limits)
