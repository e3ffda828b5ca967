"""IFC: clips segmented by queries, frames that tell each other something by memory tokens.

Source: Hwang et al., "Video Instance Segmentation using Inter-Frame Communication Transformers",
NeurIPS 2021, and its repository.
"""

from collections import deque
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample, TrackDataSample
from mmengine.structures import InstanceData
from torch import Tensor

from ..video_segmentor import StreamState, VideoSegmentor, tracked_frame
from .criterion import track_targets
from .linking import MaskMeans, OverlapLinker, OverlapSettings, tracks_of_classes
from .network import FrameFeatures


@dataclass
class HeldFrame:
    """A frame that a later window may hold.

    Attributes:
        meta: Its metainfo.
        features: Its maps, each (1, C, h, w).
        masks: What the windows so far say of it.
    """

    meta: dict
    features: FrameFeatures
    masks: MaskMeans = field(default_factory=MaskMeans)


@dataclass(kw_only=True)
class IFCState(StreamState):
    """A running video.

    Attributes:
        linker: The identities so far.
        frames: The frames that are not final: those of a window and, for a moment, one more.
        num_covered: Frames that a window has held.
    """

    linker: OverlapLinker
    frames: deque[HeldFrame] = field(default_factory=deque)
    num_covered: int = 0


