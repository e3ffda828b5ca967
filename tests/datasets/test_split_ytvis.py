import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.runner import Runner
from scripts import load_script
from ytvis_content import annotation, box_mask, compressed, video, write_content

REPOSITORY = Path(__file__).parents[2]


tool = load_script("tools/dataset_converters/split_ytvis.py")


def content_of(classes_of_videos, names=("a", "b", "c", "d", "e")):
    """A JSON with one video of two frames for each set of classes."""
    mask = compressed(box_mask(2, 2, 9, 8))
    pairs = [(v, c) for v, classes in enumerate(classes_of_videos) for c in sorted(classes)]
    return dict(
        info=dict(year=2019),
        categories=[dict(id=i, name=name) for i, name in enumerate(names)],
        videos=[video(v, 2) for v in range(len(classes_of_videos))],
        annotations=[annotation(i, v, c, [mask, None]) for i, (v, c) in enumerate(pairs)],
    )


single = st.lists(st.sets(st.integers(0, 4), max_size=1), min_size=1, max_size=40)


@settings(deadline=None)
@given(single, st.floats(0.05, 0.95), st.integers(0, 5))
def test_every_class_is_shared_out_in_proportion(classes_of_videos, ratio, seed):
    content = content_of(classes_of_videos)
    held_out = tool.split_videos(content, ratio, seed)
    for class_ in range(5):
        videos = {v for v, classes in enumerate(classes_of_videos) if class_ in classes}
        if len(videos) >= 2:
            expected = min(max(ratio * len(videos), 1), len(videos) - 1)
            assert abs(len(videos & held_out) - expected) <= 0.5 + 1e-9
            assert 0 < len(videos & held_out) < len(videos)
        else:
            assert not videos & held_out


@settings(deadline=None)
@given(st.lists(st.sets(st.integers(0, 4), max_size=3), min_size=1, max_size=30))
def test_no_class_is_lost_to_training(classes_of_videos):
    held_out = tool.split_videos(content_of(classes_of_videos), 0.3, 0)
    for class_ in set().union(*classes_of_videos):
        assert any(
            class_ in classes and v not in held_out for v, classes in enumerate(classes_of_videos)
        )


def test_held_out_videos_are_as_crowded_as_the_others():
    """Picking videos of many classes would reach every class's share with too few videos."""
    random = np.random.default_rng(0)
    sizes = random.integers(1, 5, 400)
    classes_of_videos = [set(random.choice(5, n, replace=False).tolist()) for n in sizes]
    held_out = tool.split_videos(content_of(classes_of_videos), 0.1, 0)
    assert 35 <= len(held_out) <= 45
    assert abs(np.mean([sizes[v] for v in held_out]) - sizes.mean()) < 0.3


def test_common_class_is_held_out_even_if_rarer_ones_took_its_videos():
    classes_of_videos = [{0, 4}] * 2 + [{1, 4}] * 2 + [{2}] * 20
    held_out = tool.split_videos(content_of(classes_of_videos), 0.1, 0)
    for class_ in (0, 1, 2, 4):
        videos = {v for v, classes in enumerate(classes_of_videos) if class_ in classes}
        assert 0 < len(videos & held_out) < len(videos)


def test_category_ids_may_be_texts():
    content = content_of([{v % 2} for v in range(10)] + [set()] * 4)
    expected = tool.split_videos(content, 0.3, 0)
    for annotation_ in content["annotations"]:
        annotation_["category_id"] = f"class {annotation_['category_id']}"
    held_out = tool.split_videos(content, 0.3, 0)
    assert len(held_out) == len(expected)
    assert 0 < len(held_out & {10, 11, 12, 13}) < 4


def test_split_follows_the_seed_and_not_the_order_of_annotations():
    content = content_of([{v % 5, v % 3} for v in range(60)])
    first = tool.split_videos(content, 0.2, 0)
    content["annotations"].reverse()
    assert tool.split_videos(content, 0.2, 0) == first
    assert tool.split_videos(content, 0.2, 1) != first
    assert 8 <= len(first) <= 16


