"""MinVIS: an image model whose queries are linked by their embeddings.

Source: Huang, Yu & Anandkumar, "MinVIS: A Minimal Video Instance Segmentation Framework without
Video-based Training", NeurIPS 2022.
"""

from dataclasses import dataclass

import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample, TrackDataSample
from mmengine.structures import InstanceData
from torch import Tensor

from ..layers.mask_resize import masks_at_original_size
from ..video_segmentor import StreamState, VideoSegmentor, tracked_frame
from .linking import match_queries


@dataclass
class MinVISState(StreamState):
    """A running video. Its queries keep the order that they have in the first frame.

    Attributes:
        embeddings: (Q, D) of the last frame; None before the first one.
        logit_sums: (Q, K + 1) class logits of all frames in sum, float64.
    """

    embeddings: Tensor | None = None
    logit_sums: Tensor | None = None


@MODELS.register_module()
class MinVIS(VideoSegmentor):
    """Online video instance segmentation by an image model that knows nothing of videos.

    Each frame is segmented by itself. Its queries are assigned to those of the frame before by
    their embeddings, so that a query is an identity from the first frame to the last. Class scores
    follow from the mean of a query's class logits over all frames. At the end the best pairs of
    query and class are the tracks; a query may be in several of them.

    A frame is final at once, before the tracks are known: it lists the queries with the best scores
    so far. With ``max_candidates`` equal to the number of queries no mask of a later track is
    missing, as in the authors' code, which holds all masks until the end.

    Checkpoints of MMDetection's ``Mask2Former`` for instances fit as they are.

    Args:
        backbone: Config of the backbone.
        panoptic_head: Config of a :class:`MinVISHead`.
        max_tracks: How many of the best pairs of query and class are tracks.
        max_candidates: How many queries a frame lists at most. The limit is ours.
        data_preprocessor: Config of a ``TrackDataPreprocessor``.
        init_cfg: Initialisation config.

    Raises:
        ValueError: If a limit is not positive.
    """

    def __init__(
        self,
        backbone: dict,
        panoptic_head: dict,
        max_tracks: int = 10,
        max_candidates: int = 30,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        if min(max_tracks, max_candidates) < 1:
            raise ValueError(
                f"max_tracks and max_candidates must be positive, got {max_tracks} and "
                f"{max_candidates}"
            )
        self.backbone = MODELS.build(backbone)
        self.panoptic_head = MODELS.build(panoptic_head)
        self.max_tracks = max_tracks
        self.max_candidates = max_candidates

    def loss(self, inputs: Tensor, data_samples: list[TrackDataSample]) -> dict[str, Tensor]:
        """Mask2Former's losses on all frames, each an image of its own.

        Args:
            inputs: (N, T, 3, H, W) normalised frames.
            data_samples: N samples of T frames.

        Returns:
            ``loss_cls``, ``loss_mask`` and ``loss_dice`` of the last decoder layer, and of the
            others as ``d0.loss_cls`` and so on.
        """
        frames = [frame for sample in data_samples for frame in sample.video_data_samples]
        return self.panoptic_head.loss(self.backbone(inputs.flatten(0, 1)), frames)

    def start_video(self, meta: dict) -> MinVISState:
        """Begin a video; see :class:`VideoSegmentor`."""
        return MinVISState(meta)

    def take_frame(self, state: MinVISState, frame: Tensor, meta: dict) -> list[DetDataSample]:
        """Segment a frame and give its queries the order of the video's; it is final at once."""
        queries = self.panoptic_head.last_layer(self.backbone(frame[None]))
        class_logits, mask_logits, embeddings = (values[0] for values in queries)
        with torch.autocast(frame.device.type, enabled=False):
            if state.embeddings is None:
                order = torch.arange(len(embeddings), device=frame.device)
                state.logit_sums = class_logits.new_zeros(class_logits.shape, dtype=torch.float64)
            else:
                order = match_queries(state.embeddings, embeddings)
            state.embeddings = embeddings[order]
            state.logit_sums += class_logits[order]
            return [self._final_frame(state, mask_logits[order], tuple(frame.shape[-2:]), meta)]

    def _final_frame(
        self, state: MinVISState, mask_logits: Tensor, padded_size: tuple[int, int], meta: dict
    ) -> DetDataSample:
        """The queries with the best scores so far that have a pixel in the frame."""
        scores, labels = mean_scores(state).max(dim=1)
        ids = scores.topk(min(self.max_candidates, len(scores))).indices.sort().values
        masks = masks_at_original_size(mask_logits[ids], padded_size, meta)
        visible = masks.flatten(1).any(1)
        ids = ids[visible]
        return tracked_frame(meta, None, labels[ids], scores[ids], ids, masks[visible])

    def last_frames(self, state: MinVISState) -> tuple[list[DetDataSample], InstanceData | None]:
        """The best pairs of query and class; see :class:`VideoSegmentor`."""
        if state.num_frames == 0:
            return [], None
        scores = mean_scores(state)
        best, pairs = scores.flatten().topk(min(self.max_tracks, scores.numel()))
        num_classes = scores.shape[1]
        tracks = InstanceData(
            instances_id=pairs // num_classes, labels=pairs % num_classes, scores=best.float()
        )
        return [], tracks.cpu()


def mean_scores(state: MinVISState) -> Tensor:
    """(Q, K) scores of the classes by the mean of the logits of all frames so far."""
    return (state.logit_sums / state.num_frames).softmax(dim=1)[:, :-1]
