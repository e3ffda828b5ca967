import errno
import json
import os
import socket
import subprocess

import pytest

from mmvis_plugin.files import (
    check_writable,
    creating,
    natural_key,
    replacing,
    temporary_path,
    write_json,
    write_text,
)


def test_writes_and_replaces_and_makes_folders(tmp_path):
    path = tmp_path / "a" / "b.json"
    write_json({"x": [1, 2.5]}, path)
    write_json({"y": None}, str(path))
    assert json.loads(path.read_text()) == {"y": None}
    write_text("\u00e9\n", tmp_path / "a" / "c.md")
    assert (tmp_path / "a" / "c.md").read_bytes() == b"\xc3\xa9\n"
    assert sorted(os.listdir(tmp_path / "a")) == ["b.json", "c.md"]


def test_failed_writing_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "out.json"
    write_json([1], path)
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json([float("nan")], path)
    with pytest.raises(KeyError), replacing(path) as temporary:
        temporary.write_text("half of")
        raise KeyError

    def full(*args):
        raise OSError("the disk is full")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="full"):
        write_json([2], path)
    assert json.loads(path.read_text()) == [1] and os.listdir(tmp_path) == ["out.json"]


def test_what_cannot_be_written_is_told_before(tmp_path, monkeypatch):
    check_writable(tmp_path / "a" / "b.json")
    assert not list((tmp_path / "a").iterdir())
    with pytest.raises(IsADirectoryError, match="/a is a folder: name a file to write$"):
        check_writable(tmp_path / "a")
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"/file/b\.json cannot be written, .* \(File exists\): name"):
        check_writable(tmp_path / "file" / "b.json")

    def read_only(**kwargs):  # the superuser, whom tests may run as, can write to any folder
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), f"{kwargs['dir']}/random name")

    monkeypatch.setattr("tempfile.TemporaryFile", read_only)
    with pytest.raises(OSError, match=r"/b\.json cannot be written, .* \(Read-only file system\)"):
        check_writable(tmp_path / "b.json")


def test_folder_is_there_when_it_is_whole(tmp_path):
    elsewhere = tmp_path / "disk" / "shapes"
    elsewhere.mkdir(parents=True)
    (tmp_path / "link").symlink_to(elsewhere)
    for target in (tmp_path / "a" / "new", tmp_path / "link"):
        with pytest.raises(KeyboardInterrupt), creating(target) as temporary:
            (temporary / "half").touch()
            raise KeyboardInterrupt
        with creating(target) as temporary:
            (temporary / "whole").touch()
            assert not target.exists() and str(os.getpid()) in temporary.name
        assert os.listdir(target) == ["whole"]
    assert (tmp_path / "link").is_symlink() and os.listdir(elsewhere.parent) == ["shapes"]
    with pytest.raises(OSError, match="not empty"), creating(elsewhere):
        pytest.fail("the work was begun")
    assert os.listdir(elsewhere) == ["whole"]


def test_the_suffix_stays(tmp_path):
    with replacing(tmp_path / "plot.png") as temporary:
        assert temporary.suffix == ".png" and temporary.parent == tmp_path
        temporary.touch()


def test_what_a_killed_process_left_is_removed(tmp_path):
    """Of this target and of processes of this machine that are gone, and nothing else."""
    target = tmp_path / "tracks[1].json"
    running = temporary_path(target)
    gone = subprocess.Popen(["true"])
    gone.wait()
    host = socket.gethostname()
    left = [f".{target.name}.{host}.{gone.pid}.partial{end}" for end in (".json", ".spool", "")]
    kept = [
        f".{target.name}.elsewhere.{gone.pid}.partial.json",
        f".other.json.{host}.{gone.pid}.partial.json",
        f".{target.name}.{host}.notes.partial.json",
        running.name,
    ]
    for name in [*left[:2], *kept]:
        (tmp_path / name).touch()
    (tmp_path / left[2]).mkdir()
    (tmp_path / left[2] / "000000.png").touch()
    with replacing(target) as temporary:
        assert sorted(os.listdir(tmp_path)) == sorted(kept) and temporary == running
        temporary.touch()


def test_what_another_machine_left_is_named(tmp_path, caplog):
    left = tmp_path / ".tracks.json.node.7.local.12.partial.json"
    left.touch()
    write_json([1], tmp_path / "tracks.json")
    assert f"{left} was not finished by a process on node.7.local; remove" in caplog.text
    assert left.exists()


@pytest.mark.parametrize("write", [replacing, creating])
def test_a_full_disk_is_told_with_the_path(tmp_path, write):
    path = tmp_path / "out"
    message = f"^{path} cannot be written to: No space left on device$"
    for name in (None, ".out"):  # of a file that is open, or that cannot be made
        with pytest.raises(OSError, match=message), write(path) as temporary:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name and str(temporary))
    assert not os.listdir(tmp_path)


def test_names_with_numbers_are_in_order_of_the_numbers():
    names = ["10.jpg", "9.jpg", "a2b10", "a2b9", "a10b1", "9"]
    expected = ["9", "9.jpg", "10.jpg", "a2b9", "a2b10", "a10b1"]
    assert sorted(names, key=natural_key) == expected
