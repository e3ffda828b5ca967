"""Every config file: it is named, documented and wired by the conventions; its own model, data,
optimizer and metrics build. Those that together make every choice of all do a training step and
predict a video, at a small input; with ``--all-configs`` all do."""

import copy
import json
import math
import re
from collections import Counter
from pathlib import Path

import pytest
import torch
import yaml
from config_choices import cover, effort
from mmdet.datasets import CocoDataset
from mmdet.models.dense_heads import MaskFormerHead
from mmdet.registry import MODELS
from mmdet.structures import TrackDataSample
from mmengine.config import Config
from mmengine.optim import OptimWrapperDict
from mmengine.runner import Runner
from scripts import SHAPES_VERSION

from mmvis_plugin.config import dataset_configs, pretrained_weights, remove_pretrained
from mmvis_plugin.datasets.shapes_vis import make_shapes_vis
from mmvis_plugin.models import IFCNetwork, SipMaskHead, STMaskHead, VideoSegmentor, VisTRNetwork
from mmvis_plugin.models.maskprop.propagation import PropagationHead
from mmvis_plugin.models.maskprop.refinement import MaskRefiner
from mmvis_plugin.models.mssts.decoder import SeqFormerDecoder
from mmvis_plugin.models.mssts.mask_head import SeqFormerMaskHead

ROOT = Path(__file__).resolve().parents[1]
DATASETS = ("shapes", "ytvis19", "ytvis21", "ovis", "coco")
DATALOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")
SIZE = (64, 96)  # height and width of the frames
NUM_FRAMES = 4


def load(path):
    # The package is imported above; the files are only read here.
    return Config.fromfile(path, import_custom_modules=False)


LOADED = {
    path: load(path)
    for path in sorted((ROOT / "configs").rglob("*.py"))
    if "_base_" not in path.parts
}
CONFIGS = list(LOADED)


def method_folder(config):
    """The folder of a config's method; ablations are in a folder below it."""
    return config.parents[1] if config.parent.name == "ablations" else config.parent


# Others have no training data: they run on weights for images.
TRAINED = {path: cfg for path, cfg in LOADED.items() if cfg.get("train_dataloader")}
FOLDERS = sorted({method_folder(path) for path in CONFIGS})


def each(paths):
    return pytest.mark.parametrize("path", paths, ids=lambda path: path.stem)


def one_of_each_method():
    """For each video model the config with the smallest backbone: bfloat16 is slow on a CPU."""
    chosen = {}
    for path in sorted(TRAINED, key=effort):
        kind = LOADED[path].model.type
        if issubclass(MODELS.get(kind) or object, VideoSegmentor):
            chosen.setdefault(kind, path)
    return sorted(chosen.values())


def nodes(value):
    """Every dict in a nested config."""
    if isinstance(value, dict):
        yield value
        value = value.values()
    elif not isinstance(value, list | tuple):
        return
    for item in value:
        yield from nodes(item)


# --- what a config says -------------------------------------------------------------------------


def methods_of(folder):
    """Pattern of the methods whose configs are in a folder.

    SeqFormer, the baseline of MS-STS VIS, is in its folder. Tracking by detection is any linker
    with any detector.
    """
    patterns = dict(
        mssts="(?:mssts|seqformer)",
        track_by_detection="(?:iou-plus|seq|sort|deepsort|bytetrack|ocsort)_"
        "(?:mask-rcnn|rtmdet-ins|queryinst|mask2former)",
    )
    return patterns.get(folder.name, folder.name)


@each(CONFIGS)
def test_name_follows_the_convention(path):
    """<method>_<backbone>[_<variant>]_<dataset>.py, in the folder of the method."""
    backbone = r"([a-z]+\d+[a-z0-9-]*|swin-[a-z]|cspnext-[a-z])"
    pattern = rf"{methods_of(method_folder(path))}_{backbone}(_[a-z0-9-]+)?_({'|'.join(DATASETS)})"
    assert re.fullmatch(pattern, path.stem)


