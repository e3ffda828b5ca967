import weakref

import numpy as np
import pytest
import torch
from fake_segmentor import CONFIG
from mmengine.config import Config
from mmengine.model import PretrainedInit
from segmenting import SegmentedVideo

from mmvis_plugin.apis import build_video_segmentor
from mmvis_plugin.apis.models import streaming_pipeline
from mmvis_plugin.checkpoint import CheckpointError

CLASSES = ["ball", "box"]


def save_checkpoint(path, score=0.875, **meta):
    torch.save({"state_dict": {"score": torch.tensor(score).half()}, "meta": meta}, path)
    return path


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "red_finder.py"
    path.write_text(CONFIG.format(look_ahead=3))
    return path


@pytest.fixture
def checkpoint(tmp_path):
    return save_checkpoint(tmp_path / "red.pth", dataset_meta={"classes": CLASSES})


@pytest.fixture
def model(config, checkpoint):
    return build_video_segmentor(config, checkpoint, device="cpu")


def make_frame(number, size=(120, 90)):
    width, height = size
    frame = np.full((height, width, 3), 100, np.uint8)
    frame[30:60, 10 + 3 * number : 40 + 3 * number] = (0, 0, 255)
    return frame


@pytest.mark.parametrize("look_ahead", [0, 3, 100])
def test_every_frame_comes_out_in_order_with_its_result(model, look_ahead):
    model.look_ahead = look_ahead
    frames = [make_frame(i) for i in range(12)]

    video = SegmentedVideo(model, iter(frames))
    assert video.tracks is None
    results = list(video)

    assert [sample.frame_id for _, sample in results] == list(range(12))
    for number, (frame, sample) in enumerate(results):
        assert frame is frames[number]
        instances = sample.pred_track_instances
        # The red square, in pixels of the original frame, whatever the test size.
        expected = torch.tensor([10.0 + 3 * number, 30, 40 + 3 * number, 60])
        torch.testing.assert_close(instances.bboxes[0], expected, atol=2, rtol=0)
        assert instances.masks[0]["size"] == [90, 120]
        assert instances.scores.item() == 0.875
        assert sample.ori_shape == (90, 120) and sample.img_shape == (48, 64)
        assert sample.batch_input_shape == (64, 64)
    assert video.tracks.labels.tolist() == [1]


@pytest.mark.parametrize("look_ahead", [0, 3])
def test_frames_are_held_only_while_they_are_not_final(model, look_ahead):
    model.look_ahead = look_ahead
    alive, numbers = [], []
    most = 0

    def frames():
        for number in range(40):
            frame = make_frame(number % 20)
            alive.append(weakref.ref(frame))
            yield frame

    for _frame, sample in SegmentedVideo(model, frames()):
        numbers.append(sample.frame_id)
        alive[:] = [ref for ref in alive if ref() is not None]
        most = max(most, len(alive))

    assert numbers == list(range(40))
    # Those that wait, the new one, and the one in the consumer's hands.
    assert look_ahead < most <= look_ahead + 2


def test_results_come_as_soon_as_they_are_final(model):
    read = []

    def frames():
        for number in range(10):
            read.append(number)
            yield make_frame(number)

    numbers = []
    for _, sample in SegmentedVideo(model, frames()):
        numbers.append(sample.frame_id)
        assert len(read) == min(sample.frame_id + 4, 10)
    assert numbers == read == list(range(10))


def test_no_frames_no_results(model):
    assert list(SegmentedVideo(model, [])) == []


@pytest.mark.parametrize(
    "bad", [np.zeros((4, 4, 3), np.float32), np.zeros((4, 4), np.uint8), torch.zeros(4, 4, 3), None]
)
def test_bad_frame_is_named(model, bad):
    with pytest.raises(ValueError, match="frame 1 is"):
        list(SegmentedVideo(model, [make_frame(0), bad]))


def test_a_frame_too_thin_for_the_model_is_named(model):
    with pytest.raises(ValueError, match="frame 0: 4000 x 2 pixels cannot be resized"):
        list(SegmentedVideo(model, [np.zeros((2, 4000, 3), np.uint8)]))


def test_lost_and_repeated_results_are_an_error(model, monkeypatch):
    monkeypatch.setattr(model, "finish", lambda state: ([], None))
    with pytest.raises(RuntimeError, match="last 3 frames"):
        list(SegmentedVideo(model, [make_frame(i) for i in range(5)]))
    monkeypatch.undo()

    first = []

    def step(state, frames, metas):
        first.extend(type(model).step(model, state, frames, metas))
        return first[:1]

    model.look_ahead = 0
    monkeypatch.setattr(model, "step", step)
    with pytest.raises(RuntimeError, match="returned frame 0 where 1 was due"):
        list(SegmentedVideo(model, [make_frame(0), make_frame(1)]))


def test_model_is_ready_to_use(model, config):
    assert not model.training
    assert model.dataset_meta == {"classes": ("ball", "box")}
    assert model.cfg.filename == str(config)
    assert model.score.dtype == torch.float32


def test_config_is_taken_as_it_is_and_not_changed(config, checkpoint):
    cfg = Config.fromfile(config)
    before = cfg.to_dict()
    model = build_video_segmentor(cfg, checkpoint, "cpu", {"model.look_ahead": 7})
    assert model.look_ahead == 7 and cfg.to_dict() == before


