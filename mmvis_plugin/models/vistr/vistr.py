"""VisTR: all frames of a clip at once through one transformer.

Source: Wang et al., "End-to-End Video Instance Segmentation with Transformers", CVPR 2021, and its
repository.
"""

from collections.abc import Sequence

import torch
from mmdet.registry import MODELS
from mmdet.structures import TrackDataSample
from mmengine.structures import InstanceData
from torch import Tensor

from ..layers.mask_resize import stretched_masks
from ..windowed import WindowedSegmentor, WindowSettings, WindowTracks
from .criterion import VisTRCriterion, track_targets
from .network import ClipPredictions, FrameFeatures, VisTRNetwork

# A frame whose best class is less probable than this does not show the instance.
MIN_PROBABILITY = 0.001
# Logit of a mask that is empty; infinity would become NaN between two cells.
NO_MASK = -1e4


@MODELS.register_module()
class VisTR(WindowedSegmentor):
    """Segmentation of whole clips: query i of every frame belongs to track i.

    A clip always has as many frames as the model was trained with. A video, or a window, that is
    shorter is gone through again from its beginning until the clip is full. Longer videos are
    segmented in overlapping windows.

    Args:
        network: Config of a :class:`VisTRNetwork`.
        criterion: Config of a :class:`VisTRCriterion`.
        windows: Values of :class:`WindowSettings`; ``length`` is the number of frames of a clip.
        frames_per_batch: Frames that go through the backbone together at test time.
        data_preprocessor: Config of a ``TrackDataPreprocessor``; at test time its padding is cut
            off again.
        init_cfg: Initialisation config.

    Raises:
        ValueError: The queries are for another number of frames than a window has.
    """

    def __init__(
        self,
        network: dict,
        criterion: dict,
        windows: dict | None = None,
        frames_per_batch: int = 6,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        self.network: VisTRNetwork = MODELS.build(network)
        self.criterion: VisTRCriterion = MODELS.build(criterion)
        self.windows = WindowSettings(**(windows or {}))
        self.frames_per_batch = frames_per_batch
        num_frames = self.network.queries.num_frames
        if num_frames not in (None, self.windows.length):
            raise ValueError(
                f"windows.length is {self.windows.length}, but the queries are for {num_frames} "
                "frames: set windows.length and network.queries.num_frames alike"
            )

    def loss(self, inputs: Tensor, data_samples: list[TrackDataSample]) -> dict[str, Tensor]:
        """Losses of every decoder layer on a batch of clips; those of masks only for the last.

        Args:
            inputs: (B, T, 3, H, W) normalised frames.
            data_samples: B samples of T frames.

        Returns:
            ``d0.loss_cls``, ``d0.loss_bbox``, ``d0.loss_iou`` and so on, of the last layer also
            ``loss_mask`` and ``loss_dice``.
        """
        sizes = [tuple(sample[0].img_shape[:2]) for sample in data_samples]
        targets = [track_targets(sample, inputs.shape[-2:]) for sample in data_samples]
        return clip_losses(self.network, self.criterion, inputs, sizes, targets)

    def segment_window(self, frames: Tensor, metas: Sequence[dict]) -> WindowTracks:
        """All instances that are of a class; see :class:`WindowedSegmentor`."""
        height, width = metas[0]["img_shape"][:2]
        size, num_frames = (height, width), len(frames)
        parts = [
            self.network.frame_features(part)
            for part in frames[..., :height, :width].split(self.frames_per_batch)
        ]
        clip = torch.arange(self.windows.length, device=frames.device) % num_frames
        features = FrameFeatures(
            torch.cat([part.cells for part in parts])[clip][None],
            tuple(
                torch.cat(scale)[clip][None]
                for scale in zip(*(part.laterals for part in parts), strict=True)
            ),
        )
        predictions, memory = self.network(features, size, [size])
        columns, scores, shown = track_classes(predictions[-1], num_frames)
        (instances,) = (columns > 0).nonzero(as_tuple=True)
        masks = self.network.masks(memory, 0, instances.tolist())
        logits = torch.stack([mask[:num_frames] for mask in masks]) if masks else None
        if logits is None:
            logits = frames.new_zeros(0, num_frames, 1, 1)
        logits = logits.masked_fill(~shown[instances, :, None, None], NO_MASK)
        return WindowTracks(logits, columns[instances] - 1, scores[instances])

    def full_size_masks(self, logits: Tensor, meta: dict) -> Tensor:
        """Interpolated straight to the original size; see :class:`WindowedSegmentor`."""
        return stretched_masks(logits, meta)


def track_classes(predictions: ClipPredictions, num_frames: int) -> tuple[Tensor, Tensor, Tensor]:
    """Class and score of every instance of a clip.

    Class and score are of different frames: the class is the one that most frames have, the lowest
    of several; the score is the mean over the frames of the probability of each one's best class.

    Args:
        predictions: Of a decoder layer, for one clip.
        num_frames: F, how many of its frames count.

    Returns:
        (N,) long columns of the class logits, 0 for absence; (N,) scores; and (N, F) bool, where a
        frame's best class is probable enough for a mask.
    """
    probabilities = predictions.logits[0, :num_frames].softmax(-1)[..., :-1]
    best, columns = probabilities.max(-1)  # (F, N)
    counts = torch.nn.functional.one_hot(columns, probabilities.shape[-1]).sum(0)
    # Of equal counts argmax may return any.
    most = counts == counts.max(1, keepdim=True).values
    numbers = torch.arange(most.shape[1], device=most.device)
    columns = torch.where(most, numbers, most.shape[1]).min(1).values
    return columns, best.mean(0), (best >= MIN_PROBABILITY).T


def clip_losses(
    network: VisTRNetwork,
    criterion: VisTRCriterion,
    inputs: Tensor,
    sizes: Sequence[tuple[int, int]],
    targets: Sequence[InstanceData],
) -> dict[str, Tensor]:
    """Losses of every decoder layer.

    Args:
        network: The network.
        criterion: Its criterion.
        inputs: (B, T, 3, H, W) normalised frames.
        sizes: Height and width of the B clips without padding.
        targets: Their tracks, see :func:`track_targets`.

    Returns:
        See :meth:`VisTR.loss`.
    """
    frames = network.frame_features(inputs.flatten(0, 1))
    batch = inputs.shape[:2]
    features = FrameFeatures(
        frames.cells.unflatten(0, batch),
        tuple(lateral.unflatten(0, batch) for lateral in frames.laterals),
    )
    predictions, memory = network(features, inputs.shape[-2:], sizes)
    losses = {}
    # Sums over frames and pixels would lose by 16 bits.
    with torch.autocast(inputs.device.type, enabled=False):
        for number, layer in enumerate(predictions):
            matching = criterion.match(layer, targets)
            found = criterion(layer, matching)
            losses |= {f"d{number}.{name}": loss for name, loss in found.items()}
    # Only these masks need to be computed; one without objects, so that every parameter still gets
    # a gradient, as distributed training wants.
    pairs = list(zip(matching.clips.tolist(), matching.queries.tolist(), strict=True))
    masks = [
        mask
        for clip in range(len(inputs))
        for mask in network.masks(memory, clip, [query for b, query in pairs if b == clip])
    ]
    with torch.autocast(inputs.device.type, enabled=False):
        found = criterion.mask_losses(masks, matching)
    if not pairs:
        found["loss_mask"] = network.masks(memory, 0, [0])[0].sum() * 0
    last = len(predictions) - 1
    return losses | {f"d{last}.{name}": loss for name, loss in found.items()}
