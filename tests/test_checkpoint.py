import argparse
import collections
import functools
import http.server
import os
import pickle
import threading
import zipfile

import command_line
import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.optim import OptimWrapper
from mmengine.optim.scheduler import OneCycleLR
from mmengine.runner.checkpoint import CheckpointLoader
from torch import nn

from mmvis_plugin.checkpoint import (
    CheckpointDownloadError,
    CheckpointError,
    cached_path,
    check_checkpoint,
    class_names,
    load_checkpoint_safely,
)


class RunsOnLoad:
    """Pickles as a call that writes a marker file when it is loaded."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


class ReachesGlobals:
    """Pickles as an attribute from which a program's globals can be reached."""

    def __reduce__(self):
        return getattr, (HistoryBuffer.update, "__globals__")


@pytest.fixture
def training_checkpoint(tmp_path):
    """A checkpoint with all that MMEngine's Runner writes."""
    model = nn.Linear(2, 1)
    optimizer = OptimWrapper(torch.optim.AdamW(model.parameters()))
    scheduler = OneCycleLR(optimizer, eta_max=1e-3, total_steps=4, by_epoch=False)
    hub = MessageHub("test_checkpoint")
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    scheduler.step()
    hub.update_scalar("train/loss", np.float32(0.5))
    hub.update_info("numpy", dict(score=np.float64(0.25), flags=np.array([True]), n=np.int64(3)))
    path = tmp_path / "iter_1.pth"
    checkpoint = dict(
        meta=dict(iter=1, seed=0, dataset_meta=dict(classes=("a",), palette=np.eye(3))),
        state_dict=model.state_dict(),
        message_hub=hub.state_dict(),
        optimizer=optimizer.state_dict(),
        param_schedulers=[scheduler.state_dict()],
    )
    torch.save(checkpoint, path)
    return path


def test_loads_training_checkpoints(training_checkpoint):
    checkpoint = load_checkpoint_safely(training_checkpoint)
    assert checkpoint["message_hub"]["runtime_info"]["numpy"]["score"] == 0.25
    assert checkpoint["message_hub"]["log_scalars"]["train/loss"].current() == 0.5
    assert checkpoint["param_schedulers"][0]["anneal_func"](1.0, 0.0, 1.0) == pytest.approx(0)
    assert torch.equal(
        checkpoint["state_dict"]["bias"], torch.load(training_checkpoint)["state_dict"]["bias"]
    )


def test_types_have_the_form_that_every_pytorch_takes(training_checkpoint, monkeypatch):
    """Before 2.6 PyTorch looked at ``__module__`` and ``__name__`` of all that is on its list."""
    unpickler = torch._weights_only_unpickler

    def by_name():
        return {f"{f.__module__}.{f.__name__}": f for f in torch.serialization.get_safe_globals()}

    monkeypatch.setattr(unpickler, "_get_user_allowed_globals", by_name)
    test_loads_training_checkpoints(training_checkpoint)
    names = by_name().keys()
    functions = {f"numpy.{core}.multiarray.scalar" for core in ("core", "_core")}
    assert {"builtins.getattr", *functions} <= names


def test_pytorch_that_knows_plain_weights_only_says_so(training_checkpoint, monkeypatch):
    monkeypatch.setattr(torch._weights_only_unpickler, "_get_user_allowed_globals", dict)
    with pytest.raises(CheckpointError, match="HistoryBuffer.*Get a file with plain weights"):
        load_checkpoint_safely(training_checkpoint)
    monkeypatch.delattr(torch.serialization, "add_safe_globals")
    with pytest.raises(CheckpointError, match="HistoryBuffer.*from 2.4 on it opens training"):
        load_checkpoint_safely(training_checkpoint)


def test_mmengine_loads_what_passed_and_does_not_change_what_passes(training_checkpoint):
    CheckpointLoader.load_checkpoint(str(training_checkpoint), map_location="cpu")
    assert check_checkpoint(training_checkpoint) == training_checkpoint


