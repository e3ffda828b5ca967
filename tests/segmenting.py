"""A video through a model in the caller's thread, without decoding and sinks."""

from collections.abc import Iterable, Iterator

import numpy as np
from mmdet.structures import DetDataSample
from torch import nn

from mmvis_plugin.apis.model_run import ModelRun


class SegmentedVideo:
    """Iterate over it for (frame, result), once; then it has ``tracks``."""

    def __init__(self, model: nn.Module, frames: Iterable[np.ndarray]):
        self._frames = frames
        self._run = ModelRun(model)

    @property
    def tracks(self):
        return self._run.tracks

    def __iter__(self) -> Iterator[tuple[np.ndarray, DetDataSample]]:
        batches = ([self._run.prepare(frame, number)] for number, frame in enumerate(self._frames))
        for image, _, sample in self._run.results(batches):
            yield image, sample
