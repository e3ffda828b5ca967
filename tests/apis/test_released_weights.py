"""Models by name: weights are found, downloaded, converted and agreed to."""

import io
import json
from types import SimpleNamespace

import pytest
import torch
import yaml
from fake_segmentor import CLASSES, CONFIG, make_frame
from file_server import serving
from scripts import load_script

from mmvis_plugin.apis import VISInferencer, build_video_segmentor, list_models
from mmvis_plugin.apis.image_models import MMDET_CONFIGS
from mmvis_plugin.apis.released_weights import LicenceError
from mmvis_plugin.apis.releases import find_release
from mmvis_plugin.checkpoint import CheckpointDownloadError, CheckpointError, download_folder
from mmvis_plugin.config import ConfigError
from mmvis_plugin.files import resource_root, write_picture
from mmvis_plugin.ytvis.categories import SHAPES, YTVIS19

NAME = "red_r50_ytvis19"


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    (tmp_path / "served").mkdir()
    with serving(tmp_path / "served") as server:
        yield server


@pytest.fixture
def release(tmp_path, server):
    """Writes a config with a metafile whose weights are on the server; returns the config."""

    def write(name="red.pth", score=0.875, meta=None, **entry):
        weights = {"state_dict": {"score": torch.tensor(score)}, "meta": meta or {}}
        torch.save(weights, server.folder / name)
        folder = tmp_path / "configs/red"
        folder.mkdir(parents=True, exist_ok=True)
        config = folder / f"{NAME}.py"
        config.write_text(CONFIG.format(look_ahead=0))
        model = {
            "Name": NAME,
            "Config": f"configs/red/{NAME}.py",
            "Metadata": {"Training Data": "YouTube-VIS 2019"},
            "Weights": f"{server.address}/{name}",
            "Source": "nobody",
            "License": "Apache-2.0",
        } | entry
        model = {key: value for key, value in model.items() if value is not None}
        content = {"Collections": [{"Name": "Red"}], "Models": [model]}
        (folder / "metafile.yml").write_text(yaml.safe_dump(content))
        return config

    return write


def test_the_config_alone_finds_its_weights(release, server):
    config = release()
    with VISInferencer(config, device="cpu") as inferencer:
        result = next(inferencer([make_frame(0)]))
    assert [track.score for track in result.tracks] == [0.875]
    assert VISInferencer(config, device="cpu").model.weights.parent == download_folder()
    assert server.requests == {"red.pth": [None]}  # the second time it was in the cache


def test_the_demo_takes_a_config_alone(release, server, tmp_path, capsys):
    demo = load_script("demo/video_demo.py")
    frames = tmp_path / "street"
    frames.mkdir()
    write_picture(make_frame(0), frames / "0.png")
    config = release(meta={"CLASSES": CLASSES}, License=None)
    command = [str(frames), str(config), "--out", str(tmp_path / "tracks.mp4"), "--device", "cpu"]
    with pytest.raises(LicenceError, match="--accept-licence"):
        demo.main(command)
    assert demo.main([*command, "--accept-licence"]) == 0
    assert "tracks: 1 (box 1)" in capsys.readouterr().out
    assert server.requests == {"red.pth": [None]}


def test_the_users_own_file_is_taken_as_before(release, server, tmp_path):
    own = tmp_path / "own.pth"
    torch.save({"state_dict": {"score": torch.tensor(0.25)}}, own)
    model = build_video_segmentor(release(), own, "cpu")
    assert model.score.item() == 0.25 and model.weights == own
    assert not server.requests


def test_class_names_are_those_of_the_file_else_of_the_dataset(release):
    def classes(number, **meta):
        return VISInferencer(release(f"{number}.pth", meta=meta), device="cpu").classes

    assert classes(1, dataset_meta={"classes": CLASSES}) == ("ball", "box")
    assert classes(2, CLASSES=CLASSES) == ("ball", "box")  # MMDetection 2.x and MMTracking
    assert classes(3) == YTVIS19


def test_mirrors_and_the_hash_in_the_name(release, server):
    name = f"red-{'0' * 8}.pth"
    with pytest.raises(CheckpointDownloadError, match=rf"{NAME}: .*should begin with 00000000"):
        build_video_segmentor(release(name), None, "cpu")
    mirrors = [f"{server.address}/red.pth"]
    config = release("red.pth", Weights=f"{server.address}/gone/red.pth", Mirrors=mirrors)
    assert build_video_segmentor(config, None, "cpu").score.item() == 0.875


def test_without_a_network_the_user_puts_the_file_there(release, server, monkeypatch):
    monkeypatch.setenv("MMVIS_OFFLINE", "1")
    config = release(File="red of the authors.pth")
    with pytest.raises(CheckpointDownloadError) as error:
        build_video_segmentor(config, None, "cpu")
    assert f"save it as {download_folder()}/red of the authors.pth" in str(error.value)
    (server.folder / "red.pth").rename(download_folder() / "red of the authors.pth")
    assert build_video_segmentor(config, None, "cpu").score.item() == 0.875


def test_nothing_is_downloaded_to_measure_a_model(release, server):
    model = build_video_segmentor(release(), None, "cpu", require_weights=False)
    assert model.weights is None and not server.requests


