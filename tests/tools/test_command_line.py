"""What the scripts' command lines share: arguments are checked, and errors are one line."""

import math
import os
import signal
import subprocess
import sys
import time
from fractions import Fraction

import pytest
from scripts import ROOT, load_script

command_line = load_script("tools/command_line.py")


def parse(add, *argv):
    parser = command_line.make_parser("what it does", "example:\n  python tool.py")
    add(parser)
    return parser.parse_args(argv)


def refusal(capsys, add, *argv):
    with pytest.raises(SystemExit) as stop:
        parse(add, *argv)
    assert stop.value.code == 2
    out = capsys.readouterr().err
    assert out.startswith("error: ") and out.count("\n") == 1
    return out


@pytest.mark.parametrize(
    "kind, good, bad",
    [
        ("positive", {"1": 1, "20": 20}, ["0", "-1", "1.5", "x", ""]),
        ("whole", {"0": 0, "3": 3}, ["-1", "nan"]),
        ("score", {"0": 0, "0.5": 0.5, "1": 1}, ["nan", "-0.1", "1.1", "inf", "x"]),
        ("amount", {"0.5": 0.5}, ["0", "nan", "inf", "-1"]),
        ("rate", {"25": 25, "30000/1001": Fraction(30000, 1001)}, ["0", "-1", "1/0", "nan", "x"]),
    ],
)
def test_numbers(capsys, kind, good, bad):
    def add(parser):
        parser.add_argument("--n", type=getattr(command_line, kind))

    for text, value in good.items():
        assert parse(add, "--n", text).n == value
    for text in bad:
        message = refusal(capsys, add, f"--n={text}")
        assert repr(text) in message and "--n" in message


def test_a_wrong_path_is_told_by_the_parser(capsys, tmp_path):
    file = tmp_path / "x.py"
    file.touch()
    model = command_line.add_model
    assert parse(model, "maskprop_r18_shapes").config == "maskprop_r18_shapes"
    assert parse(model, str(file), str(file)).checkpoint == str(file)
    assert parse(model, str(file), "https://a/b.pth").checkpoint == "https://a/b.pth"
    assert "maskprop_r18_shapes" in refusal(capsys, model, "maskprop_r18_shape")
    assert "nowhere.pth" in refusal(capsys, model, str(file), "nowhere.pth")
    video = command_line.add_video
    for there in (str(tmp_path), "0", "shots/*.jpg", "rtsp://camera/1"):
        assert parse(video, there).video == there
    assert "gone.mp4" in refusal(capsys, video, "gone.mp4")


def test_settings_are_read_as_mmengine_reads_them(capsys):
    add = command_line.add_cfg_options
    args = parse(add, "--cfg-options", "a.b=1", "c=[1,x]", "--cfg-options", "d=(1,2)", "e=u=v")
    assert command_line.read_settings(args.cfg_options) == {
        "a.b": 1,
        "c": [1, "x"],
        "d": (1, 2),
        "e": "u=v",
    }
    assert command_line.read_settings(parse(add).cfg_options) == {}
    assert "'model'" in refusal(capsys, add, "--cfg-options", "model")


def raised(main, **options):
    with pytest.raises(SystemExit) as stop:
        command_line.run(main, **options)
    return stop.value.code


def test_known_errors_are_one_line(capsys, monkeypatch):
    monkeypatch.setenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "0")

    def fails(error):
        def main():
            raise error

        return main

    assert raised(lambda: None) == 0
    assert raised(lambda: 3) == 3
    assert raised(fails(FileNotFoundError("x.mp4:\n  not there"))) == 1
    assert capsys.readouterr().err == "error: x.mp4: not there\n"
    with pytest.raises(KeyError):
        command_line.run(fails(KeyError("a mistake of ours")))
    with pytest.raises(ValueError):
        command_line.run(fails(ValueError("a mistake of ours")), known=["builtins.OSError"])


SCRIPT = """
import sys, time
sys.path.insert(0, "tools")
import command_line
def main():
    print("begun", flush=True)
    try:
        time.sleep(60)
    finally:
        print("cleaned", flush=True)
command_line.run(main)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has no such signals")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_ends_in_order(name):
    number = getattr(signal, name)
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT], cwd=ROOT, stdout=-1, stderr=-1, text=True
    )
    assert process.stdout.readline() == "begun\n"
    time.sleep(0.1)
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert out == "cleaned\n"
    assert err.count("\n") == 1 and "Traceback" not in err
    assert process.returncode == 128 + number


def test_what_nohup_ignores_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with command_line.signals_raised():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_closed_pipe_is_no_error():
    code = SCRIPT.replace("time.sleep(60)", "[print('x' * 1000) for _ in range(10000)]")
    code = code.replace('print("cleaned", flush=True)', "pass")
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=-1, stderr=-1)
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(20) == 128 + signal.SIGPIPE


def test_help_costs_little():
    """Processor seconds of the helpers' own import, without the interpreter's start."""
    code = (
        "import time; t = time.process_time(); import command_line; print(time.process_time() - t)"
    )
    run = [sys.executable, "-c", code]
    seconds = [
        float(subprocess.run(run, cwd=ROOT / "tools", capture_output=True, check=True).stdout)
        for _ in range(3)
    ]
    assert sorted(seconds)[1] < 0.2
    assert math.isfinite(seconds[0])
