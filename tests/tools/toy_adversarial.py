"""A segmentor with a discriminator that trains in milliseconds, for processes of its own."""

import torch
import torch.nn.functional as F
from mmdet.registry import HOOKS, MODELS
from mmengine.model import BaseModel
from torch import nn
from toy_task import RecordHook

from mmvis_plugin.models.mssts import adversarial_step
from mmvis_plugin.models.mssts.separability import (
    ForegroundViews,
    SeparabilityDiscriminator,
    make_discriminator_optional,
)


@MODELS.register_module()
class ToySegmentor(BaseModel):
    """Four frames a sample, painted from its vector; their bright pixels are foreground.

    The encoder has dropout, so that a run depends on the random generators.
    """

    training_only = ("discriminator",)

    def __init__(self, discriminator=None, init_cfg=None):
        super().__init__(init_cfg=init_cfg)
        self.backbone = nn.Conv2d(3, 4, 3, padding=1)
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Conv2d(4, 1, 1))
        self.discriminator = None
        if discriminator is not None:
            self.discriminator = SeparabilityDiscriminator(**discriminator)
        make_discriminator_optional(self)

    def views(self, vectors):
        rows = torch.linspace(0, 1, 16)[:, None]
        angles = (vectors.reshape(-1, 1, 1) * rows * rows.T)[:, None]
        frames = torch.cat([angles.sin(), angles.cos(), angles.sin() * angles.cos()], 1)
        finest = self.backbone(F.avg_pool2d(frames, 2))
        features = [F.max_pool2d(finest, 2**s, ceil_mode=True) for s in range(3)]
        predicted = self.head(finest).sigmoid()
        true = (F.avg_pool2d(frames[:, :1], 2) > 0.5).float()
        return ForegroundViews(frames, features, predicted, true)

    def forward(self, inputs, mode="tensor"):
        vectors = torch.stack(inputs)
        views = self.views(vectors)
        if mode != "loss":
            return [dict(value=float(v.mean())) for v in views.predicted.split(4)]
        losses = dict(loss_mask=F.binary_cross_entropy(views.predicted, views.true))
        if self.discriminator is not None:
            losses |= self.discriminator.generator_loss(views)
            losses |= self.discriminator.discriminator_loss(views)
        return losses

    def train_step(self, data, optim_wrapper):
        if self.discriminator is None:
            return super().train_step(data, optim_wrapper)
        return adversarial_step(self, data, optim_wrapper)


@HOOKS.register_module()
class RecordBothHook(RecordHook):
    """Likewise for two optimizers."""

    def before_train(self, runner):
        self.model = getattr(runner.model, "module", runner.model)
        self.gradients = {}
        for wrapper in runner.optim_wrapper.values():
            wrapper.optimizer.register_step_pre_hook(self._keep_gradients)

    def _keep_gradients(self, optimizer, args, kwargs):
        before = self.gradients
        super()._keep_gradients(optimizer, args, kwargs)
        self.gradients = {**before, **self.gradients}
