"""One training at a time in a work directory, and which of its checkpoints is the newest."""

import fcntl
import os
import subprocess
import sys

import pytest

from mmvis_plugin.engine import work_dir
from mmvis_plugin.engine.work_dir import WorkDirInUseError, locked, saved_checkpoints

# Holds the lock until its input ends.
HOLDER = """
import sys, types
sys.modules["mmvis_plugin"] = package = types.ModuleType("mmvis_plugin")
package.__path__ = [sys.argv[2]]
config = sys.modules["mmvis_plugin.config"] = types.ModuleType("config")
config.ConfigError = ValueError
engine = sys.modules["mmvis_plugin.engine"] = types.ModuleType("engine")
engine.__path__ = [sys.argv[2] + "/engine"]
from mmvis_plugin.engine.work_dir import locked
with locked(sys.argv[1]):
    print("locked", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """A process, without the heavy imports, that has a work directory."""
    package = os.path.dirname(os.path.dirname(work_dir.__file__))
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path), package],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "locked\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_training_is_refused_until_the_first_ends(holder, tmp_path):
    message = (
        rf"{tmp_path} is in use: the training of process {holder.pid} on \S+, started .* writes"
    )
    with pytest.raises(WorkDirInUseError, match=message), locked(tmp_path):
        pass
    holder.communicate("")
    with locked(tmp_path):
        assert (tmp_path / ".training").exists()
    assert not list(tmp_path.iterdir())


def test_the_folder_of_a_killed_training_is_taken_over(holder, tmp_path, capsys):
    for name in (".iter_5.77.partial.pth", ".weights.77.partial.pth"):
        (tmp_path / name).touch()
    holder.kill()
    holder.wait()
    with locked(tmp_path):
        printed = capsys.readouterr().out
        assert f"process {holder.pid} on" in printed and "stopped before it finished" in printed
        assert f"Removed {tmp_path}/.iter_5.77.partial.pth" in printed
    # The other one is not a training's: its program may be running.
    assert os.listdir(tmp_path) == [".weights.77.partial.pth"]


def test_a_failed_training_leaves_its_name_and_no_lock(tmp_path, capsys):
    with pytest.raises(KeyboardInterrupt), locked(tmp_path):
        raise KeyboardInterrupt
    with locked(tmp_path):
        assert f"the training of process {os.getpid()} on" in capsys.readouterr().out


def test_a_file_system_without_locks_does_not_stop_a_training(tmp_path, monkeypatch):
    def refuse(*args):
        raise OSError(work_dir.errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", refuse)
    with locked(tmp_path):
        pass


def save(folder, *names):
    """Files of these names, each written after the one before it."""
    for age, name in enumerate(names):
        (folder / name).touch()
        os.utime(folder / name, (1000 + age, 1000 + age))


def test_newest_checkpoint(tmp_path):
    assert saved_checkpoints(tmp_path) == []
    save(tmp_path, "iter_9.pth", "iter_10.pth", "best_ytvis.pth")
    newest = [tmp_path / "iter_10.pth", tmp_path / "iter_9.pth"]
    record = tmp_path / "last_checkpoint"
    assert saved_checkpoints(tmp_path) == newest  # killed before it was written
    record.write_text("")  # killed while it was written
    assert saved_checkpoints(tmp_path) == newest
    record.write_text("/moved/since/iter_9.pth")  # killed before iter_10.pth was recorded
    assert saved_checkpoints(tmp_path) == newest
    record.write_bytes(b"\xff\xfe")
    assert saved_checkpoints(tmp_path) == newest


def test_newest_checkpoint_of_a_copied_run(tmp_path):
    """The times of the files are those of the copying; the record stays."""
    save(tmp_path, "iter_10.pth", "iter_9.pth")
    (tmp_path / "last_checkpoint").write_text("/original/iter_10.pth")
    assert saved_checkpoints(tmp_path)[0] == tmp_path / "iter_10.pth"


def test_newest_checkpoint_after_an_older_run_in_the_same_folder(tmp_path):
    save(tmp_path, "iter_3000.pth", "iter_100.pth")
    (tmp_path / "last_checkpoint").write_text(str(tmp_path / "iter_100.pth"))
    assert saved_checkpoints(tmp_path)[0] == tmp_path / "iter_100.pth"


def test_checkpoints_in_another_folder_than_logs(tmp_path):
    elsewhere, logs = tmp_path / "a", tmp_path / "b"
    elsewhere.mkdir()
    logs.mkdir()
    save(elsewhere, "iter_9.pth")
    (logs / "last_checkpoint").write_text(str(elsewhere / "iter_9.pth"))
    assert saved_checkpoints(logs) == [elsewhere / "iter_9.pth"]
