"""A file of each code base, as its authors release it, becomes a model by the config's name."""

import hashlib

import pytest
import stmask_original
import torch
import yaml
from fake_segmentor import make_frame
from file_server import serving
from mmdet.registry import MODELS
from mmengine.registry import init_default_scope
from seqformer_original import released_layout as seqformer_layout

from mmvis_plugin.apis import VISInferencer
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


def mmtracking():
    """MMTracking's files of 2021 have the class names in their meta, under ``CLASSES``."""
    cfg = load_config("masktrack_rcnn_r50_ytvis19")
    remove_pretrained(cfg)
    init_default_scope("mmdet")
    model = MODELS.build(cfg.model)
    layout = {key: value.shape for key, value in model.state_dict().items()}
    names = tuple(f"{name} of the file" for name in YTVIS19)
    return {"state_dict": random_weights(layout), "meta": {"CLASSES": names}}


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    (tmp_path / "served").mkdir()
    with serving(tmp_path / "served") as server:
        yield server


def published_at(server, folder, config, file, sha256):
    """A copy of a config's entry in its metafile whose weights are on a server.

    Returns:
        Path: The config that goes with it.
    """
    release = find_release(find_config(config))
    copy = folder / release.entry["Config"]
    copy.parent.mkdir(parents=True)
    copy.write_text(f"_base_ = {str(release.config)!r}\n")
    entry = dict(release.entry, Weights=f"{server.address}/{file}", SHA256=sha256, Mirrors=[])
    content = {"Collections": [], "Models": [entry]}
    (copy.parent / "metafile.yml").write_text(yaml.safe_dump(content))
    return copy


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
    name = published_at(server, tmp_path, config, file.name, sha256)
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
