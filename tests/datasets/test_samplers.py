import pickle
from collections import Counter
from itertools import islice

import pytest
from mmdet.datasets.samplers import TrackImgSampler
from mmdet.registry import DATASETS
from mmengine.dataset import DefaultSampler
from mmengine.runner import Runner
from ytvis_content import annotation, box_mask, compressed, small_content, video, write_content

from mmvis_plugin.datasets import (
    FrameIndex,
    InfiniteKeyFrameSampler,
    InfiniteVideoSampler,
    KeyFrameSampler,
    YTVISDataset,
    samplers,
)
from mmvis_plugin.datasets.samplers import frames_to_draw

KEY_FRAMES = [(0, 0), (0, 2), (0, 3), (1, 1), (1, 2)]


@pytest.fixture()
def root(tmp_path):
    return write_content(tmp_path, small_content())


def config(root, **kwargs):
    return dict(
        type="YTVISDataset",
        data_root=str(root),
        ann_file="train.json",
        data_prefix=dict(img_path="train/JPEGImages/"),
        **kwargs,
    )


def ranks(monkeypatch, world_size, make):
    """What ``make`` gives in each process of a distributed run."""
    made = []
    for rank in range(world_size):
        monkeypatch.setattr(samplers, "get_dist_info", lambda rank=rank: (rank, world_size))
        monkeypatch.setattr(
            "mmdet.datasets.samplers.track_img_sampler.get_dist_info",
            lambda rank=rank: (rank, world_size),
        )
        made.append(make())
    return made


def frames(indices):
    return [(int(i), i.frame) for i in indices]


def test_frame_index_is_the_video_and_keeps_frame_and_seed():
    index = FrameIndex(5, 3, 2**32 - 1)
    assert index == 5 and [10, 11, 12, 13, 14, 15][index] == 15
    for moved in (index - 2, index % 4, pickle.loads(pickle.dumps(index))):
        assert (type(moved), moved.frame, moved.seed) == (FrameIndex, 3, 2**32 - 1)
    assert (int(index - 2), int(index % 4)) == (3, 1)


@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
def test_every_frame_with_an_object_once_an_epoch(root, monkeypatch, world_size):
    dataset = DATASETS.build(config(root))
    parts = ranks(monkeypatch, world_size, lambda: KeyFrameSampler(dataset, seed=0))
    shares = [frames(sampler) for sampler in parts]
    assert {len(share) for share in shares} == {len(parts[0])}
    visits = Counter(frame for share in shares for frame in share)
    assert set(visits) == set(KEY_FRAMES)
    # The last samples that make the shares equal are the only repetitions.
    assert sum(visits.values()) - len(KEY_FRAMES) == -len(KEY_FRAMES) % world_size


@pytest.mark.parametrize("scope", ["mmdet", "mmengine"])
def test_concatenated_and_repeated_datasets(root, tmp_path, scope):
    pipeline = [dict(type="SampleKeyFrame")]
    more = small_content()
    more["videos"].reverse()
    write_content(tmp_path / "more", more)
    parts = [config(root, pipeline=pipeline), config(tmp_path / "more", pipeline=pipeline)]
    concat = DATASETS.build(dict(type=f"{scope}.ConcatDataset", datasets=parts))
    visited = [concat[i] for i in KeyFrameSampler(concat, seed=0)]
    # Videos 7 and 9 of either file, whatever their place in it.
    truth = [(7, 0), (7, 2), (7, 3), (9, 1), (9, 2)]
    for folder in (root, tmp_path / "more"):
        prefix = f"{folder}/train"
        seen = [(v["video_id"], v["frame_id"]) for v in visited if v["img_path"].startswith(prefix)]
        assert sorted(seen) == truth

    repeated = DATASETS.build(dict(type="RepeatDataset", times=3, dataset=parts[0]))
    visits = Counter(
        (sample["video_id"], sample["frame_id"])
        for sample in (repeated[i] for i in KeyFrameSampler(repeated, seed=0))
    )
    assert visits == dict.fromkeys(truth, 3)


def test_other_wrappers_are_refused(root):
    dataset = DATASETS.build(config(root))
    balanced = DATASETS.build(
        dict(type="ClassBalancedDataset", dataset=dataset, oversample_thr=0.1)
    )
    with pytest.raises(TypeError, match="ClassBalancedDataset"):
        KeyFrameSampler(balanced, seed=0)


