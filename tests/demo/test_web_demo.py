"""The page as a server and in a browser.

``MMVIS_WEB_VIDEO=clip.mp4`` has the browser upload a video of yours, ``MMVIS_WEB_PICTURES=folder``
keeps the screenshots.
"""

import hashlib
import importlib
import json
import logging
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import unquote

import cv2
import httpx
import numpy as np
import pytest
import web_limits
import web_requests as web
from fake_segmentor import make_frame, write_inputs

from mmvis_plugin.apis import VideoReader, VideoWriter

gradio_client = pytest.importorskip("gradio_client", reason="needs the extra [web]")

web_demo = importlib.import_module("web_demo")
web_page = importlib.import_module("web_page")
make_examples = importlib.import_module("web_models").make_examples

LIMITS = web_limits.Limits(megabytes=2, seconds=60, frames=2000)
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)


class Server:
    """The page with the stand-in model, on a free port of this machine."""

    def __init__(self, folder):
        self.cache = Path(os.environ["GRADIO_TEMP_DIR"])
        choice = web_limits.ModelChoice(*map(str, write_inputs(folder, score=0.9)))
        choices = {"red": choice, "other": choice}
        models = web.ModelCache(choices, "cpu", 1)
        for name in choices:
            with models.borrow(name):
                pass
        self.page = web_page.build_page(choices, models, LIMITS, 1, make_examples(folder))
        _, self.url, _ = web_page.launch(
            self.page, LIMITS, "127.0.0.1", None, prevent_thread_lock=True
        )
        self.url = self.url.rstrip("/")

    def client(self, folder):
        return gradio_client.Client(self.url, verbose=False, download_files=folder)

    def get(self, path, **settings):
        """What somebody else gets who asks for a file."""
        return httpx.get(f"{self.url}/gradio_api/file={path}", timeout=60, **settings)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("temporary")))
        patch.setenv("GRADIO_TEMP_DIR", tempfile.mkdtemp())
        server = Server(tmp_path_factory.mktemp("model"))
        yield server
        server.page.close()


@pytest.fixture
def video(tmp_path):
    return write_video(tmp_path / "clip.mp4")


def write_video(path, count=24, size=(320, 240)):
    with VideoWriter(path, 10, size) as writer:
        for number in range(count):
            writer.write(make_frame(number, size))
    return path


def segment(client, video, score_thr=0.3, second=""):
    upload = gradio_client.handle_file(video)
    return client.predict(upload, "red", second, score_thr, [], api_name="/segment")


