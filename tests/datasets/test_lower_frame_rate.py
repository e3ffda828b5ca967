"""tools/dataset_converters/lower_frame_rate.py."""

import json
import sys

import pytest
from scripts import load_script
from ytvis_content import annotation, box_mask, compressed, video, write_content

from mmvis_plugin.datasets import YTVISDataset


@pytest.fixture(scope="module")
def tool():
    return load_script("tools/dataset_converters/lower_frame_rate.py")


MASKS = [compressed(box_mask(2, 2, 9, 8)), compressed(box_mask(1, 2, 5, 8)), None]


def content():
    """A video of 5 frames; the second object is in its second frame only."""
    a, b, none = MASKS
    return dict(
        info=dict(year=2019),
        categories=[dict(id=1, name="a")],
        videos=[video(3, 5)],
        annotations=[
            annotation(1, 3, 1, [a, b, none, a, b]),
            annotation(2, 3, 1, [none, a, none, none, none]),
        ],
    )


def test_every_nth_frame_stays(tool):
    before = content()
    after = tool.lower_frame_rate(before, 2)
    assert before == content()
    (one,) = after["videos"]
    assert one["length"] == 3 and one["file_names"] == before["videos"][0]["file_names"][::2]
    (track,) = after["annotations"]
    a, b, none = MASKS
    assert track["id"] == 1 and track["segmentations"] == [a, none, b]
    assert track["length"] == 3
    assert tool.lower_frame_rate(before, 1)["annotations"][1]["segmentations"][1] == a


def test_lists_over_frames_of_any_name_are_cut(tool):
    before = content()
    before["videos"][0] |= dict(tags=list("abcde"), times=[0, 1, 2, 3, 4])
    before["annotations"][0] |= dict(occlusion=list("vwxyz"), bboxes=None, colors=["red"])
    after = tool.lower_frame_rate(before, 2)
    (one,), (track,) = after["videos"], after["annotations"]
    assert one["times"] == [0, 2, 4] and one["tags"] == list("abcde")
    assert track["occlusion"] == list("vxz")
    assert track["bboxes"] is None and track["colors"] == ["red"]


def test_the_result_is_a_dataset(tool, tmp_path, monkeypatch, capsys):
    root = write_content(tmp_path, content())
    arguments = ["lower_frame_rate.py", str(root / "train.json"), "--stride", "2"]
    monkeypatch.setattr(sys, "argv", arguments)
    tool.main()
    assert "train_stride2.json: 1 videos, 3 frames" in capsys.readouterr().out
    dataset = YTVISDataset(
        data_root=str(root),
        ann_file="train_stride2.json",
        data_prefix=dict(img_path="train/JPEGImages/"),
        pipeline=[],
    )
    frames = dataset.get_data_info(0)["images"]
    assert [len(frame["instances"]) for frame in frames] == [1, 0, 1]


def test_without_annotations(tool):
    test_set = {key: value for key, value in content().items() if key != "annotations"}
    assert tool.lower_frame_rate(test_set, 3)["videos"][0]["length"] == 2


def test_bad_input_is_named(tool, tmp_path, monkeypatch):
    whole = tmp_path / "whole.json"
    whole.write_text(json.dumps(content()))
    for path, stride, message in (
        (tmp_path / "none.json", "2", "No such file or directory: .*none.json"),
        (whole, "0", "the stride must be at least 1"),
    ):
        monkeypatch.setattr(sys, "argv", ["x", str(path), "--stride", stride])
        with pytest.raises(SystemExit, match=f"^error: .*{message}"):
            tool.main()
