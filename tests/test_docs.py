"""The documentation is true: its links, commands, names and examples.

Conventions in README.md, CONTRIBUTING.md, docs/ and configs/*/README.md: a ``bash`` block holds
complete commands, a ``python`` block code or a config; ``title="FILE"`` names the file that it is;
a block after ``<!-- run -->`` is run on tiny data.
"""

import argparse
import ast
import importlib
import json
import os
import re
import shlex
import subprocess
import sys
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from scripts import ROOT, load_script
from streaming import assert_same, run, run_interleaved, video
from test_help import parser_of  # noqa: F401

from mmvis_plugin.apis import list_configs
from mmvis_plugin.datasets.shapes_vis import make_shapes_vis

PAGES = [
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/**/*.md", "configs/*/README.md")
    for path in sorted(ROOT.glob(pattern))
    if path.name != "CHANGELOG.md"
]
FOLDERS = "benchmarks|configs|demo|docs|mmvis_plugin|requirements|tests|tools|weights"
FENCE = re.compile(
    r"(<!-- run -->\n)?^( *)```(\w*)(?: title=\"(.+?)\")?\n(.*?)^ *```$", re.MULTILINE | re.DOTALL
)
LINK = re.compile(r"\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^)\s]+)\)")
SHAPES_VERSION = Config.fromfile(ROOT / "configs/_base_/datasets/shapes.py")._version
MADE_BY_USERS = re.compile("configs/(overlap_tracker|maskprop/maskprop_r50_mine)")


class Block(NamedTuple):
    """A block of code; whether the tests run it, its language, the file it is, and its text."""

    is_run: bool
    language: str
    title: str
    text: str


def blocks(page, language):
    found = [
        Block(bool(mark), kind, title, re.sub(f"^{indent}", "", text, flags=re.MULTILINE))
        for mark, indent, kind, title, text in FENCE.findall((ROOT / page).read_text())
    ]
    return [block for block in found if block.language == language]


def prose(page):
    return FENCE.sub("", (ROOT / page).read_text())


def files_of(page):
    """Files that a page shows, by their names."""
    return {block.title: block.text for block in blocks(page, "python") if block.title}


# --- links and names -----------------------------------------------------------------------------


def anchors(page):
    """What a page's headings are called in links."""
    text = re.sub(r"```.*?```", "", (ROOT / page).read_text(), flags=re.DOTALL)
    titles = re.findall("^#+ (.+)$", text, re.MULTILINE)
    titles = [re.sub(r"\[(.+?)\]\(.*?\)", r"\1", title) for title in titles]
    return {re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for target in LINK.findall(prose(page)):
        if re.match("https?:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (ROOT / page).parent / path if path else ROOT / page
        assert file.exists(), target
        if anchor:
            assert anchor in anchors(os.path.relpath(file.resolve(), ROOT)), target


@pytest.mark.parametrize("page", PAGES)
def test_files_and_configs_that_are_named_exist(page):
    configs = set(list_configs())
    for name in re.findall(r"`([^`\s]+)`", prose(page)):
        if re.search(r"[*{}<>…\[]", name) or MADE_BY_USERS.match(name):
            continue
        if re.match(f"({FOLDERS})/", name):
            assert list(ROOT.glob(name.split("::")[0].rstrip("/"))) or is_config(name), name
        elif re.fullmatch(r"[a-z0-9]+_r\d+\w*[-\w]*_(shapes|ytvis19|ytvis21|ovis|coco)\.py", name):
            assert name.removesuffix(".py") in configs, name


def is_config(name):
    """Whether a path names a config; configs are found by their names at any depth."""
    return name.endswith(".py") and Path(name).stem in list_configs()


def test_navigation_has_every_page():
    pages = set()

    def collect(entries):
        for entry in entries:
            (content,) = entry.values()
            pages.add(content) if isinstance(content, str) else collect(content)

    collect(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])
    written = {path.relative_to(ROOT / "docs").as_posix() for path in ROOT.glob("docs/**/*.md")}
    assert pages == written | set(load_script("docs/hooks.py").sources())


# --- the site's own code -------------------------------------------------------------------------


def test_links_of_the_repository_fit_the_site():
    fit = load_script("docs/hooks.py").fit_links
    assert fit("[a](../configs/stmask/README.md#weights)", "datasets.md") == (
        "[a](methods/stmask.md#weights)"
    )
    assert fit("[a](../../docs/results.md)", "methods/stmask.md") == "[a](../results.md)"
    assert fit("[a](maskprop_r18_shapes.py)", "methods/maskprop.md") == "a"
    assert fit("![a](tracks.jpg)", "index.md") == "![a](tracks.jpg)"
    assert fit("[a](https://x.org) [b](#c)", "index.md") == "[a](https://x.org) [b](#c)"


def test_model_zoo_lists_the_models_with_weights():
    table = load_script("docs/hooks.py").zoo_table()
    for path in ROOT.glob("configs/*/metafile.yml"):
        for model in yaml.safe_load(path.read_text())["Models"]:
            assert (f"`{model['Name']}`" in table) == bool(model.get("Weights"))


# --- commands ------------------------------------------------------------------------------------


def commands(text):
    """The commands of a bash block as lists of words."""
    for line in text.replace("\\\n", " ").splitlines():
        line = shlex.shlex(line, posix=True, punctuation_chars=True)
        line.whitespace_split = True
        for is_break, part in groupby(line, lambda word: word in ("&&", ";")):
            words = [] if is_break else list(part)
            while words and re.match("[A-Z_]+=", words[0]):
                words = words[1:]
            if words and words[0] != "export":
                yield words


def check_arguments(parser, words):
    """Let a script's own parser read its arguments, but whether files exist."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for sub in action.choices.values():
                check_types(sub)
    check_types(parser)
    try:
        parser.parse_args(words)
    except SystemExit:
        pytest.fail(f"the parser refuses {' '.join(words)}")


def check_types(parser):
    for action in parser._actions:
        if action.type not in (int, float):
            action.type = None


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "bash")])
def test_commands_are_accepted_by_their_scripts(page, parser_of, monkeypatch):  # noqa: F811
    parse_args = argparse.ArgumentParser.parse_args
    configs, targets = set(list_configs()), (ROOT / "Makefile").read_text()
    for block in blocks(page, "bash"):
        for program, *words in commands(block.text):
            if program == "make":
                assert all(f"\n{word}:" in targets for word in words), words
            elif program in ("python", "python3") and words[0].endswith(".py"):
                script, *words = words
                assert (ROOT / script).is_file(), script
                with monkeypatch.context() as patch:
                    parser = parser_of(script)
                    patch.setattr(argparse.ArgumentParser, "parse_args", parse_args)
                    check_arguments(parser, words)
            elif "/" in program:
                assert (ROOT / program).is_file(), program
            else:
                assert program in ("cd", "git", "pip", "python", "pytest", "source", "tensorboard")
            for word in words:
                if word.startswith("configs/") and not MADE_BY_USERS.match(word):
                    assert (ROOT / word).is_file(), word
                if re.fullmatch(r"[a-z0-9]+_r\d+\w*[-\w]*_(shapes|ytvis19|ytvis21|ovis)", word):
                    assert word in configs, word


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")])
def test_code_compiles_and_imports_what_there_is(page):
    for block in blocks(page, "python"):
        tree = ast.parse(block.text)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("mmvis_plugin"):
                module = importlib.import_module(node.module)
                assert all(hasattr(module, alias.name) for alias in node.names), block.text


@pytest.mark.parametrize("page", PAGES)
def test_shapes_are_of_the_version_that_the_configs_name(page):
    for block in blocks(page, "bash"):
        for command in commands(block.text):
            if "make_shapes_vis.py" in " ".join(command) and "--out" not in command:
                assert command[2:4] == ["--version", str(SHAPES_VERSION)], block.text


# --- what is run ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of the repository by links, with tiny data and configs of its own."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("benchmarks", "demo", "mmvis_plugin", "tools", "weights"):
        (folder / name).symlink_to(ROOT / name)
    for path in (*ROOT.glob("configs/**/*.py"), *ROOT.glob("configs/*/metafile.yml")):
        target = folder / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(path.read_text())
    make_shapes_vis(folder / "data/shapes_vis", 1, 1, length=(24, 24), version=SHAPES_VERSION)
    images = folder / "data/shapes_vis/valid/JPEGImages"
    (images / "valid_0016").symlink_to(images / "valid_0000")  # the one that the pages use
    return folder


def run_command(folder, *command, **options):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = dict(os.environ, PATH=path, PYTHONPATH=str(folder), OMP_NUM_THREADS="1")
    done = subprocess.run(
        command, cwd=folder, env=env, capture_output=True, text=True, timeout=600, **options
    )
    assert done.returncode == 0, f"{command}: {done.stdout}\n{done.stderr}"
    return done.stdout


RUN = [
    pytest.param(block, id=f"{page}-{number}")
    for page in PAGES
    for language in ("bash", "python")
    for number, block in enumerate(blocks(page, language))
    if block.is_run
]


@pytest.mark.parametrize("block", RUN)
def test_marked_blocks_run(checkout, block):
    program = ["bash", "-ec"] if block.language == "bash" else ["python", "-c"]
    run_command(checkout, *program, block.text)


def load_shown_config(checkout, page, name):
    """The config that a page shows, in the place that it is to have."""
    path = checkout / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(files_of(page)[name])
    init_default_scope("mmdet")
    return Config.fromfile(path, import_custom_modules=False)


def test_config_for_own_data_changes_all_that_it_must(checkout):
    cfg = load_shown_config(checkout, "docs/own_data.md", "configs/maskprop/maskprop_r50_mine.py")
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        assert loader.dataset.data_root == "data/mine/"
        assert loader.dataset.data_prefix.img_path == "frames/"
        assert loader.dataset.ann_file.startswith("train_sub-")
    model = MODELS.build(cfg.model)
    heads = model.detector.roi_head
    assert heads.bbox_head.num_classes == heads.mask_head.num_classes == 5


@pytest.fixture
def overlap_tracker(checkout, monkeypatch):
    """The model of docs/new_method.md, with its weights."""
    page = "docs/new_method.md"
    (checkout / "overlap_tracker.py").write_text(files_of(page)["overlap_tracker.py"])
    monkeypatch.syspath_prepend(str(checkout))
    monkeypatch.chdir(checkout)
    importlib.import_module("overlap_tracker")
    config = "configs/overlap_tracker/overlap_tracker_r18_shapes.py"
    model = MODELS.build(load_shown_config(checkout, page, config).model)
    model.init_weights()
    yield model.eval()
    sys.modules.pop("overlap_tracker")
    MODELS.module_dict.pop("OverlapTracker")


def test_new_method_keeps_the_contract_of_streaming(overlap_tracker):
    overlap_tracker.detector.test_cfg.rcnn.score_thr = 0.0  # noise has no certain objects
    frames = video(0, 5)
    whole = run(overlap_tracker, frames, 5)
    found = [frame.pred_track_instances.instances_id.tolist() for frame in whole[0]]
    assert all(found) and any(set(a) & set(b) for a, b in zip(found, found[1:], strict=False))
    assert all(len(ids) == len(set(ids)) for ids in found)
    assert_same(whole, run(overlap_tracker, frames, 1))
    for alone, other in zip(
        [run(overlap_tracker, video(seed, 3), 3) for seed in (1, 2)],
        run_interleaved(overlap_tracker, [video(1, 3), video(2, 3)]),
        strict=True,
    ):
        assert_same(alone, other)


def test_frames_are_numbered_by_the_base_class(overlap_tracker):
    state, frames = overlap_tracker.start_video({}), video(0, 2)
    meta = dict(ori_shape=(60, 87), img_shape=(60, 87), scale_factor=(1, 1), frame_id=7)
    first = overlap_tracker.step(state, frames, [meta, meta])
    second = overlap_tracker.step(state, frames[:1], [meta])
    assert [frame.frame_id for frame in first + second] == [0, 1, 2]
    assert state.num_frames == state.num_final == 3
    assert meta["frame_id"] == 7


def test_new_method_trains_and_is_scored(checkout, overlap_tracker):
    options = (
        "train_cfg.max_iters=1 train_cfg.val_interval=1 train_dataloader.num_workers=0 "
        "train_dataloader.persistent_workers=False train_dataloader.batch_size=1"
    )
    config = "configs/overlap_tracker/overlap_tracker_r18_shapes.py"
    run_command(checkout, "python", "tools/train.py", config, "--cfg-options", *options.split())
    (folder,) = (checkout / "work_dirs/overlap_tracker_r18_shapes").glob("*/vis_data")
    figures = [json.loads(line) for line in (folder / "scalars.json").read_text().splitlines()]
    assert figures[-1]["ytvis/AP"] > 0.05  # the detector is trained


def test_notebook_goes_from_an_export_to_tracks(checkout):
    cells = json.loads((ROOT / "docs/notebooks/cvat_to_tracks.ipynb").read_text())["cells"]
    assert not any(cell.get("outputs") for cell in cells)
    script = "import subprocess\n"
    for cell in cells:
        if cell["cell_type"] == "code":
            script += "".join(to_python("".join(cell["source"])))
    tracks = run_command(checkout, "python", "-c", script)
    rows = (checkout / "work_dirs/cvat/tracks.csv").read_text().splitlines()
    assert {row.split(",")[1] for row in rows[1:]} == {"ball", "crate"}
    assert rows[-1] in tracks
    assert (checkout / "work_dirs/cvat/tracks.mp4").stat().st_size > 1000


def to_python(cell):
    """A notebook's cell, of code or of commands, as a program."""
    if not cell.startswith("!"):
        yield cell + "\n"
        return
    for command in cell.replace("\\\n", " ").splitlines():
        yield f"subprocess.run({command.removeprefix('!')!r}, shell=True, check=True)\n"
