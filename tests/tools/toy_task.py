"""A task that trains in milliseconds and draws random numbers everywhere a real one does.

Imported by the configs of the tests in this folder, in processes of their own.
"""

import copy
import random
from pathlib import Path

import numpy as np
import torch
from mmdet.registry import DATASETS, HOOKS, METRICS, MODELS
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from torch import nn
from torch.utils.data import Dataset

from mmvis_plugin.datasets.youtube_vis import DatasetError, isolated_rng


@DATASETS.register_module()
class ToyVideos(Dataset):
    """Videos of three key frames; a sample is a vector with random augmentation."""

    metainfo = dict(classes=("a", "b"))

    def __init__(self, data_root=None, ann_file=None, num_videos=5):
        self.num_videos = num_videos

    def __len__(self):
        return self.num_videos

    def key_frames(self):
        return np.array([(v, f) for v in range(self.num_videos) for f in range(3)])

    def __getitem__(self, index):
        with isolated_rng(getattr(index, "seed", 0)):
            noise = random.random() + np.random.rand(4) + torch.rand(4).numpy()
        frame = getattr(index, "frame", 0)
        return dict(inputs=torch.tensor(noise + index + 0.1 * frame, dtype=torch.float32))


@DATASETS.register_module()
class BrokenVideos(ToyVideos):
    """Videos of which no frame can be read."""

    def __getitem__(self, index):
        raise DatasetError("0.jpg is cut off")


@MODELS.register_module()
class ToyModel(BaseModel):
    """Linear layers with dropout and samples weighted by Python's and NumPy's generators."""

    def __init__(self, init_cfg=None):
        super().__init__(init_cfg=init_cfg)
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(0.3), nn.Linear(8, 1))

    def forward(self, inputs, mode="tensor"):
        outputs = self.layers(torch.stack(inputs))
        if mode != "loss":
            return [dict(value=float(v)) for v in outputs]
        weight = 1 + random.random() + np.random.rand()
        return dict(loss=weight * (outputs - 1).square().mean())


@METRICS.register_module()
class ToyMetric(BaseMetric):
    """Draws random numbers in between, as a validation may."""

    def process(self, data_batch, data_samples):
        random.random(), np.random.rand(), torch.rand(1)
        self.results += [sample["value"] for sample in data_samples]

    def compute_metrics(self, results):
        return dict(mean=float(np.mean(results)))


@HOOKS.register_module()
class RecordHook(Hook):
    """Writes the batch, the gradients and the parameters of each process in each iteration."""

    def __init__(self, folder):
        self.folder = Path(folder)

    def before_train(self, runner):
        self.model = getattr(runner.model, "module", runner.model)
        # The optimizer wrapper clears the gradients right after the step.
        runner.optim_wrapper.optimizer.register_step_pre_hook(self._keep_gradients)

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        # Copies: preprocessing changes samples in place, the step changes parameters.
        self.batch = copy.deepcopy(data_batch)
        self.before = copy.deepcopy(self.model.state_dict())

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        record = dict(
            batch=self.batch,
            before=self.before,
            gradients=self.gradients,
            after=self.model.state_dict(),
        )
        torch.save(record, self.folder / f"iter{runner.iter}_rank{runner.rank}.pth")

    def _keep_gradients(self, optimizer, args, kwargs):
        parameters = self.model.named_parameters()
        self.gradients = {n: p.grad.clone() for n, p in parameters if p.grad is not None}
