"""What the streaming tests of all methods share: a video, its run in pieces, equal results."""

import torch
from torch.nn import functional as F

SIZE = (64, 96)  # of the padded input, divisible by 32
IMAGE = (60, 87)
ORIGINAL = (90, 130)


def metas(num_frames: int, video_id: int = 0) -> list[dict]:
    """Metainfo of every frame of a video of ``ORIGINAL`` size, resized to ``IMAGE``."""
    return [
        dict(
            video_id=video_id,
            frame_id=t,
            ori_video_length=num_frames,
            ori_shape=ORIGINAL,
            img_shape=IMAGE,
            batch_input_shape=SIZE,
            scale_factor=(IMAGE[1] / ORIGINAL[1], IMAGE[0] / ORIGINAL[0]),
        )
        for t in range(num_frames)
    ]


def video(seed: int, num_frames: int, contrast: float = 1.0) -> torch.Tensor:
    """Smooth noise, each frame its own; (num_frames, 3, H, W), normalised."""
    generator = torch.Generator().manual_seed(seed)
    coarse = contrast * torch.randn(num_frames, 3, 8, 12, generator=generator)
    return F.interpolate(coarse, SIZE, mode="bicubic")


def run(model, frames, cuts):
    """All frames and the tracks of a video that is fed in pieces of ``cuts`` frames."""
    state, results = model.start_video({}), []
    facts = metas(len(frames))
    for chunk in torch.arange(len(frames)).split(cuts):
        results += model.step(state, frames[chunk], [facts[t] for t in chunk])
    rest, tracks = model.finish(state)
    return results + rest, tracks


def run_interleaved(model, videos):
    """What ``run`` returns of each of some equally long videos, fed by turns frame by frame."""
    states = [model.start_video({}) for _ in videos]
    results = [[] for _ in videos]
    num_frames = len(videos[0])
    for t in range(num_frames):
        for state, frames, result in zip(states, videos, results, strict=True):
            result += model.step(state, frames[t : t + 1], metas(num_frames)[t : t + 1])
    outputs = []
    for state, result in zip(states, results, strict=True):
        rest, tracks = model.finish(state)
        outputs.append((result + rest, tracks))
    return outputs


def assert_same(a, b, box_tolerance: float = 0.0, score_tolerance: float = 0.0) -> None:
    """Two results of ``run`` with the same frames and tracks; bit by bit without tolerances."""
    (frames_a, tracks_a), (frames_b, tracks_b) = a, b
    assert [frame.frame_id for frame in frames_a] == [frame.frame_id for frame in frames_b]
    for one, other in zip(frames_a, frames_b, strict=True):
        one, other = one.pred_track_instances, other.pred_track_instances
        assert one.instances_id.tolist() == other.instances_id.tolist()
        assert one.labels.tolist() == other.labels.tolist()
        torch.testing.assert_close(one.bboxes, other.bboxes, atol=box_tolerance, rtol=0)
        torch.testing.assert_close(one.scores, other.scores, atol=score_tolerance, rtol=0)
        assert one.masks == other.masks
    assert (tracks_a is None) == (tracks_b is None)
    if tracks_a is not None:
        for key in ("instances_id", "labels", "scores"):
            assert torch.equal(tracks_a[key], tracks_b[key])
