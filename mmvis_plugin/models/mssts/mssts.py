"""MS-STS VIS, and SeqFormer, which it is without its three additions.

Sources: SeqFormer (Wu et al., "SeqFormer: Sequential Transformer for Video Instance Segmentation",
ECCV 2022) and its repository; MS-STS VIS (Thawakar et al., "Video Instance Segmentation via
Multi-scale Spatio-temporal Split Attention Transformer", ECCV 2022).

The parameters of SeqFormer's repository are found here under these names (``#`` is a number)::

    detr.backbone.0.body                              backbone
    detr.input_proj.#.0, .1 (the last: of C5 again)   neck.convs.#.conv, .gn (neck.extra_convs.0)
    detr.transformer.level_embed                      encoder.level_embed
    detr.transformer.encoder.layers.#.self_attn         encoder.layers.#.attention
      .norm1, .norm2                                      .norm1, .norm2
      .linear1, .linear2                                  .ffn.layers.0.0, .ffn.layers.1
    detr.query_embed                                  decoder.query_embedding
    detr.transformer.reference_points                 decoder.reference_points
    detr.transformer.decoder.layers.#.self_attn         decoder.layers.#.self_attention
      .norm2                                              .norm_self
      .self_attn_box, .norm2_box                          .box_self_attention, .box_norm_self
      .cross_attn (without output_proj_box)               .cross_attention
      .cross_attn.output_proj_box, .norm1_box             .box_output_proj, .box_norm_cross
      .linear1_box, .linear2_box, .norm3_box              .box_ffn.layers.0.0, .1, .box_norm_ffn
      .time_attention_weights, .norm1                     .frame_weight, .norm_cross
      .linear1, .linear2, .norm3                          .ffn.layers.0.0, .1, .norm_ffn
    detr.class_embed.#                                decoder.class_branches.#
    detr.bbox_embed.#.layers                          decoder.box_branches.#.layers
    mask_head.lay3, .lay4, .dcn                       mask_head.fuse_convs.0, .1, .2
      .lay1, .lay2                                      .out_convs.0, .1
    controller.layers                                 mask_head.controller.layers
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmdet.registry import MODELS
from mmdet.structures import TrackDataSample
from mmengine.optim import OptimWrapper
from torch import Tensor

from mmvis_plugin.models.layers.mask_resize import stretched_masks
from mmvis_plugin.models.windowed import WindowedSegmentor, WindowSettings, WindowTracks

from .adversarial import adversarial_step
from .criterion import track_targets
from .decoder import InstancePredictions
from .deformable import FeatureLevels
from .encoder import ClipFeatures
from .separability import ForegroundViews, make_discriminator_optional

# Scales of the encoder that masks and the discriminator are computed from.
NUM_MASK_LEVELS = 3


@MODELS.register_module()
class MSSTSVIS(WindowedSegmentor):
    """Whole-video segmentation by instance queries with a box query in every frame.

    An instance query gathers from all frames what its box queries find; from it come one class
    and one set of mask convolutions for the video. The 10 best pairs of query and class are the
    tracks. Videos longer than a window are segmented in overlapping ones.

    Its three additions to SeqFormer are the encoder's ``ms_sts``, the decoder's
    ``temporal_attention`` and the ``discriminator`` here; without them it is SeqFormer.

    Args:
        backbone: Config of the backbone, which runs frame by frame.
        neck: Config of the ``ChannelMapper`` to the encoder's scales.
        encoder: Config of a :class:`SeqFormerEncoder`.
        decoder: Config of a :class:`SeqFormerDecoder`.
        mask_head: Config of a :class:`SeqFormerMaskHead`.
        positional_encoding: Config of the encoding of positions in a frame.
        criterion: Config of a :class:`SeqFormerCriterion`.
        discriminator: Config of a :class:`SeparabilityDiscriminator`, for training only; None
            without the foreground-background separability loss.
        windows: Values of :class:`WindowSettings`.
        tracks_per_window: How many of the best pairs of query and class are tracks.
        score_powers: The powers of the probability of a track's class and of
            :func:`mask_confidence`, of which its score is the product. (1, 0), as SeqFormer: a
            score says how sure the class is, and nothing of the masks. Others are our addition;
            Mask2Former takes (1, 1).
        frames_per_batch: Frames that go through the backbone together at test time.
        data_preprocessor: Config of a ``TrackDataPreprocessor``, which pads to a multiple of 32
            for training; at test time the padding is cut off again, as SeqFormer does without.
        init_cfg: Initialisation config.

    Raises:
        ValueError: Encoder and decoder are for different numbers of scales, or for less than
            masks are computed from.
    """

    training_only = ("discriminator",)

    def __init__(
        self,
        backbone: dict,
        neck: dict,
        encoder: dict,
        decoder: dict,
        mask_head: dict,
        positional_encoding: dict,
        criterion: dict,
        discriminator: dict | None = None,
        windows: dict | None = None,
        tracks_per_window: int = 10,
        score_powers: tuple[float, float] = (1.0, 0.0),
        frames_per_batch: int = 8,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        self.backbone = MODELS.build(backbone)
        self.neck = MODELS.build(neck)
        self.positional_encoding = MODELS.build(positional_encoding)
        self.encoder = MODELS.build(encoder)
        self.decoder = MODELS.build(decoder)
        self.mask_head = MODELS.build(mask_head)
        if not self.encoder.num_levels == self.decoder.num_levels >= NUM_MASK_LEVELS:
            raise ValueError(
                f"encoder.num_levels and decoder.num_levels must be the same and at least "
                f"{NUM_MASK_LEVELS}, got {self.encoder.num_levels} and {self.decoder.num_levels}"
            )
        self.criterion = MODELS.build(criterion)
        self.discriminator = None if discriminator is None else MODELS.build(discriminator)
        make_discriminator_optional(self)
        self.windows = WindowSettings(**(windows or {}))
        self.tracks_per_window = tracks_per_window
        self.score_powers = score_powers
        self.frames_per_batch = frames_per_batch

    # --- the network --------------------------------------------------------------------------

    def encode(self, frames: Tensor, sizes: Sequence[tuple[int, int]]) -> ClipFeatures:
        """Features of clips.

        Args:
            frames: (B, T, 3, H, W) normalised.
            sizes: Height and width of the B clips without padding.

        Returns:
            The encoder's features.

        Raises:
            ValueError: The neck gives another number of scales than the encoder is for.
        """
        batch = frames.shape[:2]
        chunk = frames.shape[:2].numel() if self.training else self.frames_per_batch
        parts = [self.neck(self.backbone(part)) for part in frames.flatten(0, 1).split(chunk)]
        maps = [torch.cat(scale).unflatten(0, batch) for scale in zip(*parts, strict=True)]
        if len(maps) != self.encoder.num_levels:
            raise ValueError(
                f"the neck gives {len(maps)} scales, but encoder and decoder are for "
                f"{self.encoder.num_levels}: set neck.num_outs and both num_levels alike"
            )
        levels = FeatureLevels.of(maps)

        padding = frames.new_ones(len(frames), *frames.shape[-2:], dtype=torch.bool)
        for clip, (height, width) in zip(padding, sizes, strict=True):
            clip[:height, :width] = False
        scales = [F.interpolate(padding[None].float(), size)[0].bool() for size in levels.shapes]
        position = [self.positional_encoding(scale).flatten(2).mT for scale in scales]
        padded = any(tuple(size) != tuple(frames.shape[-2:]) for size in sizes)
        features = ClipFeatures(
            tokens=torch.cat([scale.flatten(3).mT for scale in maps], dim=2),
            levels=levels,
            valid_ratios=torch.stack([valid_ratio(scale) for scale in scales], dim=1),
            padding=torch.cat([scale.flatten(1) for scale in scales], 1) if padded else None,
        )
        return self.encoder(features, torch.cat(position, dim=1))

    def mask_features(self, features: ClipFeatures, size: tuple[int, int]) -> Tensor:
        """Features that masks are computed from.

        Args:
            features: Of :meth:`encode`.
            size: Height and width of the frames that went in.

        Returns:
            (B, T, D, h, w) on the grid of the finest scale.

        Raises:
            ValueError: The grid is not that of ``mask_head.stride``, by which boxes in pixels are
                related to it.
        """
        mask_features = self.mask_head.mask_features(features.maps(NUM_MASK_LEVELS))
        grid, stride = tuple(mask_features.shape[-2:]), self.mask_head.stride
        if grid != tuple(-(-side // stride) for side in size):
            raise ValueError(
                f"mask_head.stride is {stride}, but the finest scale of the neck has "
                f"{grid[0]} x {grid[1]} cells for frames of {size[0]} x {size[1]} pixels: set "
                "mask_head.stride to that scale's stride"
            )
        return mask_features

    def predict_masks(
        self,
        mask_features: Tensor,
        predictions: InstancePredictions,
        clips: Tensor,
        queries: Tensor,
        sizes: Sequence[tuple[int, int]],
    ) -> Tensor:
        """Masks of N chosen queries.

        Args:
            mask_features: (B, T, D, h, w) of the mask head.
            predictions: Of a decoder layer.
            clips: (N,) long.
            queries: (N,) long.
            sizes: Height and width of the B clips without padding.

        Returns:
            (N, T, 2h, 2w) logits.
        """
        scale = mask_features.new_tensor([size[::-1] for size in sizes], dtype=torch.float)
        centers = predictions.centers.transpose(1, 2)[clips, queries] * scale[clips][:, None]
        # A single clip's features are not copied for each of its instances.
        of_clip = clips if len(sizes) > 1 else None
        return self.mask_head(mask_features, predictions.queries[clips, queries], centers, of_clip)

    # --- training -----------------------------------------------------------------------------

    def loss(self, inputs: Tensor, data_samples: list[TrackDataSample]) -> dict[str, Tensor]:
        """Losses of every decoder layer on a batch of clips.

        Args:
            inputs: (B, T, 3, H, W) normalised frames, padded to a multiple of 32.
            data_samples: B samples of T frames.

        Returns:
            ``d0.loss_cls`` and so on; with a discriminator also its loss,
            ``loss_discriminator``, and that of the network, ``loss_separability``.
        """
        losses, views = self.loss_and_foreground(inputs, data_samples)
        if self.discriminator is not None:
            losses |= self.discriminator.generator_loss(views)
            losses |= self.discriminator.discriminator_loss(views)
        return losses

    def loss_and_foreground(
        self, inputs: Tensor, data_samples: list[TrackDataSample]
    ) -> tuple[dict[str, Tensor], ForegroundViews | None]:
        """Losses of the network by itself, and what the discriminator looks at.

        Args:
            inputs: As in :meth:`loss`.
            data_samples: Likewise.

        Returns:
            Losses, and views of all frames of the batch; None without a discriminator.
        """
        sizes = [tuple(sample[0].img_shape[:2]) for sample in data_samples]
        targets = [
            track_targets(sample, inputs.shape[-2:], self.decoder.first_class)
            for sample in data_samples
        ]
        features = self.encode(inputs, sizes)
        mask_features = self.mask_features(features, inputs.shape[-2:])
        losses = {}
        # Sums over frames and pixels would lose by 16 bits.
        for number, predictions in enumerate(self.decoder(features)):
            matching = self.criterion.match(predictions, targets)
            masks = self.predict_masks(
                mask_features, predictions, matching.clips, matching.queries, sizes
            )
            with torch.autocast(inputs.device.type, enabled=False):
                layer_losses = self.criterion(predictions, masks, matching)
            losses |= {f"d{number}.{name}": loss for name, loss in layer_losses.items()}
        if self.discriminator is None:
            return losses, None
        true_masks = self.criterion.cells(matching.tracks.masks, masks.shape[-2:])
        maps = features.maps(NUM_MASK_LEVELS)
        return losses, foreground_views(inputs, maps, masks, true_masks, matching.clips)

    def train_step(self, data: dict, optim_wrapper: OptimWrapper) -> dict[str, Tensor]:
        """One iteration; with a discriminator that of two optimizers."""
        if self.discriminator is None:
            return super().train_step(data, optim_wrapper)
        return adversarial_step(self, data, optim_wrapper)

    # --- inference ----------------------------------------------------------------------------

    def segment_window(self, frames: Tensor, metas: Sequence[dict]) -> WindowTracks:
        """The best pairs of query and class; see :class:`WindowedSegmentor`."""
        height, width = metas[0]["img_shape"][:2]
        features = self.encode(frames[None, ..., :height, :width], [(height, width)])
        predictions = self.decoder(features)[-1]
        mask_features = self.mask_features(features, (height, width))
        scores = predictions.logits[0].sigmoid()
        num_columns = scores.shape[1]
        best, pairs = scores.flatten().topk(min(self.tracks_per_window, scores.numel()))
        labels = pairs % num_columns - self.decoder.first_class
        of_class = (labels >= 0) & (labels < self.decoder.num_classes)
        queries = pairs[of_class] // num_columns
        logits = self.predict_masks(
            mask_features, predictions, torch.zeros_like(queries), queries, [(height, width)]
        )
        class_power, mask_power = self.score_powers
        track_scores = best[of_class] ** class_power
        if mask_power:
            track_scores = track_scores * mask_confidence(logits) ** mask_power
        return WindowTracks(logits, labels[of_class], track_scores)

    def full_size_masks(self, logits: Tensor, meta: dict) -> Tensor:
        """Interpolated straight to the original size; see :class:`WindowedSegmentor`."""
        return stretched_masks(logits, meta)


def mask_confidence(logits: Tensor) -> Tensor:
    """How sure the masks of tracks are: the mean probability of the cells inside, of all frames.

    Args:
        logits: (N, T, h, w).

    Returns:
        (N,) in (0.5, 1]; 0 for a track without a cell.
    """
    inside = logits > 0
    total = logits.sigmoid().mul_(inside).flatten(1).sum(1, dtype=torch.float32)
    return total / inside.flatten(1).sum(1).clamp(min=1)


def valid_ratio(padding: Tensor) -> Tensor:
    """(B, 2) part of width and height that is not padding, of (B, h, w) bool."""
    height, width = padding.shape[-2:]
    rows, columns = (~padding[:, :, 0]).sum(1), (~padding[:, 0]).sum(1)
    return torch.stack([columns / width, rows / height], dim=-1)


def foreground_views(
    frames: Tensor, maps: Sequence[Tensor], masks: Tensor, true_masks: Tensor, clips: Tensor
) -> ForegroundViews:
    """What a discriminator looks at: the union of the matched instances in every frame.

    Args:
        frames: (B, T, 3, H, W).
        maps: Scales (B, T, C, h_s, w_s) of the encoder, finest first.
        masks: (N, T, 2h, 2w) logits of the matched queries of the last decoder layer.
        true_masks: (N, T, 2h, 2w) what they are to be, in [0, 1]: cells made as for the loss, else
            a perfect prediction would be told apart.
        clips: (N,) long: the clip of each.

    Returns:
        Views of B T frames. A pixel is predicted to be foreground with the probability that not
        all instances are absent there, taken as independent.
    """
    # log(1 - p) of the sigmoid's p, summed over the instances of each clip.
    none = F.logsigmoid(-masks)
    none = none.new_zeros(len(frames), *none.shape[1:]).index_add(0, clips, none)
    predicted = F.avg_pool2d(1 - none.exp(), 2)
    true = true_masks.to(predicted.dtype)
    true = true.new_zeros(len(frames), *true.shape[1:]).index_add(0, clips, true)
    true = F.avg_pool2d(true.clamp(max=1), 2)
    return ForegroundViews(
        frames=frames.flatten(0, 1),
        features=[scale.flatten(0, 1) for scale in maps],
        predicted=predicted.flatten(0, 1)[:, None],
        true=true.flatten(0, 1)[:, None],
    )