def test_no_object_at_all_is_an_error(tmp_path):
    content = small_content()
    for entry in content["annotations"]:
        entry["iscrowd"] = 1
    write_content(tmp_path, content)
    with pytest.raises(ValueError, match="no frame with an object"):
        KeyFrameSampler(DATASETS.build(config(tmp_path)), seed=0)


def test_order_and_seeds_are_a_function_of_seed_and_epoch(root):
    dataset = DATASETS.build(config(root))

    def epoch(seed, number, **kwargs):
        sampler = KeyFrameSampler(dataset, seed=seed, **kwargs)
        sampler.set_epoch(number)
        return [(int(i), i.frame, i.seed) for i in sampler]

    assert epoch(3, 4) == epoch(3, 4)
    assert len({str(epoch(s, e)) for s in (3, 4) for e in (4, 5)}) == 4
    # A frame's sample is the same whatever the order; the next epoch has new ones.
    assert sorted(epoch(3, 4)) == epoch(3, 4, shuffle=False)
    assert not {s for *_, s in epoch(3, 4)} & {s for *_, s in epoch(3, 5)}


@pytest.mark.parametrize("world_size", [1, 2])
def test_infinite_sampler_runs_through_epochs_and_skips(root, monkeypatch, world_size):
    dataset = DATASETS.build(config(root))

    def epochs():
        sampler = KeyFrameSampler(dataset, seed=1)
        for number in range(4):
            sampler.set_epoch(number)
            yield from sampler

    finite = ranks(monkeypatch, world_size, lambda: [(i, i.frame, i.seed) for i in epochs()])
    endless = ranks(monkeypatch, world_size, lambda: InfiniteKeyFrameSampler(dataset, seed=1))
    for expected, sampler in zip(finite, endless, strict=True):
        for skipped in (0, 1, len(sampler), 2 * len(sampler) + 1):
            sampler.skip(skipped)
            count = len(expected) - skipped
            got = [(i, i.frame, i.seed) for i in islice(sampler, count)]
            assert got == expected[skipped:]
    with pytest.raises(ValueError, match="negative"):
        endless[0].skip(-1)


@pytest.mark.parametrize(
    ("length", "ratio", "frames"),
    [
        (36, 0.1, [0, 9, 18, 27]),
        (36, 0.05, [0, 18]),
        (36, 0.01, [18]),
        (20, 0.1, [0, 10]),
        (7, 0.5, [0, 1, 3, 5]),
        (1, 0.1, [0]),
        (4, 1.0, [0, 1, 2, 3]),
    ],
)
def test_frames_of_a_part_of_a_video(length, ratio, frames):
    assert frames_to_draw(length, ratio).tolist() == frames


@pytest.mark.parametrize("world_size", [1, 2])
def test_every_video_once_an_epoch_with_frames_of_a_part_of_it(tmp_path, monkeypatch, world_size):
    mask = compressed(box_mask(1, 1, 3, 3))
    lengths = [20, 3, 40, 8]
    content = dict(
        categories=[dict(id=1, name="thing")],
        videos=[video(i, length) for i, length in enumerate(lengths)],
        # Of the first video only frame 5 has an object.
        annotations=[annotation(0, 0, 1, [mask if t == 5 else None for t in range(20)])]
        + [annotation(i, i, 1, [mask] * length) for i, length in enumerate(lengths) if i],
    )
    write_content(tmp_path, content)
    dataset = DATASETS.build(config(tmp_path))
    parts = ranks(
        monkeypatch, world_size, lambda: InfiniteVideoSampler(dataset, frame_ratio=0.1, seed=0)
    )
    share = [frames(islice(sampler, 100 * len(sampler))) for sampler in parts]
    epochs = [[part[e * len(parts[0]) :][: len(parts[0])] for part in share] for e in range(100)]
    for epoch in epochs:
        assert sorted(i for part in epoch for i, _ in part) == [0, 1, 2, 3]
    drawn = {i: {f for part in share for v, f in part if v == i} for i in range(4)}
    assert drawn == {0: {0, 10}, 1: {1}, 2: {0, 10, 20, 30}, 3: {4}}
    # Of all frames, too, and a resumed run goes on as it would have.
    (sampler, *_) = ranks(monkeypatch, world_size, lambda: InfiniteVideoSampler(dataset, seed=0))
    whole = [(int(i), i.frame, i.seed) for i in islice(sampler, 300)]
    assert {f for v, f, _ in whole if v == 1} == {0, 1, 2}
    sampler.skip(7)
    assert [(int(i), i.frame, i.seed) for i in islice(sampler, 293)] == whole[7:]
    with pytest.raises(ValueError, match=r"frame_ratio must be in \(0, 1\], got 10"):
        InfiniteVideoSampler(dataset, frame_ratio=10)