def test_class_names_come_from_checkpoint_then_config(config, tmp_path):
    in_config = {"test_dataloader.dataset.metainfo": {"classes": ("cat",)}}

    def classes(options, **meta):
        path = save_checkpoint(tmp_path / "m.pth", **meta)
        return build_video_segmentor(config, path, "cpu", options).dataset_meta["classes"]

    assert classes(in_config, dataset_meta={"classes": CLASSES}) == ("ball", "box")
    assert classes({}, dataset_meta={"CLASSES": CLASSES}) == ("ball", "box")
    assert classes({}, CLASSES=CLASSES) == ("ball", "box")
    assert classes(in_config) == ("cat",)
    with pytest.raises(ValueError, match="names the classes"):
        classes({})


def test_category_ids_come_from_the_checkpoint(config, tmp_path):
    def build(ids):
        meta = {"classes": CLASSES, "category_ids": ids}
        return build_video_segmentor(
            config, save_checkpoint(tmp_path / "m.pth", dataset_meta=meta), "cpu"
        )

    assert build((2, 1)).dataset_meta == {"classes": ("ball", "box"), "category_ids": (2, 1)}
    with pytest.raises(CheckpointError, match=r"m\.pth: its meta has 1 category_ids for 2 classes"):
        build((2,))


def test_pretrained_weights_are_not_looked_up(config, checkpoint):
    init = {"type": "Pretrained", "checkpoint": "https://example.invalid/r50.pth"}
    options = {"model.bbox_head": {"depth": 50, "init_cfg": init}, "model.init_cfg": init}
    model = build_video_segmentor(config, checkpoint, "cpu", options)
    assert model.bbox_head == {"depth": 50} and model.init_cfg is None
    options["model.bbox_head"]["init_cfg"] = [{"type": "Kaiming"}, {**init, "type": PretrainedInit}]
    model = build_video_segmentor(config, checkpoint, "cpu", options)
    assert model.bbox_head == {"depth": 50, "init_cfg": [{"type": "Kaiming"}]}


@pytest.mark.parametrize(
    "options, message",
    [
        ({}, r"no trained weights are released for .*red_finder\.py: train it with `python "),
        ({"load_from": "https://example.invalid/coco.pth"}, "example.invalid/coco.pth"),
        (
            {
                "model.bbox_head": {
                    "init_cfg": {"type": "Pretrained", "checkpoint": "https://a.invalid/r50.pth"}
                }
            },
            "a.invalid/r50.pth",
        ),
    ],
)
def test_config_without_weights_says_where_they_come_from(config, options, message):
    with pytest.raises(FileNotFoundError, match=message):
        build_video_segmentor(config, None, "cpu", options)


def test_bad_input_is_named(config, checkpoint, tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing.py"):
        build_video_segmentor(tmp_path / "nothing.py", checkpoint)
    with pytest.raises(CheckpointError, match="nothing.pth"):
        build_video_segmentor(config, tmp_path / "nothing.pth", "cpu")
    with pytest.raises(ValueError, match=r"\.pth is a checkpoint, not a config"):
        build_video_segmentor(checkpoint, config)
    with pytest.raises(ValueError, match="model.nosuch: RedFinder takes no such argument"):
        build_video_segmentor(config, checkpoint, "cpu", {"model.nosuch": 3})
    with pytest.raises(ValueError, match="option modle.look_ahead: nothing reads modle; set model"):
        build_video_segmentor(config, checkpoint, "cpu", {"modle.look_ahead": 3})
    with pytest.raises(ValueError, match="cuda:99"):
        build_video_segmentor(config, checkpoint, "cuda:99")
    with pytest.raises(ValueError, match="'toaster'"):
        build_video_segmentor(config, checkpoint, "toaster")
    for device in ("meta", "xla"):
        with pytest.raises(ValueError, match=f"^device {device} does not work with this PyTorch"):
            build_video_segmentor(config, checkpoint, device)
    with pytest.raises(ValueError, match="TrackDataPreprocessor is not a video segmentor"):
        options = {"model": {"type": "TrackDataPreprocessor", "_delete_": True}}
        options["data_preprocessor"] = None
        build_video_segmentor(config, checkpoint, "cpu", options)


def test_checkpoint_of_another_model_is_refused(config, tmp_path):
    path = tmp_path / "other.pth"
    meta = {"dataset_meta": {"classes": CLASSES}}
    torch.save({"state_dict": {"bias": torch.zeros(2)}, "meta": meta}, path)
    with pytest.raises(CheckpointError, match=r"other\.pth does not fit .*lacks 1 .*score"):
        build_video_segmentor(config, path, "cpu")
    torch.save({"state_dict": {"score": torch.zeros(2)}, "meta": meta}, path)
    with pytest.raises(
        CheckpointError, match=r"does not fit .*score is \[2\] in it and \[\] in the model\. Use"
    ):
        build_video_segmentor(config, path, "cpu")


def test_streaming_pipeline_drops_only_what_loads(config):
    cfg = Config.fromfile(config)
    broadcaster, pack = streaming_pipeline(cfg)
    assert [t["type"] for t in broadcaster["transforms"]] == ["Resize"]
    assert pack == {"type": "PackTrackInputs"}
    cfg.test_dataloader = None
    with pytest.raises(ValueError, match="no test pipeline"):
        streaming_pipeline(cfg)
