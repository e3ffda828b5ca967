import gc
from types import SimpleNamespace

import cv2
import numpy as np
import pycocotools.mask as mask_utils
import pytest
import torch
from mmdet.registry import HOOKS
from mmdet.structures import DetDataSample, TrackDataSample
from mmengine.structures import InstanceData

from mmvis_plugin.apis import VideoReader
from mmvis_plugin.visualization import track_color

SIZE = (64, 48)


class Dataset:
    metainfo = {"classes": ("ball", "box")}

    def __init__(self, videos):
        self.videos = videos

    def __len__(self):
        return len(self.videos)

    def get_data_info(self, index):
        return self.videos[index]


def make_dataset(root, folders, length):
    videos = []
    for video_id, folder in enumerate(folders):
        (root / folder).mkdir(parents=True)
        images = []
        for frame_id in range(length):
            path = root / folder / f"{frame_id:05d}.png"
            cv2.imwrite(str(path), np.full((SIZE[1], SIZE[0], 3), 30 * video_id + 40, np.uint8))
            images.append({"img_path": str(path), "frame_id": frame_id})
        videos.append({"video_id": video_id, "images": images})
    return Dataset(videos)


def result(video, frame_id):
    info = video["images"][frame_id]
    sample = DetDataSample(
        metainfo={**info, "video_id": video["video_id"], "ori_video_length": len(video["images"])}
    )
    mask = np.zeros(SIZE[::-1], np.uint8)
    mask[20:44, 10 + frame_id : 34 + frame_id] = 1
    sample.pred_track_instances = InstanceData(
        bboxes=torch.tensor([[10.0 + frame_id, 20, 34 + frame_id, 44]]),
        labels=torch.tensor([0]),
        scores=torch.tensor([0.9]),
        instances_id=torch.tensor([video["video_id"]]),
        masks=[mask_utils.encode(np.asfortranarray(mask))],
    )
    return sample


def outputs(video, frame_ids):
    if not frame_ids:
        return []
    sample = TrackDataSample()
    sample.video_data_samples = [result(video, i) for i in frame_ids]
    return [sample]


@pytest.mark.parametrize("look_ahead", [0, 3])
def test_one_video_each_with_all_frames(tmp_path, look_ahead):
    length = 7
    dataset = make_dataset(tmp_path / "data", ["seq1", "seq2"], length)
    runner = SimpleNamespace(test_dataloader=SimpleNamespace(dataset=dataset))
    hook = HOOKS.build(dict(type="TrackVisHook", out_dir=str(tmp_path / "out"), fps=5))

    hook.before_test_epoch(runner)
    for video in dataset.videos:
        num_final = 0
        for frame_id in range(length):
            last = length if frame_id == length - 1 else max(0, frame_id + 1 - look_ahead)
            hook.after_test_iter(runner, 0, None, outputs(video, list(range(num_final, last))))
            num_final = last
        # The video is there as soon as its last frame is final.
        assert (tmp_path / "out" / f"seq{video['video_id'] + 1}.mp4").is_file()
    hook.after_test_epoch(runner)

    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["seq1.mp4", "seq2.mp4"]
    for video_id in range(2):
        with VideoReader(tmp_path / "out" / f"seq{video_id + 1}.mp4") as reader:
            frames = list(reader)
        # Enlarged as in the demo: labels would cover small objects.
        assert (len(frames), reader.fps, reader.size) == (length, 5, (6 * 64, 6 * 48))
        for frame_id, frame in enumerate(frames):
            background = 30 * video_id + 40
            expected = 0.45 * np.array(track_color(video_id)) + 0.55 * background
            assert np.abs(frame[12, 360] - float(background)).max() < 8
            assert np.abs(frame[190, 6 * (20 + frame_id)] - expected).max() < 16


def test_videos_of_one_name_get_their_id(tmp_path):
    dataset = make_dataset(tmp_path / "data", ["a/img", "b/img", "other"], 1)
    runner = SimpleNamespace(test_dataloader=SimpleNamespace(dataset=dataset))
    hook = HOOKS.build(dict(type="TrackVisHook", out_dir=str(tmp_path / "out")))
    hook.before_test_epoch(runner)
    for video in dataset.videos:
        hook.after_test_iter(runner, 0, None, outputs(video, [0]))
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["img_0.mp4", "img_1.mp4", "other.mp4"]


def test_video_whose_end_was_not_tested_is_closed(tmp_path):
    dataset = make_dataset(tmp_path / "data", ["seq"], 5)
    runner = SimpleNamespace(test_dataloader=SimpleNamespace(dataset=dataset))
    hook = HOOKS.build(dict(type="TrackVisHook", out_dir=str(tmp_path / "out")))
    hook.before_test_epoch(runner)
    hook.after_test_iter(runner, 0, None, outputs(dataset.videos[0], [0, 1, 2]))
    hook.after_test_epoch(runner)
    assert len(list(VideoReader(tmp_path / "out" / "seq.mp4"))) == 3


def test_an_interrupted_test_leaves_no_unfinished_video(tmp_path):
    """MMEngine calls no hook when a test ends by an exception."""
    dataset = make_dataset(tmp_path / "data", ["seq"], 5)
    runner = SimpleNamespace(test_dataloader=SimpleNamespace(dataset=dataset))
    hook = HOOKS.build(dict(type="TrackVisHook", out_dir=str(tmp_path / "out")))
    hook.before_test_epoch(runner)
    hook.after_test_iter(runner, 0, None, outputs(dataset.videos[0], [0, 1]))
    assert len(list((tmp_path / "out").iterdir())) == 1
    del hook
    gc.collect()
    assert list((tmp_path / "out").iterdir()) == []