def loader(root, sampler, num_workers):
    pipeline = [
        dict(type="UniformRefFrameSample", num_ref_imgs=1, frame_range=3),
        dict(
            type="TransformBroadcaster",
            share_random_params=True,
            transforms=[
                dict(type="LoadFrame"),
                dict(type="LoadTrackAnnotations", with_mask=True),
                dict(type="RandomFlip", prob=0.5),
                dict(type="PhotoMetricDistortion"),
            ],
        ),
        dict(type="PackTrackInputs"),
    ]
    workers = dict(num_workers=num_workers, persistent_workers=num_workers > 0)
    return Runner.build_dataloader(
        dict(
            batch_size=2,
            sampler=dict(type=sampler),
            dataset=config(root, pipeline=pipeline),
            **workers,
        ),
        seed=0,
    )


def contents(batches):
    return [
        (float(clip.float().mean()), [f.img_id for f in sample.video_data_samples])
        for batch in batches
        for clip, sample in zip(batch["inputs"], batch["data_samples"], strict=True)
    ]


def test_samples_do_not_depend_on_the_workers_and_change_with_the_epoch(root):
    """Persistent workers never hear of the epoch: it reaches them with the index."""
    runs = []
    for num_workers in (0, 2):
        epochs = []
        batches = loader(root, "KeyFrameSampler", num_workers)
        for epoch in range(2):
            batches.sampler.set_epoch(epoch)
            epochs.append(contents(batches))
        runs.append(epochs)
    assert runs[0] == runs[1]
    assert sorted(runs[0][0]) != sorted(runs[0][1])

    endless = loader(root, "InfiniteKeyFrameSampler", 2)
    whole = contents(islice(endless, 5))
    resumed = loader(root, "InfiniteKeyFrameSampler", 0)
    resumed.sampler.skip(2 * 2)
    assert contents(islice(resumed, 3)) == whole[4:]


@pytest.mark.parametrize(("videos", "world_size"), [(3, 1), (3, 2), (5, 2), (5, 3)])
def test_test_samplers_keep_videos_whole_and_visit_each_once(
    tmp_path, monkeypatch, videos, world_size
):
    mask = compressed(box_mask(1, 1, 3, 3))
    lengths = [3 + i % 3 for i in range(videos)]
    content = dict(
        categories=[dict(id=1, name="thing")],
        videos=[video(i, length) for i, length in enumerate(lengths)],
        annotations=[annotation(i, i, 1, [mask] * length) for i, length in enumerate(lengths)],
    )
    write_content(tmp_path, content)
    cfg = config(tmp_path, test_mode=True)
    dataset = YTVISDataset(**{key: value for key, value in cfg.items() if key != "type"})
    shares = [list(s) for s in ranks(monkeypatch, world_size, lambda: TrackImgSampler(dataset))]
    assert [(v, f) for share in shares for v, f in share] == [
        (v, f) for v, length in enumerate(lengths) for f in range(length)
    ]
    assert sum(len({v for v, _ in share}) for share in shares) == videos
    item = dataset[shares[-1][-1]]
    assert item["video_id"] == [videos - 1] and item["frame_id"] == [lengths[-1] - 1]
    assert item["ori_video_length"] == [lengths[-1]] and item["video_length"] == [1]

    monkeypatch.setattr("mmengine.dataset.sampler.get_dist_info", lambda: (1, world_size))
    whole = DefaultSampler(dataset, shuffle=False, round_up=False)
    assert list(whole) == list(range(videos))[1::world_size]
    assert dataset[0]["frame_id"] == list(range(lengths[0]))
