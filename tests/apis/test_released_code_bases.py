"""A file of each code base, as its authors release it, becomes a model by the config's name."""

import hashlib
import subprocess
import sys

import pytest
import stmask_original
import torch
from fake_segmentor import make_frame
from file_server import published_at, serving
from mmdet.registry import MODELS
from mmengine.registry import init_default_scope
from scripts import ROOT
from seqformer_original import released_layout as seqformer_layout

from mmvis_plugin.apis import VideoWriter, VISInferencer
from mmvis_plugin.apis.releases import find_release
from mmvis_plugin.checkpoint import CheckpointDownloadError, download_folder
from mmvis_plugin.config import find_config, load_config, remove_pretrained
from mmvis_plugin.ytvis.categories import YTVIS19

SMALL = (96, 72)


def random_weights(layout):
    """Small values, the same in every run, that no layer makes infinite."""
    generator = torch.Generator().manual_seed(0)
    return {
        key: torch.ones(shape)
        if key.endswith("running_var")
        else 0.01 * torch.randn(shape, generator=generator)
        for key, shape in layout.items()
    }


def stmask():
    return random_weights(stmask_original.released_layout())


def seqformer():
    weights = random_weights(seqformer_layout())
    for key in weights:
        if ".decoder.bbox_embed." in key:  # the same modules under two names
            weights[key] = weights[key.replace("transformer.decoder.", "")]
    return {"model": weights, "epoch": 11}


def mmtracking(rename="{} of the file".format):
    """MMTracking's files of 2021 have the class names in their meta, under ``CLASSES``."""
    cfg = load_config("masktrack_rcnn_r50_ytvis19")
    remove_pretrained(cfg)
    init_default_scope("mmdet")
    model = MODELS.build(cfg.model)
    layout = {key: value.shape for key, value in model.state_dict().items()}
    names = tuple(map(rename, YTVIS19))
    return {"state_dict": random_weights(layout), "meta": {"CLASSES": names}}


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    (tmp_path / "served").mkdir()
    with serving(tmp_path / "served") as server:
        yield server


def resize_of(cfg):
    """Options that let a config segment at a small size."""
    for number, step in enumerate(cfg.test_dataloader.dataset.pipeline[0].transforms):
        place = f"test_dataloader.dataset.pipeline.0.transforms.{number}"
        if step.type == "Resize":
            return {f"{place}.scale": SMALL}
        if step.type == "ResizeShortSide":
            return {f"{place}.side": SMALL[1]}
    raise AssertionError("nothing resizes")


@pytest.mark.parametrize(
    ("config", "make"),
    [
        ("stmask_r50-dcn_fca_ytvis19", stmask),
        ("seqformer_r50_joint_ytvis19", seqformer),
        ("masktrack_rcnn_r50_ytvis19", mmtracking),
    ],
)
def test_a_released_file_becomes_a_model(tmp_path, server, config, make):
    file = server.folder / "released.pth"
    torch.save(make(), file)
    content = file.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    name = published_at(server, tmp_path, config, file.name, SHA256=sha256)
    options = resize_of(load_config(config))
    # It breaks off twice, so that the first call fails; the next one goes on.
    server.cuts[file.name] = [10_000_000, 10_000_000]
    with pytest.raises(CheckpointDownloadError, match="ended after 10000000 of"):
        VISInferencer(name, device="cpu", accept_licence=True, cfg_options=options)
    with VISInferencer(name, device="cpu", cfg_options=options) as inferencer:
        results = list(inferencer([make_frame(0), make_frame(1)]))
    assert [result.index for result in results] == [0, 1]
    assert server.requests[file.name] == [None, "bytes=10000000-", "bytes=10000000-"]
    assert server.sent[file.name] == len(content)

    own_layout = make is mmtracking
    names = YTVIS19 if not own_layout else tuple(f"{name} of the file" for name in YTVIS19)
    assert inferencer.classes == names
    kept = [path.name for path in download_folder().glob("*.pth")]
    assert len(kept) == (1 if own_layout else 2)  # what was downloaded, and what it became
    # Without a network and without the downloaded file, the converted one is enough.
    file.unlink()
    if not own_layout:
        find_release(name).file.unlink()
    assert VISInferencer(name, device="cpu", cfg_options=options).model.weights.is_file()


def test_the_readme_shows_what_the_demo_prints(tmp_path, server):
    """The block under its first command, but for lines that it leaves out."""
    blocks = (ROOT / "README.md").read_text().split("```")
    command, shown = (block.strip().splitlines() for block in (blocks[1], blocks[3]))
    assert "".join(command[1:]) == (
        "python demo/video_demo.py street.mp4 masktrack_rcnn_r50_ytvis19 --out tracks.mp4"
    )
    name = find_release(find_config("masktrack_rcnn_r50_ytvis19")).file.name
    torch.save(mmtracking(rename=str), server.folder / name)
    sha256 = hashlib.sha256((server.folder / name).read_bytes()).hexdigest()
    entry = dict(File=name, SHA256=sha256)  # the hash in the name is not that of random weights
    config = published_at(server, tmp_path, "masktrack_rcnn_r50_ytvis19", name, **entry)
    video = tmp_path / "street.mp4"
    with VideoWriter(video, 10, (96, 72)) as writer:
        writer.write(make_frame(0, (96, 72)))
    script = [sys.executable, ROOT / "demo/video_demo.py", "street.mp4", config]
    command = [*map(str, script), "--out", "tracks.mp4", "--device", "cpu"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    printed = result.stderr + result.stdout
    for line in filter(lambda line: line != "...", shown):
        assert line in printed, printed
