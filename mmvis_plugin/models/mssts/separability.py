"""Foreground-background separability: a discriminator that trains beside the network.

Source: MS-STS VIS (Thawakar et al., ECCV 2022): an auxiliary discriminator network, used in
training only, is to enhance the separability of foreground and background in the multi-scale
spatio-temporal features. Its layers are those of the authors' repository, which never trains it.
The losses are the usual ones of adversarial training; how they are weighted and which parts of
their graphs are cut is our reading.

A segmentor with a discriminator does three things::

    make_discriminator_optional(self)                             # in __init__
    losses.update(self.discriminator.generator_loss(views))       # in loss
    losses.update(self.discriminator.discriminator_loss(views))

    def train_step(self, data, optim_wrapper):
        return adversarial_step(self, data, optim_wrapper)        # of mmvis_plugin.engine

Each loss reaches its own parameters only, so both are computed in the same forward pass (which is
what DistributedDataParallel needs) and no order of updates matters.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn


class ForegroundViews(NamedTuple):
    """What the discriminator looks at, of F frames.

    Attributes:
        frames: (F, 3, H, W) normalised frames.
        features: Three encoder scales (F, C, h_s, w_s), finest (stride 8) first, each half as large
            (rounded up) as the one before.
        predicted: (F, 1, h, w) predicted foreground, soft, in [0, 1]; h, w those of the finest
            scale.
        true: (F, 1, h, w) annotated foreground, in [0, 1]: the part of each cell.
    """

    frames: Tensor
    features: Sequence[Tensor]
    predicted: Tensor
    true: Tensor


class ChannelLayerNorm(nn.LayerNorm):
    """LayerNorm over the channels of each position of (F, C, h, w)."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (F, C, h, w) over C; the shape stays."""
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


def _conv(in_channels: int, out_channels: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)


@MODELS.register_module()
class SeparabilityDiscriminator(BaseModule):
    """Tell annotated from predicted foreground masks, patch by patch.

    The frame (bilinearly at stride 8), the finest scale and the mask go through a 3x3 convolution
    and a 3x3 max-pool of stride 2; the next scale is added; once more the same with the coarsest;
    five convolutions then give a logit for each patch of stride 32. All convolutions are 3x3,
    without bias, of stride 1.

    Training minimises -log D(true) - log(1 - D(predicted)) for the discriminator and, for the
    network, -log D(predicted), the form that does not saturate; both are means over the patches.

    Args:
        channels: C, of the encoder's scales. Defaults to 256.
        hidden_channels: Of the convolutions before the last. Defaults to the source's.
        loss_weight: Weight of the network's loss. The source gives none. Defaults to 1.5, our
            choice: with a new discriminator its gradient is then 5 to 9 % of that of all other
            losses (the shipped weights of ``mssts_r18_shapes``, three batches of ShapesVIS).
        init_cfg: Initialisation config of MMEngine.
    """

    def __init__(
        self,
        channels: int = 256,
        hidden_channels: Sequence[int] = (64, 128, 256, 512),
        loss_weight: float = 1.5,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.loss_weight = loss_weight
        self.conv_finest = _conv(3 + channels + 1, channels)
        # The mask is one channel of many: as loud as all others together, else the discriminator
        # takes very long to see it (our choice).
        nn.init.normal_(self.conv_finest.weight[:, -1:], std=1 / 3)
        self.conv_middle = _conv(channels, channels)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        layers = [_conv(channels, hidden_channels[0])]
        for width_in, width in pairwise(hidden_channels):
            layers += [nn.LeakyReLU(0.2), _conv(width_in, width), ChannelLayerNorm(width, eps=1e-6)]
        layers += [nn.LeakyReLU(0.2), _conv(hidden_channels[-1], 1)]
        self.patches = nn.Sequential(*layers)

    def forward(self, frames: Tensor, features: Sequence[Tensor], masks: Tensor) -> Tensor:
        """Judge masks.

        Args:
            frames: As in :class:`ForegroundViews`.
            features: Likewise.
            masks: (F, 1, h, w), in [0, 1].

        Returns:
            (F, 1, h', w') logits, positive where the mask looks annotated; h', w' those of the
            coarsest scale.
        """
        finest, middle, coarsest = features
        frames = F.interpolate(frames, masks.shape[-2:], mode="bilinear", align_corners=False)
        x = torch.cat([frames, finest, masks], dim=1)
        x = self.pool(self.conv_finest(x)) + middle
        x = self.pool(self.conv_middle(x)) + coarsest
        return self.patches(x)

    def generator_loss(self, views: ForegroundViews) -> dict[str, Tensor]:
        """How far the predicted foreground is from passing for annotated, for the network to learn.

        Gradients reach the predicted masks and the features, never the discriminator's parameters.

        Returns:
            ``loss_separability``, weighted.
        """
        parameters = {name: value.detach() for name, value in self.named_parameters()}
        logits = torch.func.functional_call(
            self, parameters, (views.frames, views.features, views.predicted)
        )
        return {"loss_separability": self.loss_weight * _cross_entropy(logits, 1)}

    def discriminator_loss(self, views: ForegroundViews) -> dict[str, Tensor]:
        """How badly true and predicted foreground are told apart, for the discriminator to learn.

        Gradients reach the discriminator's parameters only.

        Returns:
            ``loss_discriminator``.
        """
        features = [feature.detach() for feature in views.features]
        true = self(views.frames, features, views.true)
        predicted = self(views.frames, features, views.predicted.detach())
        return {"loss_discriminator": _cross_entropy(true, 1) + _cross_entropy(predicted, 0)}


def _cross_entropy(logits: Tensor, target: int) -> Tensor:
    logits = logits.float()
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, target))


def make_discriminator_optional(segmentor: nn.Module) -> None:
    """Let checkpoints with and without a discriminator load into models with and without one.

    Published weights have none; they start a training with a new discriminator. Checkpoints of
    training have one; a model built for inference leaves it out. Neither is worth a warning.

    Args:
        segmentor: Its discriminator, if any, is in the attribute ``discriminator``.
    """
    segmentor.register_load_state_dict_pre_hook(_fit_discriminator)


def _fit_discriminator(segmentor: nn.Module, state_dict: dict, prefix: str, *args) -> None:
    prefix += "discriminator."
    given = [name for name in state_dict if name.startswith(prefix)]
    if getattr(segmentor, "discriminator", None) is None:
        for name in given:
            del state_dict[name]
    elif not given:
        for name, value in segmentor.discriminator.state_dict().items():
            state_dict[prefix + name] = value