def test_loads_numpy_values_of_either_major_version(tmp_path):
    """NumPy 2 moved numpy.core to numpy._core; the file is the other version's."""
    data = dict(array=np.arange(3.0), scalar=np.float32(2))
    path, other = tmp_path / "this.pth", tmp_path / "other.pth"
    torch.save(data, path)
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(other, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name.endswith("data.pkl"):
                new, old = b"numpy._core.multiarray", b"numpy.core.multiarray"
                assert new in content or old in content
                content = content.replace(*((new, old) if new in content else (old, new)))
            target.writestr(name, content)
    loaded = load_checkpoint_safely(other)
    assert loaded["scalar"] == 2 and np.array_equal(loaded["array"], data["array"])


@pytest.mark.parametrize("zip_format", [True, False])
def test_code_in_a_checkpoint_does_not_run(tmp_path, zip_format):
    marker, path = tmp_path / "marker", tmp_path / "bad.pth"
    checkpoint = dict(state_dict=dict(weight=torch.ones(1)), extra=RunsOnLoad(marker))
    torch.save(checkpoint, path, _use_new_zipfile_serialization=zip_format)
    with pytest.raises(CheckpointError, match=r"bad\.pth was not loaded.*system"):
        check_checkpoint(path)
    assert not marker.exists()
    # The file is what it is meant to be.
    torch.load(path, weights_only=False)
    assert marker.exists()


def test_plain_pickle_is_refused(tmp_path):
    marker, path = tmp_path / "marker", tmp_path / "bad.pth"
    path.write_bytes(pickle.dumps(dict(extra=RunsOnLoad(marker)), protocol=2))
    with pytest.raises(CheckpointError, match="bad.pth"):
        check_checkpoint(path)
    assert not marker.exists()


def test_methods_in_a_checkpoint_are_only_those_of_training_state(tmp_path):
    torch.save(dict(extra=ReachesGlobals()), tmp_path / "bad.pth")
    with pytest.raises(CheckpointError, match="bad.pth was not loaded"):
        check_checkpoint(tmp_path / "bad.pth")


def test_extra_types_hold_for_one_load(tmp_path):
    path = tmp_path / "args.pth"
    torch.save(dict(args=argparse.Namespace(lr=0.1)), path)
    with pytest.raises(CheckpointError, match="argparse.Namespace"):
        load_checkpoint_safely(path)
    assert load_checkpoint_safely(path, [argparse.Namespace])["args"].lr == 0.1
    with pytest.raises(CheckpointError):
        load_checkpoint_safely(path)


@pytest.mark.parametrize("content", [b"", b"hello", None])
def test_damaged_files_are_named(training_checkpoint, content):
    if content is None:
        content = training_checkpoint.read_bytes()[:-500]
    training_checkpoint.write_bytes(content)
    with pytest.raises(CheckpointError, match="iter_1.pth"):
        check_checkpoint(training_checkpoint)


def test_other_content_and_missing_files(tmp_path):
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(CheckpointError, match="holds a list"):
        check_checkpoint(tmp_path / "list.pth")
    with pytest.raises(CheckpointError, match="missing.pth does not exist"):
        check_checkpoint(tmp_path / "missing.pth")


def test_addresses_are_looked_up_in_the_cache(tmp_path, monkeypatch, training_checkpoint):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    url = "http://127.0.0.1:9/models/weights-0123abcd.pth?x=1"
    with pytest.raises(CheckpointDownloadError) as error:
        check_checkpoint(url)
    assert url in str(error.value) and str(cached_path(url)) in str(error.value)
    assert not cached_path(url).exists()
    training_checkpoint.rename(cached_path(url))
    assert check_checkpoint(url) == cached_path(url)
    assert cached_path(url) == tmp_path / "hub/checkpoints/weights-0123abcd.pth"


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Address of a web server with the files of a folder; ``short`` comes without its last byte."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))

    class Handler(http.server.SimpleHTTPRequestHandler):
        def copyfile(self, source, outputfile):
            content = source.read()
            outputfile.write(content[:-1] if "short" in self.path else content)

        def log_message(self, *args):
            pass

    handler = functools.partial(Handler, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_addresses_that_end_in_the_same_name_are_different_files(tmp_path, server):
    for run in "ab":
        (tmp_path / run).mkdir()
        torch.save(dict(run=run), tmp_path / run / "epoch_12.pth")
    for run in "ab":
        url = f"{server}/{run}/epoch_12.pth"
        assert load_checkpoint_safely(url) == dict(run=run)
        # MMEngine loads what was checked, without the network.
        (tmp_path / run / "epoch_12.pth").unlink()
        assert CheckpointLoader.load_checkpoint(url, map_location="cpu") == dict(run=run)


def test_broken_downloads_are_not_kept(tmp_path, server, training_checkpoint):
    training_checkpoint.rename(tmp_path / "short.pth")
    size = (tmp_path / "short.pth").stat().st_size
    message = rf"short\.pth \(the connection ended after {size - 1} of {size} bytes\)\. Download it"
    with pytest.raises(CheckpointDownloadError, match=message):
        check_checkpoint(f"{server}/short.pth")
    assert not list((tmp_path / "cache/hub/checkpoints").glob("*.pth"))


@pytest.mark.parametrize("damage", [slice(-500), slice(0)])
def test_damaged_download_says_how_to_fix_it(tmp_path, server, training_checkpoint, damage):
    url = f"{server}/iter_1.pth"
    file = check_checkpoint(url)
    file.write_bytes(file.read_bytes()[damage])
    with pytest.raises(CheckpointError, match=f"damaged.* Delete {file} to download it again\\.$"):
        check_checkpoint(url)
    file.unlink()
    assert check_checkpoint(url) == file


def test_programs_forbid_mmengine_to_fall_back_to_running_the_pickle(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "0")  # put back after the test
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    marker, path = tmp_path / "marker", tmp_path / "bad.pth"
    torch.save(collections.OrderedDict(weight=RunsOnLoad(marker)), path)
    command_line.forbid_unsafe_loading()
    with pytest.raises(pickle.UnpicklingError):
        CheckpointLoader.load_checkpoint(str(path), map_location="cpu")
    assert not marker.exists()


# --- contents that cannot be right ---------------------------------------------------------------


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_weights_that_are_no_numbers_are_refused(tmp_path, value, dtype):
    path, weight = tmp_path / "diverged.pth", torch.ones(3, 2, dtype=dtype)
    weight[2, 1] = value
    good = dict(count=torch.ones(1, dtype=torch.int64), big=torch.ones(1).expand(10**12))
    for contents in (dict(good, weight=weight), dict(state_dict=dict(good, weight=weight))):
        torch.save(contents, path)
        message = r"diverged\.pth has values that are NaN or infinite in 1 of its 3 .*\(weight"
        with pytest.raises(CheckpointError, match=message):
            load_checkpoint_safely(path)
    torch.save(good, path)
    assert load_checkpoint_safely(path).keys() == good.keys()


@pytest.mark.parametrize(
    "contents, message",
    [
        (dict(state_dict=[1]), "has a list as its state_dict"),
        (dict(meta=[1]), "has a list as its meta"),
        (dict(meta="text"), "has a str as its meta"),
        (dict(meta=torch.zeros(2)), "has a Tensor as its meta"),
        (dict(meta=dict(dataset_meta=torch.zeros(0))), "has a Tensor as its dataset_meta"),
        (dict(meta=dict(CLASSES=torch.zeros(2))), "has a Tensor as its class names"),
        (dict(meta=dict(dataset_meta=("a",))), "has a tuple as its dataset_meta"),
        (dict(meta=dict(dataset_meta={"classes": "person"})), "has a str as its class names"),
        (dict(meta=dict(dataset_meta={"CLASSES": dict(a=1)})), "has a dict as its class names"),
        (dict(meta=dict(CLASSES=5)), "has a int as its class names"),
        (dict(meta=dict(CLASSES=("a", 5))), "has 5 among its class names"),
        (dict(meta=dict(CLASSES=("a", None))), "has None among its class names"),
        (dict(meta=dict(CLASSES=("a", " "))), "has ' ' among its class names"),
        (dict(meta=dict(CLASSES=("a", "b", "a"))), "names the class 'a' twice"),
        (dict(meta=dict(dataset_meta=dict(category_ids=7))), "has category_ids that are not"),
        (dict(meta=dict(dataset_meta=dict(category_ids=("1",)))), "has category_ids that are"),
    ],
)
def test_contents_of_another_type_are_named(tmp_path, contents, message):
    path = tmp_path / "odd.pth"
    torch.save(contents, path)
    with pytest.raises(CheckpointError, match=rf"odd\.pth {message}"):
        load_checkpoint_safely(path)


@pytest.mark.parametrize("meta", [None, {}, dict(dataset_meta=None), {"CLASSES": None, 3: 4}])
def test_a_checkpoint_may_do_without_meta(tmp_path, meta):
    torch.save(dict(state_dict={}, meta=meta), tmp_path / "plain.pth")
    assert class_names(load_checkpoint_safely(tmp_path / "plain.pth")) == ()


def test_a_small_file_that_unpacks_to_a_large_one_is_not_unpacked(tmp_path, monkeypatch):
    path, packed = tmp_path / "whole.pth", tmp_path / "packed.pth"
    torch.save(dict(state_dict=dict(weight=torch.zeros(10**7))), path)
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as out:
        for name in source.namelist():
            out.writestr(name, source.read(name))
    assert packed.stat().st_size < 10**6
    assert load_checkpoint_safely(path)["state_dict"]["weight"].numel() == 10**7

    def fail(*args, **kwargs):
        raise AssertionError("the file was unpacked")

    monkeypatch.setattr(torch, "load", fail)
    with pytest.raises(CheckpointError, match=r"packed\.pth was not loaded: .* to 4000\d+ bytes"):
        load_checkpoint_safely(packed)
