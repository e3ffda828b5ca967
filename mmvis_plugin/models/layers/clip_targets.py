"""Ground truth of the objects of a clip from the ground truth of its frames."""

from collections.abc import Sequence

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
        ids: (G,) instances; those the clip does not show are absent throughout.
        labels: (G,).
        valid: (T,) bool; nothing is present in frames that only pad the clip.
        size: Height and width of the masks: those of the padded frames.

    Returns:
        ``labels`` (G,), ``present`` (G, T) bool, ``bboxes`` (G, T, 4) xyxy in pixels of the
        resized frame and ``masks`` (G, T, H, W) uint8, zero where the instance is absent.
    """
    shape = len(ids), len(frames)
    present = torch.zeros(shape, dtype=torch.bool)
    bboxes = torch.zeros(*shape, 4)
    masks = torch.zeros(*shape, *size, dtype=torch.uint8)
    rows_of = {instance: row for row, instance in enumerate(ids.tolist())}
    for t in valid.nonzero()[:, 0].tolist():
        objects = frames[t].gt_instances
        rows = [rows_of[instance] for instance in objects.instances_ids.tolist()]
        if rows:
            present[rows, t] = True
            bboxes[rows, t] = objects.bboxes.cpu().float()
            masks[rows, t] = torch.from_numpy(objects.masks.masks)
    device = ids.device
    return InstanceData(
        labels=labels,
        present=present.to(device),
        bboxes=bboxes.to(device),
        masks=masks.to(device),
    )
