import hashlib
import inspect
import resource
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from file_server import serving

from mmvis_plugin.fetching import DownloadError, fetch

CONTENT = np.random.default_rng(0).bytes(3_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server(tmp_path):
    (tmp_path / "served").mkdir()
    (tmp_path / "served/model.pth").write_bytes(CONTENT)
    with serving(tmp_path / "served") as server:
        yield server


@pytest.fixture
def file(tmp_path):
    return tmp_path / "cache/model.pth"


def files_of(path):
    return sorted(p.name for p in path.parent.iterdir())


def test_a_file_is_downloaded_once(server, file):
    address = f"{server.address}/model.pth"
    for _ in range(2):
        assert fetch([address], file, SHA256[:8]) == file
    assert file.read_bytes() == CONTENT
    assert server.requests == {"model.pth": [None]}
    assert files_of(file) == [".model.pth.lock", "model.pth"]


def test_a_broken_download_goes_on_where_it_ended(server, file):
    server.cuts["model.pth"] = [1_000_000, 2_500_000]
    fetch([f"{server.address}/model.pth"], file, SHA256)
    assert file.read_bytes() == CONTENT
    assert server.requests["model.pth"] == [None, "bytes=1000000-", "bytes=2500000-"]
    assert server.sent["model.pth"] == len(CONTENT)  # no byte twice


def test_the_next_call_goes_on_where_the_last_one_ended(server, file):
    server.cuts["model.pth"] = [1000, 1000]  # the second connection brings nothing
    with pytest.raises(DownloadError, match=r"model\.pth \(the connection ended after 1000 of"):
        fetch([f"{server.address}/model.pth"], file)
    assert not file.exists()
    fetch([f"{server.address}/model.pth"], file, SHA256)
    assert server.requests["model.pth"][-1] == "bytes=1000-"
    assert file.read_bytes() == CONTENT


def break_off(server, file):
    server.cuts["model.pth"] = [1000, 1000]
    with pytest.raises(DownloadError):
        fetch([f"{server.address}/model.pth"], file)


def test_a_server_without_ranges_sends_the_file_again(server, file):
    server.ranges = False
    server.cuts["model.pth"] = [1000]
    fetch([f"{server.address}/model.pth"], file, SHA256)
    assert file.read_bytes() == CONTENT


def test_parts_of_two_versions_are_not_joined(server, file):
    break_off(server, file)
    server.tag = '"v2"'
    new = CONTENT[::-1]
    (server.folder / "model.pth").write_bytes(new)
    assert fetch([f"{server.address}/model.pth"], file).read_bytes() == new


def test_a_server_that_does_not_tell_versions_apart_sends_the_file_again(server, file):
    server.tag = None
    break_off(server, file)
    fetch([f"{server.address}/model.pth"], file, SHA256)
    assert {*server.requests["model.pth"]} == {None}


def test_mirrors_are_tried_in_turn(server, file):
    addresses = [f"{server.address}/{name}" for name in ("missing.pth", "page.pth", "model.pth")]
    assert fetch(addresses, file, SHA256).read_bytes() == CONTENT
    with pytest.raises(DownloadError) as error:
        fetch(addresses[:2], file.with_name("other.pth"))
    assert str(error.value) == (
        f"cannot download {addresses[0]} (HTTP Error 404: Not Found) nor {addresses[1]} "
        "(it gives a web page, not the file). Download it elsewhere, save it as "
        f"{file.parent}/other.pth, and run the same command again"
    )


def test_a_file_with_a_wrong_hash_is_not_kept(server, file):
    with pytest.raises(DownloadError, match=f"SHA-256 is {SHA256}, but should begin with 0123"):
        fetch([f"{server.address}/model.pth"], file, "0123")
    assert files_of(file) == [".model.pth.lock"]


def test_a_file_that_the_user_put_there_is_checked(server, file):
    file.parent.mkdir()
    file.write_bytes(b"something else")
    with pytest.raises(DownloadError, match="model.pth is damaged or another file.*Delete it"):
        fetch([f"{server.address}/model.pth"], file, SHA256)
    file.write_bytes(b"\n<!DOCTYPE HTML><html>")
    with pytest.raises(DownloadError, match="model.pth is a web page, not the file. Delete it"):
        fetch([f"{server.address}/model.pth"], file)
    file.write_bytes(CONTENT)
    assert fetch([f"{server.address}/model.pth"], file, SHA256) == file
    assert not server.requests


def test_no_network_and_the_offline_switch(server, file, monkeypatch):
    with pytest.raises(DownloadError, match=r"127.0.0.1:9/model.pth \(.*refused\). Download it"):
        fetch(["http://127.0.0.1:9/model.pth"], file)
    monkeypatch.setenv("MMVIS_OFFLINE", "1")
    with pytest.raises(DownloadError, match=r"\(MMVIS_OFFLINE is set\). Download it"):
        fetch([f"{server.address}/model.pth"], file)
    assert not server.requests
    monkeypatch.setenv("MMVIS_OFFLINE", "0")
    fetch([f"{server.address}/model.pth"], file)


def test_a_disk_with_too_little_room_is_not_filled(server, file):
    with pytest.raises(DownloadError, match=r"has 1,000,000,000 MB, and only [\d,]+ MB are free"):
        fetch([f"{server.address}/huge.pth"], file)
    assert not file.exists()


def test_a_write_that_fails_is_one_line(server, file):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, limits[1]))
    try:
        with pytest.raises(DownloadError, match=r"cannot write .*model\.pth\.part: File too large"):
            fetch([f"{server.address}/model.pth"], file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not file.exists()
    fetch([f"{server.address}/model.pth"], file, SHA256)


def test_several_that_want_a_file_download_it_once(server, file):
    address = f"{server.address}/model.pth"
    threads = [threading.Thread(target=fetch, args=([address], file, SHA256)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert file.read_bytes() == CONTENT
    assert server.requests == {"model.pth": [None]}


DRIVE = "https://drive.google.com/file/d/1AbC-x_9/view?usp=sharing"


def test_google_drive_goes_through_gdown(file, monkeypatch):
    def download(url=None, output=None, quiet=False, id=None, resume=False):
        assert (url, id, resume) == (None, "1AbC-x_9", True)
        with open(output, "wb") as target:
            target.write(CONTENT)

    monkeypatch.setitem(sys.modules, "gdown", SimpleNamespace(download=download))
    assert fetch([DRIVE], file, SHA256).read_bytes() == CONTENT


def test_without_gdown_the_user_can_download_the_file(file, monkeypatch):
    monkeypatch.setitem(sys.modules, "gdown", None)
    with pytest.raises(DownloadError) as error:
        fetch([DRIVE], file)
    for part in (DRIVE, "pip install 'mmvis-plugin[drive]'", f"save it as {file}"):
        assert part in str(error.value)
    file.write_bytes(CONTENT)
    assert fetch([DRIVE], file) == file


def test_what_gdown_cannot_do_is_one_line(file, monkeypatch):
    def download(**kwargs):
        raise RuntimeError("Cannot retrieve the public link of the file.\n\tYou may need to")

    monkeypatch.setitem(sys.modules, "gdown", SimpleNamespace(download=download))
    message = r"sharing \(Cannot retrieve the public link of the file\. You may need to\)\. "
    with pytest.raises(DownloadError, match=message):
        fetch([DRIVE], file)


def test_gdown_takes_these_arguments():
    gdown = pytest.importorskip("gdown")
    inspect.signature(gdown.download).bind(id="1", output="x", resume=True)