def test_files_and_table(tmp_path, capsys):
    content = content_of([{v % 2} for v in range(20)] + [set()] * 10, names=("ape", "bear"))
    ann_file = tmp_path / "train.json"
    ann_file.write_text(json.dumps(content))
    tool.main([str(ann_file), "--val-ratio", "0.2"])
    train = json.loads((tmp_path / "train_sub-train.json").read_text())
    val = json.loads((tmp_path / "train_sub-val.json").read_text())
    assert len(train["videos"]) == 24 and len(val["videos"]) == 6
    for key in ("videos", "annotations"):
        merged = sorted(train[key] + val[key], key=lambda entry: entry["id"])
        assert merged == content[key]
    assert train["info"] == val["info"] == content["info"]
    assert train["categories"] == val["categories"] == content["categories"]
    table = capsys.readouterr().out.splitlines()
    assert " ".join(table[0].split()) == "class train videos train objects val videos val objects"
    assert table[1].split() == ["ape", "8", "8", "2", "2"]
    assert table[3].split() == ["all", "classes", "16", "16", "4", "4"]
    assert "24 train, 6 val" in table[4]
    assert not list(tmp_path.glob("*.partial"))

    first = (tmp_path / "train_sub-val.json").read_bytes()
    outputs = ["--out-train", str(tmp_path / "x/t.json"), "--out-val", str(tmp_path / "x/v.json")]
    tool.main([str(ann_file), "--val-ratio", "0.2", "--seed", "0", *outputs])
    assert (tmp_path / "x/v.json").read_bytes() == first


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (dict(content_of([{0}, {0}]), annotations=[]), " has no annotations"),
        (content_of([{0}]), ": too few videos"),
    ],
)
def test_unusable_input_is_explained(tmp_path, content, message):
    ann_file = tmp_path / "train.json"
    ann_file.write_text(json.dumps(content))
    with pytest.raises(SystemExit, match=f"^error: {ann_file}.*{message}"):
        tool.main([str(ann_file)])
    assert list(tmp_path.iterdir()) == [ann_file]


def test_bad_arguments_are_refused(tmp_path, capsys):
    for arguments in (["gone.json"], ["gone.json", "--val-ratio", "1"]):
        with pytest.raises(SystemExit):
            tool.parse_args(arguments)
    error = capsys.readouterr().err
    assert "gone.json does not exist" in error and "between 0 and 1" in error


LAYOUTS = dict(
    ytvis19=("train.json", "valid.json", "train/JPEGImages", "valid/JPEGImages"),
    ytvis21=(
        "train/instances.json",
        "valid/instances.json",
        "train/JPEGImages",
        "valid/JPEGImages",
    ),
    ovis=("annotations_train.json", "annotations_valid.json", "train", "valid"),
)


@pytest.mark.parametrize("name", LAYOUTS)
def test_dataset_configs_fit_the_official_layouts_and_the_split(tmp_path, name):
    train, valid, train_images, valid_images = LAYOUTS[name]
    content = content_of([{v % 2} for v in range(8)], names=("ape", "bear"))
    write_content(tmp_path, content, train, train_images)
    write_content(tmp_path, {**content, "annotations": None}, valid, valid_images)
    tool.main([str(tmp_path / train), "--val-ratio", "0.25"])
    cfg = Config.fromfile(REPOSITORY / f"configs/_base_/datasets/{name}.py")
    sizes = {}
    for part in ("train", "val", "test"):
        dataloader = cfg[f"{part}_dataloader"]
        dataloader.dataset.data_root = str(tmp_path)
        dataset = DATASETS.build(dataloader.dataset)
        sizes[part] = len(dataset)
        index = (0, 0)
        sample = dataset[index]
        frames = sample["data_samples"].video_data_samples
        assert sample["inputs"].shape == (len(frames), 3, 360, 480)
        assert len(frames) == (2 if part == "train" else 1)
        if part == "train":
            Runner.build_dataloader(dataloader, seed=0)
    assert sizes == dict(train=6, val=2, test=8)