def test_weights_that_come_with_the_config(release, tmp_path):
    config = release(Weights="weights/red.pth")
    with pytest.raises(FileNotFoundError, match=r"weights/red\.pth.*make weights"):
        build_video_segmentor(config, None, "cpu")
    (tmp_path / "weights").mkdir()
    (tmp_path / "served/red.pth").rename(tmp_path / "weights/red.pth")
    assert build_video_segmentor(config, None, "cpu").score.item() == 0.875


def test_a_model_of_shapes_says_so_on_other_videos(release, tmp_path, caplog):
    inferencer = VISInferencer(release(meta={"CLASSES": SHAPES}), device="cpu")
    frames = tmp_path / "shapes/valid/JPEGImages/valid_0000"
    frames.mkdir(parents=True)
    write_picture(make_frame(0), frames / "0.png")
    inferencer(frames).close()
    assert "nothing but the painted shapes of ShapesVIS (striped_circle" in caplog.text
    caplog.clear()
    (tmp_path / "shapes/valid.json").write_text('{"info": {"description": "ShapesVIS valid"}}')
    inferencer(frames).close()
    assert not caplog.text
    inferencer([make_frame(0)]).close()
    assert "nothing but the painted shapes" in caplog.text


# --- licences ----------------------------------------------------------------------------------


def test_a_licence_that_limits_use_is_agreed_to_once(release, server, capsys):
    config = release(License="CC-BY-NC-4.0")
    with pytest.raises(LicenceError, match="--accept-licence"):
        build_video_segmentor(config, None, "cpu")
    notice = "The licence of the weights from nobody limits their use: CC-BY-NC-4.0.\n"
    assert capsys.readouterr().err == notice
    assert not server.requests
    build_video_segmentor(config, None, "cpu", accept_licence=True)
    assert notice in capsys.readouterr().err
    VISInferencer(release("other.pth", License="CC-BY-NC-4.0"), device="cpu")
    assert notice not in capsys.readouterr().err


def test_a_licence_that_is_missing_is_agreed_to(release, capsys):
    with pytest.raises(LicenceError):
        build_video_segmentor(release(License=None), None, "cpu")
    assert "No licence is stated for the weights from nobody." in capsys.readouterr().err
    assert VISInferencer(release(License=None), device="cpu", accept_licence=True)


@pytest.mark.parametrize(("answer", "agrees"), [("y\n", True), ("\n", False)])
def test_a_terminal_asks(release, capsys, monkeypatch, answer, agrees):
    terminal = SimpleNamespace(isatty=lambda: True, readline=lambda: answer)
    monkeypatch.setattr("sys.stdin", terminal)
    error = io.StringIO()
    error.isatty = lambda: True
    monkeypatch.setattr("sys.stderr", error)
    config = release(License=None)
    if agrees:
        build_video_segmentor(config, None, "cpu")
    else:
        with pytest.raises(LicenceError):
            build_video_segmentor(config, None, "cpu")
    assert "Do you agree to this? [y/N]" in error.getvalue()


def test_mmdetections_own_configs_have_their_weights():
    release = find_release(MMDET_CONFIGS / "rtmdet/rtmdet-ins_s_8xb32-300e_coco.py")
    assert "/rtmdet-ins_s_8xb32-300e_coco_" in release.addresses[0]
    assert len(release.sha256) == 8 and release.licence == "Apache-2.0"
    without = MMDET_CONFIGS / "mask_rcnn/mask-rcnn_r18_fpn_8xb8-amp-lsj-200e_coco.py"
    with pytest.raises(FileNotFoundError, match="another model of this method: mask-rcnn_r50"):
        VISInferencer(f"mmdet::mask_rcnn/{without.name}", linker="bytetrack", device="cpu")


# --- metafiles ---------------------------------------------------------------------------------


def test_a_metafile_that_cannot_be_read_is_named(release):
    config = release()
    config.with_name("metafile.yml").write_text("Models: [")
    with pytest.raises(ConfigError, match=r"metafile\.yml cannot be read: while parsing"):
        find_release(config)


def test_a_config_without_a_metafile_has_no_release(tmp_path):
    (tmp_path / "red.py").touch()
    assert find_release(tmp_path / "red.py") is None and find_release(None) is None


def test_shipped_models_are_listed_with_what_they_know():
    models = {model.name: model for model in list_models()}
    shapes = models["maskprop_r18_shapes"]
    assert shapes.is_shipped and shapes.knows_shapes_only and len(shapes.classes) == 6
    assert (shapes.ap, shapes.delay, shapes.licence) == (62.9, "6 frames", "Apache-2.0")
    made = json.loads(shapes.file.with_suffix(".json").read_text())
    assert shapes.megabytes == made["bytes"] / 1e6
    assert "mask_rcnn_r18_shapes" not in models  # an image model
    assert all(model.config.is_file() and model.delay != "unknown" for model in models.values())
    assert all(model.megabytes > 1 and model.classes for model in models.values())
    assert shapes.config.is_relative_to(resource_root())


def test_a_file_that_does_not_fit_says_what_is_missing_and_left_over(release, server):
    config = release()
    torch.save({"state_dict": {"scores": torch.tensor(1.0)}}, server.folder / "red.pth")
    message = r"1 of the model's parameters \(score\) and has 1 that the model lacks \(scores\)"
    with pytest.raises(CheckpointError, match=message):
        build_video_segmentor(config, None, "cpu")
