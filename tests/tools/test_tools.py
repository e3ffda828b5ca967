"""tools/train.py and tools/test.py: what they refuse, and how they say so."""

import json
import os
import resource

import pytest
import torch
from scripts import SHAPES_VERSION

ONE_ITERATION = "train_cfg = dict(max_iters=1)\n"
SAVED = dict(meta=dict(seed=0), state_dict={}, message_hub={}, optimizer={})


class RunsOnLoad:
    """Pickles as a call that writes a marker file when it is loaded."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("way", ["resume", "auto", "load_from", "init_cfg", "test"])
def test_malicious_checkpoint_does_not_run(toy_config, tool, tmp_path, way):
    marker, path = tmp_path / "marker", tmp_path / "iter_1.pth"
    torch.save(dict(SAVED, extra=RunsOnLoad(marker)), path)
    (tmp_path / "last_checkpoint").write_text(str(path))
    extra = {
        "load_from": f"load_from = '{path}'\n",
        "init_cfg": f"model['init_cfg'] = dict(type='Pretrained', checkpoint='{path}')\n",
    }.get(way, "")
    config = toy_config(ONE_ITERATION + extra)
    options = {
        "resume": ["train", config, "--resume", path],
        "auto": ["train", config, "--resume"],
        "test": ["test", config, path],
    }.get(way, ["train", config])
    with pytest.raises(SystemExit, match=r"^error: .*iter_1\.pth was not loaded.*system"):
        tool(*options, "--work-dir", tmp_path)
    assert not marker.exists()


def test_no_pretrained_trains_without_the_weights(toy_config, train_here, tool, tmp_path, capsys):
    weights = dict(type="Pretrained", checkpoint="https://127.0.0.1:9/start.pth")
    config = toy_config(ONE_ITERATION + f"model['init_cfg'] = {weights}\nload_from = 'none.pth'\n")
    with pytest.raises(SystemExit, match="https://127.0.0.1:9/start.pth.*--no-pretrained"):
        tool("train", config, "--work-dir", tmp_path)
    capsys.readouterr()
    train_here(config, tmp_path / "run", "--no-pretrained")
    assert (tmp_path / "run/iter_1.pth").exists()
    output = "".join(capsys.readouterr())
    assert "not loading model.init_cfg = https://127.0.0.1:9/start.pth" in output
    assert "not loading load_from = none.pth" in output


@pytest.mark.parametrize("name", ["train", "test"])
def test_errors_are_one_line(toy_config, tool, tmp_path, name):
    checkpoint = tmp_path / "weights.pth"
    torch.save(SAVED, checkpoint)
    arguments = [checkpoint] if name == "test" else []
    with pytest.raises(SystemExit, match="^error: argument config: none.py: no such config file"):
        tool(name, "none.py", *arguments)
    loader = "train_dataloader" if name == "train" else "test_dataloader"
    missing = f"{loader}['dataset'].update(data_root='{tmp_path}/shapes/', ann_file='train.json')\n"
    # Data comes first: weights may take a download.
    missing += "load_from = 'none.pth'\n"
    with pytest.raises(SystemExit, match="^error: .*shapes/train.json.*make_shapes_vis.py"):
        tool(name, toy_config(ONE_ITERATION + missing), *arguments)
    with pytest.raises(SystemExit, match="^error: --launcher slurm"):
        tool(name, toy_config(), *arguments, "--launcher", "slurm", "--work-dir", tmp_path)


@pytest.mark.parametrize("name", ["train", "test"])
def test_configs_of_the_package_go_by_their_name(tool, tmp_path, name):
    arguments = ["maskprop_r18_shapes"] + ["https://127.0.0.1:9/none.pth"] * (name == "test")
    with pytest.raises(SystemExit, match=f"^error: .*{tmp_path}/shapes.*make_shapes_vis.py"):
        tool(name, *arguments, "--data-root", tmp_path / "shapes")


@pytest.mark.parametrize("name", ["train", "test"])
def test_data_of_another_version_stops(tool, tmp_path, name):
    arguments = ["maskprop_r18_shapes"] + ["https://127.0.0.1:9/none.pth"] * (name == "test")
    info = dict(description="ShapesVIS", version=f"{SHAPES_VERSION + 1}.0")
    for split in ("train", "valid"):
        (tmp_path / split / "JPEGImages").mkdir(parents=True)
        (tmp_path / f"{split}.json").write_text(json.dumps(dict(info=info)))
    message = rf"^error: .*is version {SHAPES_VERSION + 1} of .*--version {SHAPES_VERSION} --out"
    with pytest.raises(SystemExit, match=message):
        tool(name, *arguments, "--data-root", tmp_path)


@pytest.mark.parametrize(
    "option, message",
    [
        ("modle.nosuch=3", "^error: option modle.nosuch: nothing reads modle; did you mean model"),
        ("model.nosuch=3", "^error: option model.nosuch: ToyModel takes no such argument$"),
        ("train_dataloader.nosuch=3", "^error: option train_dataloader.nosuch: nothing reads it$"),
        (
            "optim_wrapper.optimizer.nosuch=3",
            "^error: option optim_wrapper.*nosuch: AdamW takes no such",
        ),
        (
            "model.type=NoModel",
            "^error: option model.type: there is no NoModel; did you mean ",
        ),
    ],
)
def test_settings_that_fit_nothing_are_named(toy_config, tool, tmp_path, option, message):
    name = f"experiment_name={tmp_path}"
    with pytest.raises(SystemExit, match=message):
        tool("train", toy_config(), "--work-dir", tmp_path, "--cfg-options", name, option)


@pytest.mark.parametrize(
    "option, message",
    [
        (
            "model.detector.bbox_head.centerness_order=row",
            "^error: .*choose 'kernel' or 'position'",
        ),
        # The validation videos, which the first iteration would not need.
        ("val_dataloader.dataset.metainfo.classes=('cat',)", "^error: .*cat"),
    ],
)
def test_values_that_do_not_fit_are_told_before_training(tool, shapes, tmp_path, option, message):
    options = [f"experiment_name={tmp_path}"]
    options += [f"{loader}_dataloader.num_workers=0" for loader in ("train", "val", "test")]
    with pytest.raises(SystemExit, match=message):
        tool(
            *("train", "stmask_r18_shapes", "--data-root", shapes, "--no-pretrained"),
            *("--work-dir", tmp_path / "run", "--cfg-options", *options, option),
        )
    assert not [*tmp_path.glob("run/*.pth")]


def test_number_of_classes_must_be_that_of_the_training_data(tool, shapes, tmp_path):
    heads = "model.detector.roi_head"
    options = [f"{heads}.{head}.num_classes=5" for head in ("bbox_head", "mask_head")]
    message = (
        rf"^error: {shapes}/train\.json has 6 classes \(striped_circle, .*\), but "
        rf"{heads}\.bbox_head\.num_classes is 5 and {heads}\.mask_head\.num_classes is 5: "
        "set them to 6$"
    )
    options += ["train_dataloader.num_workers=0", "train_dataloader.persistent_workers=False"]
    options += [f"experiment_name={tmp_path}"]
    with pytest.raises(SystemExit, match=message):
        tool(
            *("train", "maskprop_r18_shapes", "--data-root", shapes, "--no-pretrained"),
            *("--work-dir", tmp_path, "--cfg-options", *options),
        )


@pytest.fixture
def toy_weights():
    """Those of a ToyModel: a linear layer, two modules without parameters, and another."""
    shapes = {"0.weight": (8, 4), "0.bias": (8,), "3.weight": (1, 8), "3.bias": (1,)}
    return {f"layers.{name}": torch.ones(shape) for name, shape in shapes.items()}


@pytest.fixture
def score(toy_config, tool, tmp_path):
    """Function: run tools/test.py on a checkpoint with these contents."""
    path = tmp_path / "weights.pth"

    def run(extra="", **contents):
        torch.save(contents, path)
        name = f"experiment_name={tmp_path}/{len(list(tmp_path.iterdir()))}"
        work_dir = tmp_path / "run"
        tool("test", toy_config(extra), path, "--work-dir", work_dir, "--cfg-options", name)

    return run


def test_checkpoint_of_another_model_is_not_scored(score, toy_weights):
    fits_not = r"^error: .*/weights\.pth does not fit .*/toy\.py: "
    part = {name: toy_weights[name] for name in ("layers.0.weight", "layers.0.bias")}
    with pytest.raises(SystemExit, match=fits_not + r"it lacks 2 .*\(layers.3.weight, .*bias\)"):
        score(state_dict=part)
    with pytest.raises(
        SystemExit,
        match=fits_not + r"it lacks 4 .*, \.\.\.\) and has 1 .*\(backbone",
    ):
        score(state_dict={"backbone.weight": torch.ones(1)})
    other = {**toy_weights, "layers.3.bias": torch.ones(2)}
    with pytest.raises(SystemExit, match=fits_not + r"layers\.3\.bias is \[2\] in it"):
        score(state_dict=other)


def test_checkpoints_of_training_are_scored(score, toy_weights, capsys):
    beside = {"discriminator.weight": torch.ones(1)}
    meta = dict(dataset_meta=dict(classes=("a", "b")), iter=3)
    score(state_dict={**toy_weights, **beside}, meta=meta, optimizer={}, message_hub={})
    score(**toy_weights)
    score(state_dict={f"module.{name}": value for name, value in toy_weights.items()})
    assert "".join(capsys.readouterr()).count("mean: ") == 3


@pytest.mark.parametrize(
    "meta, names",
    [
        (dict(dataset_meta=dict(classes=("b", "a"))), "2: b, a; here 2: a, b"),
        (
            dict(dataset_meta=dict(CLASSES=["a", *"cdefg"])),
            r"6: \.{3}, c, d, e, \.{3}; here 2: .*",
        ),
        (dict(CLASSES=("a",)), r"1: \.{3}; here 2: \.{3}, b"),
    ],
)
def test_checkpoint_of_other_classes_is_not_scored(score, toy_weights, meta, names):
    message = rf"^error: .*/weights\.pth was trained on other classes than .* \({names}\): use the"
    with pytest.raises(SystemExit, match=message):
        score(state_dict=toy_weights, meta=meta)


def test_problems_while_testing_are_one_line(score, toy_weights):
    extra = "test_evaluator = dict(type='YTVISMetric', ann_file='none.json')\n"
    with pytest.raises(SystemExit, match="^error: .*none.json"):
        score(extra, state_dict=toy_weights)
    with pytest.raises(SystemExit, match="^error: .*ann_file"):
        score("test_evaluator = dict(type='YTVISMetric')\n", state_dict=toy_weights)


def test_a_full_disk_while_testing_is_one_line(toy_config, tool, toy_weights, tmp_path, capsys):
    path, config = tmp_path / "weights.pth", toy_config()
    torch.save(dict(state_dict=toy_weights), path)
    options = ["--work-dir", tmp_path / "run", "--cfg-options", f"experiment_name={tmp_path}"]
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))
    try:
        with pytest.raises(SystemExit, match=r"^error: \S+/environment.txt cannot be written to: "):
            tool("test", config, path, *options)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "Logging error" not in capsys.readouterr().err


def test_frames_that_workers_cannot_read_are_one_line(toy_config, train_here, score, toy_weights):
    broken = "dict(num_workers=1, batch_size=1, dataset=dict(type='BrokenVideos'))"
    with pytest.raises(SystemExit, match=r"^error: 0\.jpg is cut off$"):
        score(f"test_dataloader.update({broken})\n", state_dict=toy_weights)
    config = toy_config(f"{ONE_ITERATION}train_dataloader.update({broken})\n")
    with pytest.raises(SystemExit, match=r"^error: 0\.jpg is cut off$"):
        train_here(config, config.parent / "train")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_amp_without_a_gpu(toy_config, tool, tmp_path):
    with pytest.raises(SystemExit, match="^error: --amp .* GPU"):
        tool("train", toy_config(), "--amp", "--work-dir", tmp_path)


def test_results_need_a_json_name_and_a_video_metric(toy_config, tool, tmp_path):
    checkpoint = tmp_path / "weights.pth"
    torch.save(SAVED, checkpoint)
    with pytest.raises(SystemExit, match="^error: --out must end in .json"):
        tool("test", toy_config(), checkpoint, "--out", "results.pkl")
    with pytest.raises(SystemExit, match="^error: --out .*YTVISMetric"):
        tool("test", toy_config(), checkpoint, "--out", "results.json")
    with pytest.raises(SystemExit, match="^error: --show-dir .*YTVISMetric"):
        tool("test", toy_config(), checkpoint, "--show-dir", tmp_path / "tracks")


@pytest.mark.parametrize("name", ["train", "test"])
def test_help_has_an_example(tool, capsys, name):
    tool(name, "--help")
    assert f"python tools/{name}.py configs/" in capsys.readouterr().out
