"""A video segmentor that needs no training: it finds what is pure red."""

import time
from collections import deque

import av
import numpy as np
import torch
from mmdet.registry import MODELS
from mmengine.structures import InstanceData
from torch import nn
from torch.nn import functional as F

from mmvis_plugin.models.video_segmentor import StreamState, VideoSegmentor, tracked_frame

CONFIG = """
custom_imports = dict(imports=["mmvis_plugin", "fake_segmentor"], allow_failed_imports=False)
default_scope = "mmdet"
data_preprocessor = dict(type="TrackDataPreprocessor", bgr_to_rgb=True, pad_size_divisor=32)
model = dict(type="RedFinder", look_ahead={look_ahead})
test_dataloader = dict(
    dataset=dict(
        type="YTVISDataset",
        pipeline=[
            dict(
                type="TransformBroadcaster",
                transforms=[
                    dict(type="LoadImageFromFile"),
                    dict(type="Resize", scale=(64, 48), keep_ratio=True),
                    dict(type="LoadTrackAnnotations", with_mask=True),
                ],
            ),
            dict(type="PackTrackInputs"),
        ],
    )
)
"""


CLASSES = ["ball", "box"]


def write_inputs(folder, look_ahead=3, score=0.875, category_ids=None, **settings):
    """A config of the fake model and a checkpoint for it; returns their paths."""
    config, checkpoint = folder / "red.py", folder / "red.pth"
    config.write_text(CONFIG.format(look_ahead=look_ahead) + f"model.update({settings})\n")
    meta = {"dataset_meta": {"classes": CLASSES, "category_ids": category_ids}}
    torch.save({"state_dict": {"score": torch.tensor(score)}, "meta": meta}, checkpoint)
    return config, checkpoint


def make_frame(number, size=(90, 70), red=True):
    """A grey frame with a red square of 20 pixels that moves to the right."""
    width, height = size
    frame = np.full((height, width, 3), 100, np.uint8)
    if red:
        left = 10 + 3 * number % (width - 30)
        frame[25:45, left : left + 20] = (0, 0, 255)
    return frame


def write_file(path, count, codec="libx264", pix_fmt="yuv420p", container=None):
    """Frames of ``make_frame`` at 10 a second in a container or codec that VideoWriter has not."""
    with av.open(str(path), "w", format=container) as file:
        stream = file.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 90, 70, pix_fmt
        for number in range(count):
            frame = av.VideoFrame.from_ndarray(make_frame(number), format="bgr24")
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))


@MODELS.register_module()
class RedFinder(VideoSegmentor):
    """Gives its results ``look_ahead`` frames late; the score is its only parameter.

    It sleeps ``delay`` seconds a frame, and is interrupted at frame ``interrupt_at``.
    """

    def __init__(
        self,
        look_ahead=0,
        delay=0.0,
        interrupt_at=None,
        data_preprocessor=None,
        bbox_head=None,
        init_cfg=None,
    ):
        super().__init__(data_preprocessor, init_cfg)
        self.bbox_head = bbox_head
        self.look_ahead = look_ahead
        self.score = nn.Parameter(torch.zeros(()))
        self.delay = delay
        self.interrupt_at = interrupt_at
        self.calls = []  # frames and autocast of each step

    def loss(self, inputs, data_samples):
        return {"loss": self.score.square()}

    def start_video(self, meta):
        state = StreamState(meta)
        state.waiting = deque()
        return state

    def step(self, state, frames, metas):
        time.sleep(self.delay * len(frames))
        self.calls.append((len(frames), torch.is_autocast_enabled("cpu"), frames.stride()))
        return super().step(state, frames, metas)

    def take_frame(self, state, frame, meta):
        if meta["frame_id"] == self.interrupt_at:
            raise KeyboardInterrupt
        state.waiting.append((frame, meta))
        return self._pop(state, self.look_ahead)

    def last_frames(self, state):
        tracks = InstanceData(
            instances_id=torch.tensor([0]), labels=torch.tensor([1]), scores=torch.tensor([0.9])
        )
        return self._pop(state, 0), tracks if state.num_frames else None

    def _pop(self, state, keep):
        final = []
        while len(state.waiting) > keep:
            final.append(self._find(*state.waiting.popleft()))
        return final

    def _find(self, frame, meta):
        height, width = meta["img_shape"]
        red = (frame[0] > 180) & (frame[1:] < 80).all(0)
        mask = F.interpolate(red[None, None, :height, :width].float(), meta["ori_shape"])[0] > 0.5
        rows, columns = mask[0].nonzero(as_tuple=True)
        n = int(len(rows) > 0)
        box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] if n else []
        return tracked_frame(
            meta,
            bboxes=torch.tensor(box).view(n, 4),
            labels=torch.zeros(n, dtype=torch.long),
            scores=self.score.expand(n),
            instances_id=torch.zeros(n, dtype=torch.long),
            masks=mask[:n],
        )
