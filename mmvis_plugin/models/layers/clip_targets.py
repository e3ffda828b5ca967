"""Ground truth of the objects of a clip from the ground truth of its frames."""

from collections.abc import Sequence

import numpy as np
import torch
from mmdet.structures import DetDataSample, TrackDataSample
from mmengine.structures import InstanceData
from torch import Tensor


def cut_clips(
    samples: Sequence[TrackDataSample], first: int, clip_length: int
) -> tuple[list[list[DetDataSample]], Tensor]:
    """The clips of a batch that begin at frame ``first`` of their samples.

    What pads all of them alike is cut off: it need not be computed.

    Args:
        samples: B samples; frames that only pad a clip say ``is_padding`` in their metainfo and
            come last in it.
        first: Index of the clips' first frame.
        clip_length: T.

    Returns:
        B lists of up to T frames, equally long, and (B, T) bool, False for padding.
    """
    clips = [sample.video_data_samples[first : first + clip_length] for sample in samples]
    real = torch.tensor([[not frame.get("is_padding", False) for frame in c] for c in clips])
    length = int(real.sum(1).max())
    return [clip[:length] for clip in clips], real[:, :length]


def sample_instances(sample: TrackDataSample) -> tuple[Tensor, Tensor]:
    """Identities and labels of all instances that a sample shows, in any of its clips.

    Returns:
        (G,) ids, ascending, and (G,) labels.
    """
    instances = [frame.gt_instances for frame in sample.video_data_samples]
    ids = torch.cat([objects.instances_ids for objects in instances])
    labels = torch.cat([objects.labels for objects in instances])
    unique, rows = torch.unique(ids, return_inverse=True)
    # An instance has the same label in every frame, so that it does not matter which one stays.
    return unique, labels.new_zeros(len(unique)).scatter(0, rows, labels)


def clip_targets(
    frames: list[DetDataSample], ids: Tensor, labels: Tensor, valid: Tensor, size: tuple[int, int]
) -> InstanceData:
    """Boxes and masks of given instances in the frames of a clip.

    Args:
        frames: T frames with ``bboxes``, ``masks`` and ``instances_ids``.
        ids: (G,) instances, ascending: all that the frames show, and others.
        labels: (G,).
        valid: (T,) bool; nothing is present in frames that only pad the clip.
        size: Height and width of the masks: those of the padded frames.

    Returns:
        ``labels`` (G,), ``present`` (G, T) bool, ``bboxes`` (G, T, 4) xyxy in pixels of the
        resized frame and ``masks`` (G, T, H, W) uint8, zero where the instance is absent.
    """
    shape = len(ids), len(frames)
    present = ids.new_zeros(shape, dtype=torch.bool)
    bboxes = ids.new_zeros(*shape, 4, dtype=torch.float32)
    masks = ids.new_zeros(*shape, *size, dtype=torch.uint8)
    shown = [(t, frames[t].gt_instances) for t in valid.nonzero()[:, 0].tolist()]
    shown = [(t, objects) for t, objects in shown if len(objects)]
    if shown:
        # Which row is whose is found where the boxes are: no frame waits for the device.
        rows = torch.searchsorted(ids, torch.cat([objects.instances_ids for _, objects in shown]))
        times = [t for t, objects in shown for _ in range(len(objects))]
        cells = rows, torch.tensor(times, device=ids.device)
        present[cells] = True
        bboxes[cells] = torch.cat([objects.bboxes for _, objects in shown]).float()
        bitmaps = np.concatenate([objects.masks.masks for _, objects in shown])
        masks[cells] = torch.from_numpy(bitmaps).to(ids.device)
    return InstanceData(labels=labels, present=present, bboxes=bboxes, masks=masks)