class TestServer:
    def test_video_in_files_out(self, server, video, tmp_path):
        summary, painted, table, timeline, files, *other = segment(server.client(tmp_path), video)
        assert summary == "24 frames of 320 x 240, 1 track."
        with VideoReader(Path(painted)) as reader:
            # Frames whose shorter side is below 256 pixels are painted larger.
            assert reader.size == (640, 480) and reader.num_frames == 24
        assert "<th>Class</th>" in table and "<td>box</td><td>0.9000</td>" in table
        assert "background: rgb(230, 159, 0)" in table
        assert cv2.imread(str(timeline)).shape[2] == 3
        assert [Path(file).suffix for file in files] == [".mp4", ".json", ".csv", ".txt"]
        assert len(json.loads(Path(files[1]).read_text())) == 1
        assert not any(other)

    def test_two_models_side_by_side(self, server, video, tmp_path):
        answer = segment(server.client(tmp_path), video, second="other")
        first, second = answer[: len(answer) // 2], answer[len(answer) // 2 :]
        assert first[0] == "**red:** 24 frames of 320 x 240, 1 track."
        assert second[0] == "**other:** 24 frames of 320 x 240, 1 track."
        assert Path(first[4][1]).read_bytes() == Path(second[4][1]).read_bytes()

    def test_failures_are_told_and_leave_the_server_running(self, server, video, tmp_path, caplog):
        client = server.client(tmp_path)
        noise = tmp_path / "noise.mp4"
        noise.write_bytes(np.random.default_rng(0).bytes(5000))
        damaged = tmp_path / "damaged.mp4"
        data = bytearray(video.read_bytes())
        start = data.index(b"mdat") + 4
        data[start:] = bytes(len(data) - start)
        damaged.write_bytes(data)
        long = write_video(tmp_path / "long.mp4", 2001, (32, 32))
        with pytest.raises(Exception, match="not a video"):
            segment(client, noise)
        with pytest.raises(Exception, match=r"damaged\.mp4: there is no frame") as caught:
            segment(client, damaged)
        assert str(server.cache) not in str(caught.value)
        with pytest.raises(Exception, match="too long: up to 2 MB, 60 seconds"):
            segment(client, long)
        with pytest.raises(Exception, match="no video yet"):
            client.predict(None, "red", "", 0.3, [], api_name="/segment")
        assert segment(client, video)[0] == "24 frames of 320 x 240, 1 track."

    def test_a_fault_of_ours_is_in_the_log_and_not_on_the_page(
        self, server, video, tmp_path, monkeypatch, caplog
    ):
        def fail(*args):
            raise OSError("/srv/private/weights.pth")

        monkeypatch.setattr(web.ModelCache, "borrow", fail)
        with caplog.at_level(logging.ERROR), pytest.raises(Exception, match="fault of") as caught:
            segment(server.client(tmp_path), video)
        assert "private" not in str(caught.value)
        assert "private" in caplog.text

    def test_upload_that_is_too_large_is_cut_off(self, server, tmp_path):
        before = files_in(server.cache)
        large = {"files": ("large.mp4", bytes(2_100_000))}
        answer = httpx.post(f"{server.url}/gradio_api/upload", files=large, timeout=60)
        assert answer.status_code == 413 and "maximum allowed size" in answer.text
        assert files_in(server.cache) == before


def files_in(folder):
    return {path for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def first(server, tmp_path_factory):
    """The first visitor's video, and what there is of it on the server afterwards."""
    folder = tmp_path_factory.mktemp("first")
    video = write_video(folder / "private.mp4")
    before = files_in(server.cache)
    segment(server.client(folder), video)
    files = files_in(server.cache) - before
    made = ("tracks.mp4", "tracks.json", "tracks.csv", "tracks.txt", "timeline.png")
    names = {"private.mp4", "results.jsonl", *(f"private_{name}" for name in made)}
    assert {path.name for path in files} == names
    return video, files


class TestPrivacy:
    """Two visitors: what the second one can get at of the first one's files."""

    def test_addresses_are_random(self, server, first):
        video, files = first
        assert stat.S_IMODE(server.cache.stat().st_mode) == 0o700
        for path in files:
            # The one folder between is not made from the content alone, which may be known.
            assert path.parent.parent == server.cache and len(path.parent.name) == 64
            content = path.read_bytes()
            assert path.parent.name != hashlib.sha256(content).hexdigest()
            for name in (path.name, f"{hashlib.sha256(content).hexdigest()}/{path.name}"):
                assert server.get(server.cache / name).status_code in (403, 404)

    def test_each_request_has_an_address_of_its_own(self, server, first, tmp_path):
        before = files_in(server.cache)
        segment(server.client(tmp_path), first[0])
        added = {path.name for path in files_in(server.cache) - before}
        assert added >= {"private_tracks.mp4", "private_tracks.json", "private_timeline.png"}

    def test_nothing_lists_them(self, server, first, tmp_path):
        _, files = first
        parents = {path.parent for path in files}
        for folder in (server.cache, *parents):
            for path in (folder, f"{folder}/", f"{folder}/.", f"{folder}/*"):
                assert server.get(path).status_code in (403, 404)
        routes = ("config", "gradio_api/info", "gradio_api/startup-events", "monitoring", "")
        for route in routes:
            answer = httpx.get(f"{server.url}/{route}", timeout=60)
            assert not any(folder.name in answer.text for folder in parents)
        # The answer to another visitor has none of them either.
        other = segment(server.client(tmp_path), write_video(tmp_path / "other.mp4", 20))
        assert "private" not in str(other)

    def test_no_other_file_is_served(self, server, first, tmp_path):
        secret = tmp_path / "secret.json"
        secret.write_text("{}")
        inside = next(iter(first[1])).parent
        up = os.path.relpath(secret, inside)
        for path in (secret, "/etc/passwd", Path(web_demo.__file__), "demo/web_demo.py"):
            assert server.get(path).status_code in (403, 404)
        for path in (f"{inside}/{up}", f"{server.cache}/../secret.json"):
            assert server.get(path.replace("..", "%2e%2e")).status_code in (403, 404)

    def test_files_of_the_server_are_no_input(self, server, first, video, tmp_path):
        route = f"{server.url}/gradio_api/call/segment"
        for path in (video, f"{server.cache}/../{video.name}"):
            upload = {"path": str(path), "meta": {"_type": "gradio.FileData"}}
            call = httpx.post(route, json={"data": [upload, "red", "", 0.3, []]}, timeout=60).json()
            answer = httpx.get(f"{route}/{call['event_id']}", timeout=60).text
            assert "event: error" in answer and "event: complete" not in answer

    def test_addresses_are_not_fetched(self, server, first, tmp_path):
        upload = {"path": "http://192.0.2.1/a.mp4", "meta": {"_type": "gradio.FileData"}}
        with pytest.raises(Exception, match="Addresses are not fetched"):
            server.client(tmp_path).predict(upload, "red", "", 0.3, [], api_name="/segment")

    def test_a_request_that_fails_leaves_nothing(self, server, tmp_path):
        damaged = write_video(tmp_path / "damaged.mp4")
        data = damaged.read_bytes()
        damaged.write_bytes(data[: data.index(b"mdat") + 4])
        with pytest.raises(Exception, match=r"damaged\.mp4"):
            segment(server.client(tmp_path), damaged)
        left = {path.name for path in files_in(server.cache) if "damaged" in path.name}
        assert left == {"damaged.mp4"}

    def test_uploads_are_refused_while_the_disk_is_full(self, server, video, tmp_path):
        """Also those that are never segmented."""
        filler = server.cache / "filler"
        with filler.open("wb") as file:
            file.truncate(int(LIMITS.stored * web_limits.MEGABYTE) + 1)
        before = set(files_in(server.cache))
        try:
            with pytest.raises(Exception, match="507|try again later"):
                segment(server.client(tmp_path), video)
            assert set(files_in(server.cache)) == before
        finally:
            filler.unlink()
        assert segment(server.client(tmp_path), video)[0].startswith("24 frames")

    def test_files_go_when_their_time_is_over(self, server, first, monkeypatch):
        web_demo.remove_old_files(server.cache, 3600)
        assert all(path.exists() for path in first[1])
        now = time.time()
        monkeypatch.setattr(web_demo.time, "time", lambda: now + 3601)
        web_demo.remove_old_files(server.cache, 3600)
        assert not files_in(server.cache)


def test_old_files_are_removed_while_the_server_runs(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/b").touch()
    web_demo.keep_clean(tmp_path, 0.05)
    until = time.monotonic() + 30
    while list(tmp_path.iterdir()) and time.monotonic() < until:
        time.sleep(0.05)
    assert not list(tmp_path.iterdir())


class TestCommandLine:
    def test_models_on_offer(self):
        choices = web_demo.find_models([["a/b.py", "c/d.pth"], ["e"]])
        assert next(iter(choices)) == "maskprop_r18_shapes"
        assert choices["maskprop_r18_shapes"] == ("maskprop_r18_shapes", None)
        assert choices["b, d"] == ("a/b.py", "c/d.pth") and choices["e"] == ("e", None)

    @pytest.mark.parametrize(
        "args", [["--model", "a", "b", "c"], ["--max-size", "0"], ["--max-frames", "1.5"]]
    )
    def test_bad_arguments(self, args, capsys):
        with pytest.raises(SystemExit):
            web_demo.parse_args(args)
        assert args[0] in capsys.readouterr().err

    @pytest.mark.parametrize("arguments, code", [(["--help"], 0), ([], 1)])
    def test_without_gradio(self, arguments, code, tmp_path):
        """The help is there all the same; the page asks for it in one line."""
        (tmp_path / "gradio.py").write_text("raise ModuleNotFoundError(name='gradio')")
        demo = Path(web_demo.__file__)
        path = os.pathsep.join([str(tmp_path), str(demo.parents[1])])
        result = subprocess.run(
            [sys.executable, demo, *arguments],
            env=dict(os.environ, PYTHONPATH=path, OMP_NUM_THREADS="1"),
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert result.returncode == code
        if code == 0:
            assert "python demo/web_demo.py --model" in result.stdout
        else:
            message = "error: the page needs Gradio; install it in the repository: "
            assert result.stderr.splitlines()[-1] == message + "pip install -e '.[web]'"

    def test_model_that_cannot_be_loaded_is_told_at_the_start(self, capsys, monkeypatch, tmp_path):
        monkeypatch.setenv("GRADIO_TEMP_DIR", "")
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        monkeypatch.setattr("mmvis_plugin.apis.list_configs", lambda with_weights: [])
        (config := tmp_path / "broken.py").write_text("model = 3")
        (temporary := tmp_path / "temporary").mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(temporary))
        for args, message in (
            (["--model", "nothing.py"], "nothing.py"),
            (["--model", str(config)], "broken.py"),
            ([], "name a model"),
        ):
            with pytest.raises(SystemExit) as stop:
                web_demo.cli.run(lambda args=args: web_demo.main(args))
            assert stop.value.code in (1, 2)
            assert message in capsys.readouterr().err
            assert list(temporary.iterdir()) == []


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("Chromium is missing (on Debian: apt-get install chromium)")
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    with sync_api.sync_playwright() as playwright:
        # Chromium's sandbox does not run as root, which continuous integration often is.
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, chromium_sandbox=os.getuid() != 0
        )
        yield browser
        browser.close()


@pytest.fixture
def tab(server, browser):
    with browser.new_page(viewport={"width": 1280, "height": 1400}) as tab:
        tab.set_default_timeout(120_000)
        tab.goto(server.url)
        yield tab


def upload(tab, video):
    """Give the page a video, and wait until it has it."""
    tab.locator("input[type=file]").first.set_input_files(video)
    tab.get_by_label("Clear").first.wait_for()


def screenshot(tab, tmp_path, name):
    """A picture of the whole page, (H, W, 3) BGR."""
    folder = Path(os.environ.get("MMVIS_WEB_PICTURES", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    tab.screenshot(path=folder / name, full_page=True, animations="disabled")
    return cv2.imread(str(folder / name))


def region(picture, element):
    """The part of a screenshot that shows an element."""
    box = {name: round(value) for name, value in element.bounding_box().items()}
    return picture[box["y"] : box["y"] + box["height"], box["x"] : box["x"] + box["width"]]


class TestBrowser:
    def test_result_is_on_the_page(self, tab, video, tmp_path):
        video = Path(os.environ.get("MMVIS_WEB_VIDEO", video))
        upload(tab, video)
        tab.get_by_role("button", name="Segment").click()
        tab.get_by_text("frames of").wait_for()

        player = tab.locator("#tracks video")
        painted = Path(unquote(player.get_attribute("src").split("/file=")[1]))
        player.evaluate(
            "async v => { v.pause(); v.currentTime = 0; while (v.seeking || v.readyState < 2)"
            " await new Promise(r => setTimeout(r, 50)) }"
        )
        picture = screenshot(tab, tmp_path, "result.png")

        with VideoReader(painted) as reader:
            frame = next(reader)
        self.check_video(region(picture, player), frame)
        self.check_table(tab, picture)

    def check_video(self, shown, frame):
        """That the player shows the first frame, fitted into its middle."""
        scale = min(shown.shape[0] / frame.shape[0], shown.shape[1] / frame.shape[1])
        height, width = (round(scale * side) for side in frame.shape[:2])
        top, left = (shown.shape[0] - height) // 2, (shown.shape[1] - width) // 2
        shown = shown[top : top + height, left : left + width].astype(int)
        wanted = cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA).astype(int)
        # The player's controls may lie over the lower part.
        upper = slice(0, int(0.75 * height))
        assert np.abs(shown[upper] - wanted[upper]).mean() < 8
        assert wanted[upper].std() > 5  # a picture, not one colour

    def check_table(self, tab, picture):
        table = tab.locator("#tracks-legend")
        text = table.inner_text().split()
        assert "Score" in text and "box" in text and "0.9000" in text
        part = cv2.cvtColor(region(picture, table), cv2.COLOR_BGR2GRAY)
        assert (part < 100).sum() > 200  # its letters

    def test_error_is_on_the_page_and_can_be_mended(self, tab, video, tmp_path):
        noise = tmp_path / "noise.mp4"
        noise.write_bytes(np.random.default_rng(0).bytes(5000))
        upload(tab, noise)
        tab.get_by_role("button", name="Segment").click()
        tab.get_by_text("This is not a video").wait_for()
        screenshot(tab, tmp_path, "error.png")
        tab.get_by_label("Clear").first.click()
        tab.locator("input[type=file]").first.wait_for(state="attached")
        upload(tab, video)
        tab.get_by_role("button", name="Segment").click()
        tab.get_by_text("24 frames of").wait_for()
