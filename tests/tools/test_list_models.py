"""The table of models, and a test of one that is downloaded by its name."""

import json

import pytest
from file_server import published_at, serving

from mmvis_plugin.apis import list_models
from mmvis_plugin.checkpoint import download_folder


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    (tmp_path / "served").mkdir()
    with serving(tmp_path / "served") as server:
        yield server


def listed(tool, capsys, *words):
    """The cells that the tool prints, by heading, of each model by name."""
    tool("list_models", *words)
    lines = [line for line in capsys.readouterr().out.splitlines() if "OneDL" not in line]
    starts = [lines[0].index(name) for name in lines[0].split()]
    cuts = [*zip(starts, starts[1:], strict=False), (starts[-1], None)]
    head, *rows = ([line[start:end].strip() for start, end in cuts] for line in lines)
    return {row[0]: dict(zip(head, row, strict=True)) for row in rows}


def test_the_table_has_every_model_with_what_it_is(tool, capsys, server):
    rows = listed(tool, capsys)
    assert list(rows) == [model.name for model in list_models()]
    assert rows["masktrack_rcnn_r50_ytvis19"] == {
        "name": "masktrack_rcnn_r50_ytvis19",
        "classes": "40 of YouTube-VIS 2019",
        "delay": "none",
        "MB": "233",
        "AP": "30.2",
        "licence": "Apache-2.0",
        "weights": "MMDetection",
    }
    assert rows["stmask_r50-dcn_fca_ytvis19"]["licence"] == "none stated"
    assert rows["stmask_r50-dcn_fca_ytvis19"]["weights"] == "STMask's authors"
    assert rows["maskprop_r18_shapes"]["delay"] == "6 frames"
    assert rows["maskprop_r18_shapes"]["weights"] == "here"
    assert rows["minvis_r50_coco"]["classes"] == "80 of COCO"


def test_words_choose_and_a_downloaded_model_is_here(tool, capsys, server):
    name = "masktrack_rcnn_r50_ytvis19"
    download_folder().mkdir(parents=True)
    next(model for model in list_models() if model.name == name).file.touch()
    rows = listed(tool, capsys, "masktrack", "ytvis19")
    assert {row: cells["weights"] for row, cells in rows.items()} == {
        "masktrack_rcnn_r101_ytvis19": "MMDetection",
        "masktrack_rcnn_r50_ytvis19": "here",
        "masktrack_rcnn_x101-64x4d_ytvis19": "MMDetection",
    }
    with pytest.raises(SystemExit, match="no model has a name that contains masktrack and cow"):
        tool("list_models", "masktrack", "cow")


def test_the_weights_of_a_name_are_downloaded_and_tested(tool, shapes, server, tmp_path):
    (file,) = (model.file for model in list_models() if model.name == "maskprop_r18_shapes")
    (server.folder / file.name).write_bytes(file.read_bytes())
    config = published_at(server, tmp_path, "maskprop_r18_shapes", file.name, License=None)
    places = ["--data-root", shapes, "--work-dir", tmp_path / "run", "--out", tmp_path / "r.json"]
    small = [f"{name}_dataloader.num_workers=0" for name in ("train", "val", "test")]
    settings = ["--cfg-options", f"experiment_name={tmp_path}", *small]
    with pytest.raises(SystemExit, match="--accept-licence"):
        tool("test", config, *places, *settings)
    assert not server.requests
    tool("test", config, "--accept-licence", *places, *settings)
    assert server.requests == {file.name: [None]}
    assert json.loads((tmp_path / "r.json").read_text())