@MODELS.register_module()
class IFC(VideoSegmentor):
    """Segmentation of overlapping windows, whose masks are averaged.

    Windows begin at frames 0, ``stride``, twice ``stride`` and so on; the last one ends with the
    video. A video shorter than a window is one window of its own length. With short windows it is
    the paper's near-online model, with windows of 36 frames its offline one; the weights are the
    same.

    A frame is final when no later window can hold it: ``length - 1`` frames later. Its masks are
    final then and go by its identities; which classes an identity is reported as is known at the
    end of the video, and until then its best class so far is named.

    Args:
        network: Config of an :class:`IFCNetwork`.
        criterion: Config of an :class:`IFCCriterion` but for the number of classes.
        windows: Values of :class:`OverlapSettings`.
        class_threshold: Probability of a class, in the mean of an identity's windows, above which
            the identity is a track of that class.
        multi_class: Whether an identity may be several tracks, each of another class. Otherwise it
            is one, of its best class, with any probability.
        data_preprocessor: Config of a ``TrackDataPreprocessor``; at test time its padding is cut
            off again.
        init_cfg: Initialisation config.
    """

    def __init__(
        self,
        network: dict,
        criterion: dict,
        windows: dict | None = None,
        class_threshold: float = 0.01,
        multi_class: bool = True,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        self.network = MODELS.build(network)
        self.criterion = MODELS.build({**criterion, "num_classes": self.network.num_classes})
        self.windows = OverlapSettings(**(windows or {}))
        self.class_threshold = class_threshold
        self.multi_class = multi_class

    def loss(self, inputs: Tensor, data_samples: list[TrackDataSample]) -> dict[str, Tensor]:
        """Losses of every decoder layer on a batch of clips.

        Args:
            inputs: (B, T, 3, H, W) normalised frames.
            data_samples: B samples of T frames.

        Returns:
            ``d0.loss_cls``, ``d0.loss_mask``, ``d0.loss_dice`` and so on.
        """
        sizes = [tuple(sample[0].img_shape[:2]) for sample in data_samples]
        targets = [track_targets(sample, inputs.shape[-2:]) for sample in data_samples]
        return clip_losses(self.network, self.criterion, inputs, sizes, targets)

    def start_video(self, meta: dict) -> IFCState:
        """Begin a video; see :class:`VideoSegmentor`."""
        return IFCState(meta, linker=OverlapLinker(self.network.num_classes, self.windows.min_iou))

    def take_frame(self, state: IFCState, frame: Tensor, meta: dict) -> list[DetDataSample]:
        """Close a window that ends here; see :class:`VideoSegmentor`."""
        height, width = meta["img_shape"][:2]
        features = self.network.frame_features(frame[None, :, :height, :width])
        state.frames.append(HeldFrame(meta, features))
        # Frames before this one cannot be in a window that ends here or later.
        first = state.num_frames - self.windows.length
        if first >= 0 and first % self.windows.stride == 0:
            self._close_window(state)
            first += 1
        return self._final_frames(state, first - state.num_final)

    def last_frames(self, state: IFCState) -> tuple[list[DetDataSample], InstanceData]:
        """The last window, and the tracks; see :class:`VideoSegmentor`."""
        if state.num_covered < state.num_frames:
            self._close_window(state)
        final = self._final_frames(state, len(state.frames))
        scores = state.linker.class_scores()
        return final, tracks_of_classes(scores, self.class_threshold, self.multi_class)

    def _close_window(self, state: IFCState) -> None:
        """Segment the last frames, as many as a window has or the video."""
        frames = list(state.frames)[-self.windows.length :]
        features = FrameFeatures(
            *(torch.stack(maps, dim=1) for maps in zip(*(f.features for f in frames), strict=True))
        )
        queries, mask_features = self.network(features)
        probabilities = self.network.class_logits(queries[-1, 0]).softmax(dim=1)
        kept = probabilities.argmax(dim=1) < self.network.num_classes
        masks = self.network.mask_logits(queries[-1][:, kept], mask_features)[0].transpose(0, 1)
        with torch.autocast(masks.device.type, enabled=False):
            first = state.num_frames - len(frames)
            ids = state.linker.link(first, masks.sigmoid().flatten(2), probabilities[kept])
        for frame, logits in zip(frames, masks.unbind(1), strict=True):
            frame.masks.add(ids.tolist(), logits)
        state.num_covered = state.num_frames

    def _final_frames(self, state: IFCState, count: int) -> list[DetDataSample]:
        """Hand out the first ``count`` frames that are held; none if it is not positive."""
        if count <= 0:
            return []
        scores, labels = state.linker.class_scores().max(dim=1)
        final = []
        for _ in range(count):
            frame = state.frames.popleft()
            ids, logits = frame.masks.means()
            masks = full_size_masks(logits, frame.meta)
            ids = torch.tensor(ids, dtype=torch.long)
            final.append(tracked_frame(frame.meta, None, labels[ids], scores[ids], ids, masks))
        return final


def clip_losses(network, criterion, inputs: Tensor, sizes: list, targets: list) -> dict:
    """Losses of every decoder layer.

    Args:
        network: An :class:`IFCNetwork`.
        criterion: An :class:`IFCCriterion`.
        inputs: (B, T, 3, H, W) normalised frames.
        sizes: Height and width of the B clips without padding.
        targets: Their tracks, see :func:`track_targets`.

    Returns:
        ``d0.loss_cls`` and so on.
    """
    features = network.frame_features(inputs.flatten(0, 1))
    clips = features.map(lambda maps: maps.unflatten(0, inputs.shape[:2]))
    queries, mask_features = network(clips, sizes)
    losses = {}
    targets = criterion.prepare(targets)
    for number, layer in enumerate(queries):
        logits = network.class_logits(layer)
        with torch.no_grad():
            masks = network.mask_logits(layer, mask_features)
        # Sums over frames and pixels would lose by 16 bits.
        with torch.autocast(inputs.device.type, enabled=False):
            matching = criterion.match(logits, masks, targets)
        # Only these masks need gradients.
        masks = torch.cat(
            [
                network.mask_logits(layer[b, rows][None], mask_features[b][None])[0].transpose(0, 1)
                for b, rows in enumerate(matching.queries_of_clips(len(layer)))
            ]
        )
        with torch.autocast(inputs.device.type, enabled=False):
            layer_losses = criterion(logits, masks, matching)
        losses |= {f"d{number}.{name}": loss for name, loss in layer_losses.items()}
    return losses


def full_size_masks(logits: Tensor | None, meta: dict) -> Tensor:
    """Masks of one frame, interpolated straight from the network's grid to the original size.

    The grid is stretched over the frame, as if it ended with it, as in the authors' repository.

    Args:
        logits: (N, h, w); None without any.
        meta: ``ori_shape`` of the frame.

    Returns:
        (N, H, W) bool.
    """
    size = tuple(meta["ori_shape"][:2])
    if logits is None:
        return torch.zeros(0, *size, dtype=torch.bool)
    return F.interpolate(logits[None], size, mode="bilinear", align_corners=False)[0] > 0