@each(FOLDERS)
def test_readme_names_every_config(path):
    readme = (path / "README.md").read_text()
    missing = [config.name for config in path.rglob("*.py") if config.name not in readme]
    assert not missing


@each(FOLDERS)
def test_readme_names_no_config_that_does_not_exist(path):
    readme = (path / "README.md").read_text()
    named = set(re.findall(rf"\b{methods_of(path)}_[\w-]*\.py", readme))
    assert named
    assert named <= {config.name for config in path.rglob("*.py")}


@each(FOLDERS)
def test_metafile_names_every_config(path):
    models = yaml.safe_load((path / "metafile.yml").read_text())["Models"]
    assert {ROOT / model["Config"] for model in models} == {*path.rglob("*.py")}
    for model in models:
        assert model["Name"] == Path(model["Config"]).stem
        if not model.get("Weights", "https://").startswith("https://"):
            made = json.loads((ROOT / model["Weights"]).with_suffix(".json").read_text())
            assert model["SHA256"] == made["sha256"]
    index = yaml.safe_load((ROOT / "model-index.yml").read_text())["Import"]
    assert str((path / "metafile.yml").relative_to(ROOT)) in index


@each(TRAINED)
def test_pretrained_weights_are_https_urls_or_shipped(path):
    cfg = LOADED[path]
    assert not re.search(r"(torchvision|open-mmlab)://", json.dumps(cfg.to_dict(), default=str))
    weights = pretrained_weights(cfg)
    if path.stem.endswith("_shapes"):
        files = [Path(file).resolve() for file in weights.values()]
        assert all(file.parent == ROOT / "weights" and file.is_file() for file in files)
    else:
        assert weights
        assert all(file.startswith("https://") for file in weights.values())


@each([path for path in TRAINED if not path.stem.endswith("_shapes")])
def test_benchmark_configs_read_the_files_of_their_dataset(path):
    """Trains and validates on the two parts of the training JSON and tests on the official one."""
    cfg = LOADED[path]
    name = path.stem.split("_")[-1]
    ours = dict(dataset_configs(cfg))
    if any(dataset["type"] == "COCOClips" for dataset in ours.values()):
        name += "_coco_joint"
    expected = dict(dataset_configs(load(ROOT / "configs" / "_base_" / "datasets" / f"{name}.py")))
    assert ours.keys() == expected.keys()
    for place, dataset in ours.items():
        for key in ("type", "data_root", "ann_file", "data_prefix", "benchmark"):
            assert dataset.get(key) == expected[place].get(key), (place, key)


# --- what it does -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny_videos(tmp_path_factory):
    """Function: a video of a few frames for each split, with the classes of a dataset."""
    root = tmp_path_factory.mktemp("tiny")

    def make(categories):
        folder = root / categories
        if not folder.exists():
            drawn = "ytvis19" if categories == "coco" else categories
            make_shapes_vis(folder, 1, 1, (24, 24), SIZE, categories=drawn, version=SHAPES_VERSION)
            images = folder / "valid" / "JPEGImages"
            for video in images.iterdir():
                video.rename(folder / "train" / "JPEGImages" / video.name)
            for split in ("train", "valid"):
                keep_first_frames(folder / f"{split}.json")
                if categories == "coco":
                    frames_as_images(folder / f"{split}.json")
        return folder

    return make


def keep_first_frames(json_file):
    content = json.loads(json_file.read_text())
    for video in content["videos"]:
        video.update(length=NUM_FRAMES, file_names=video["file_names"][:NUM_FRAMES])
    for annotation in content["annotations"]:
        for key in ("segmentations", "bboxes", "areas"):
            annotation[key] = annotation[key][:NUM_FRAMES]
        annotation["length"] = NUM_FRAMES
    content["annotations"] = [a for a in content["annotations"] if any(a["segmentations"])]
    assert content["annotations"]
    json_file.write_text(json.dumps(content))


def frames_as_images(json_file):
    """Rewrite a video JSON as one of single images with COCO's classes."""
    videos = json.loads(json_file.read_text())
    images, annotations, ids = [], [], {}
    for video in videos["videos"]:
        for t, name in enumerate(video["file_names"]):
            ids[video["id"], t] = len(images) + 1
            size = dict(height=video["height"], width=video["width"])
            images.append(dict(id=len(images) + 1, file_name=name, **size))
    for track in videos["annotations"]:
        for t, mask in enumerate(track["segmentations"]):
            if mask:
                annotations.append(
                    dict(
                        id=len(annotations) + 1,
                        image_id=ids[track["video_id"], t],
                        category_id=track["category_id"],
                        segmentation=mask,
                        bbox=track["bboxes"][t],
                        area=track["areas"][t],
                        iscrowd=0,
                    )
                )
    names = CocoDataset.METAINFO["classes"]
    categories = [dict(id=i, name=name) for i, name in enumerate(names, start=1)]
    json_file.write_text(
        json.dumps(dict(images=images, annotations=annotations, categories=categories))
    )


@pytest.fixture
def small(tiny_videos, tmp_path):
    """Function: a config file's config on the tiny videos; its model starts at random."""

    def read(path):
        cfg = copy.deepcopy(LOADED[path])
        remove_pretrained(cfg)
        for name, dataset in dataset_configs(cfg):
            of_coco = dataset["type"] == "COCOClips"
            videos = tiny_videos("coco" if of_coco else path.stem.split("_")[-1])
            put_in_place(
                dataset, videos, "train" if name.startswith("train") else "valid", tmp_path
            )
            for transform in nodes(dataset["pipeline"]):
                if transform.get("type") == "ResizeShortSide":
                    transform["side"] = min(SIZE)
                    transform.pop("max_long_side", None)
                elif transform.get("type") == "RandomResize":  # drawn between two scales
                    transform["scale"] = [SIZE[::-1]] * 2
                elif "Resize" in transform.get("type", ""):
                    transform["scale"] = SIZE[::-1]
        for node in (*nodes(cfg.model), *nodes(cfg.train_dataloader.dataset)):
            # A sixth of a long clip, in the model and in its data alike.
            if node.get("clip_length", 0) > 8:
                node["clip_length"] = -(-node["clip_length"] // 6)
        if cfg.model.type == "VisTR":
            shorten_vistr(cfg)
        for name in ("val", "test"):
            # CocoMetric reads the file of its loader.
            if "ann_file" in cfg[f"{name}_evaluator"]:
                dataset = cfg[f"{name}_dataloader"].dataset
                cfg[f"{name}_evaluator"].ann_file = f"{dataset.data_root}/{dataset.ann_file}"
        for loader in DATALOADERS:
            # Batches are the shapes configs' business: the others are slow enough.
            batch_size = min(cfg[loader].batch_size, 2 if path.stem.endswith("_shapes") else 1)
            cfg[loader].update(batch_size=batch_size, num_workers=0, persistent_workers=False)
        cfg.work_dir = str(tmp_path / "work")
        cfg.experiment_name = cfg.visualizer.name = str(tmp_path)
        return cfg

    return read


def shorten_vistr(cfg):
    """Likewise of VisTR, whose windows are its clips."""
    sampling = cfg.train_dataloader.dataset.pipeline[0]
    sampling.length = -(-sampling.length // 6)
    length = max(sampling.length, 2)
    cfg.model.windows.update(length=length, overlap=length // 2)
    if cfg.model.network.queries.per in ("prediction", "frame"):
        sampling.length = cfg.model.network.queries.num_frames = length


def put_in_place(dataset, videos, split, folder):
    """Lay the videos out as the dataset's config expects them, in another folder."""
    root = folder / dataset["data_root"]
    dataset["data_root"] = str(root)
    (prefix,) = dataset["data_prefix"].values()
    ann_file, images = root / dataset["ann_file"], root / prefix
    for link, target in (
        (ann_file, videos / f"{split}.json"),
        (images, videos / "train" / "JPEGImages"),
    ):
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.exists():
            link.symlink_to(target)


def initialized(cfg):
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    return model


def without_memory(cfg):
    """The model of a config with shapes only, no weights."""
    # Swin reads its drop path rates back from a tensor.
    reads_tensors = any(node.get("type") == "SwinTransformer" for node in nodes(cfg.model))
    with torch.device("cpu" if reads_tensors else "meta"):
        return MODELS.build(cfg.model)


@pytest.fixture
def runner_of(monkeypatch):
    """Function: the Runner of a config, all of it built."""

    def build(cfg, build_model=initialized):
        monkeypatch.setattr(Runner, "build_model", lambda self, model: build_model(cfg))
        # It would move the model to a device.
        monkeypatch.setattr(Runner, "wrap_model", lambda self, wrapper, model: model)
        for slow in ("_log_env", "dump_config"):
            monkeypatch.setattr(Runner, slow, lambda self, *args: None)
        runner = Runner.from_cfg(cfg)
        runner._train_loop = runner.build_train_loop(cfg.train_cfg)
        runner._val_loop = runner.build_val_loop(cfg.val_cfg)
        runner._test_loop = runner.build_test_loop(cfg.test_cfg)
        runner.optim_wrapper = runner.build_optim_wrapper(cfg.optim_wrapper)
        runner.param_schedulers = runner.build_param_scheduler(cfg.param_scheduler)
        return runner

    return build


def train_step(runner):
    """One iteration; losses and gradients are checked."""
    model = runner.model
    model.train()
    batch = next(iter(runner.train_dataloader))
    losses = model(**model.data_preprocessor(batch, True), mode="loss")
    loss, log = model.parse_losses(losses)
    assert loss.isfinite(), log
    loss.backward()
    missing = []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if parameter.grad is None:
            missing.append(name)
        else:
            assert parameter.grad.isfinite().all(), name
    assert not missing
    optimizers = runner.optim_wrapper
    for optimizer in (
        optimizers.values() if isinstance(optimizers, OptimWrapperDict) else [optimizers]
    ):
        optimizer.step()
        optimizer.zero_grad()


def be_confident(model):
    """Let an untrained detector find objects of class 0 that fill its anchors.

    The features of a deep untrained backbone are so large that it may well find nothing.
    """
    for name, module in model.named_modules():
        if name.endswith(("rpn_reg", "fc_reg", "fc_cls", "conv_logits")):
            module.weight.data.zero_()
        if name.endswith(("fc_cls", "conv_logits")):
            module.bias.data[0] = 6
        if isinstance(module, PropagationHead):
            module.attention.bias.data.fill_(6)
            module.predict.weight.data *= 100  # an instance that has a pixel has nearly all of it
        if isinstance(module, MaskRefiner):
            module.predict.bias.data.fill_(6)
        if isinstance(module, SeqFormerDecoder):
            for branch in module.class_branches:
                branch.weight.data.zero_()
                branch.bias.data[module.first_class] = 6
        if isinstance(module, SeqFormerMaskHead):
            last = module.controller.layers[-1]
            last.weight.data.zero_()
            last.bias.data.zero_()
            last.bias.data[-1] = 6  # that of the last generated convolution: all of the frame
        if isinstance(module, MaskFormerHead):  # Mask2Former's, too
            features, embedding = module.pixel_decoder.mask_feature, module.mask_embed[-1]
            for layer, bias in ((module.cls_embed, 0), (features, 1), (embedding, 1)):
                layer.weight.data.zero_()
                layer.bias.data.fill_(bias)
            module.cls_embed.bias.data[0] = 6
        if isinstance(module, IFCNetwork):
            features = module.mask_head.pointwise
            class_layer, mask_layer = module.class_head.layers[-1], module.mask_embed.layers[-1]
            for layer, bias in ((class_layer, 0), (features, 1), (mask_layer, 1)):
                layer.weight.data.zero_()
                layer.bias.data.fill_(bias)
            class_layer.bias.data[0] = 6
        if isinstance(module, VisTRNetwork):
            last = module.mask_head.out
            last = last if isinstance(last, torch.nn.Conv2d) else last[-1]
            for layer, bias in ((module.class_head, 0), (last, 6)):
                layer.weight.data.zero_()
                layer.bias.data.fill_(bias)
            module.class_head.bias.data[1] = 6  # 0 is absence
        if isinstance(module, SipMaskHead):
            for layer, index, value in (
                (module.conv_cls, 0, 6),
                (module.conv_reg, slice(None), 1),
                (module.conv_centerness, 0, 3),
            ):
                layer.weight.data.zero_()
                layer.bias.data[index] = value
        if isinstance(module, STMaskHead):
            for layers, index, value in (
                (module.reg_preds, slice(None), 0),
                (module.cls_preds, 1, 6),  # 0 is background
                (module.centerness_preds, 0, 3),
                (module.mask_preds, slice(None), 1),
            ):
                for layer in layers:
                    last = getattr(layer, "conv_pred", layer)
                    last.weight.data.zero_()
                    last.bias.data[index] = value


def predict_video(runner):
    """Predictions of the validation video's frames, frame by frame, and their evaluation."""
    model, loop = runner.model, runner.val_loop
    model.eval()
    be_confident(model)
    frames = []
    for batch in loop.dataloader:
        with torch.no_grad():
            outputs = model.val_step(batch)
        loop.evaluator.process(data_samples=outputs, data_batch=batch)
        for sample in outputs:
            if isinstance(sample, TrackDataSample):  # of no frame yet where a method looks ahead
                frames += sample.get("video_data_samples", [])
            else:
                frames.append(sample)
    metrics = loop.evaluator.evaluate(len(loop.dataloader.dataset))
    return frames, metrics


def check_tracked_frames(frames, num_classes):
    assert [frame.frame_id for frame in frames] == list(range(NUM_FRAMES))
    instances = [frame.pred_track_instances for frame in frames]
    assert any(len(found) for found in instances)
    for found in instances:
        assert found.scores.isfinite().all() and found.bboxes.shape == (len(found), 4)
        assert ((found.labels >= 0) & (found.labels < num_classes)).all()
        assert max(Counter(found.instances_id.tolist()).values(), default=0) <= 1
        assert [mask["size"] for mask in found.masks] == [list(SIZE)] * len(found)


@each(TRAINED)
def test_builds_and_loads_data(path, small, runner_of):
    runner = runner_of(small(path), without_memory)
    classes = runner.train_dataloader.dataset.metainfo["classes"]
    heads = [
        node[key]
        for node in nodes(runner.cfg.model)
        for key in ("num_classes", "num_things_classes")
        if key in node
    ]
    assert set(heads) == {len(classes)}
    assert next(iter(runner.train_dataloader))
    assert next(iter(runner.test_dataloader))


def pytest_generate_tests(metafunc):
    if metafunc.function is test_predicts_and_trains:
        paths = TRAINED if metafunc.config.getoption("all_configs") else cover(TRAINED)
        metafunc.parametrize("path", paths, ids=lambda path: path.stem)


def test_predicts_and_trains(path, small, runner_of):
    runner = runner_of(small(path))
    frames, metrics = predict_video(runner)
    assert metrics and all(math.isfinite(value) for value in metrics.values())
    if isinstance(runner.model, VideoSegmentor):
        check_tracked_frames(frames, len(runner.val_dataloader.dataset.metainfo["classes"]))
    else:
        assert len(frames) == NUM_FRAMES and any(len(frame.pred_instances) for frame in frames)
    train_step(runner)


@each(one_of_each_method())
def test_predicts_in_bfloat16(path, small, runner_of):
    runner = runner_of(small(path))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        frames, _ = predict_video(runner)
    check_tracked_frames(frames, len(runner.val_dataloader.dataset.metainfo["classes"]))
