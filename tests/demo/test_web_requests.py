import csv
import io
import json
import threading
import time
from fractions import Fraction
from types import SimpleNamespace

import av
import cv2
import numpy as np
import pytest
import web_limits
import web_requests as web
from fake_segmentor import make_frame, write_file, write_inputs
from PIL import Image

from mmvis_plugin.apis import VideoReader, VideoStream, VideoWriter, VISInferencer

LIMITS = web_limits.Limits(megabytes=1, seconds=5, frames=100, pixels=200 * 200)


@pytest.fixture
def models(tmp_path):
    choice = web_limits.ModelChoice(*map(str, write_inputs(tmp_path, score=0.9)))
    return web.ModelCache({"red": choice}, "cpu", 1)


def write_video(path, count=12, size=(90, 70), fps=10, red=True):
    with VideoWriter(path, fps, size) as writer:
        for number in range(count):
            writer.write(make_frame(number, size, red))
    return path


@pytest.fixture
def video(tmp_path):
    return write_video(tmp_path / "clip.mp4")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "request").mkdir()
    return tmp_path / "request"


def segment(upload, models, folder, limits=LIMITS, score_thr=0.3, model="red"):
    *progress, kept = web.segment_upload(upload, model, models, limits, folder)
    return [*progress, *web.draw_results(kept, score_thr, [], folder)]


def refused(match, *args, **settings):
    with pytest.raises(web_limits.RequestError, match=match):
        segment(*args, **settings)


class TestGoodVideo:
    def test_files_and_table(self, video, models, folder):
        *progress, outcome = segment(video, models, folder)
        segmenting = [("Segmenting", n, 12) for n in range(1, 13)]
        drawing = [("Drawing", n, 12) for n in range(1, 13)]
        assert progress == [("Segmenting", 0, None), *segmenting, *drawing]
        assert outcome.summary == "12 frames of 90 x 70, 1 track."
        with models.borrow("red") as inferencer:
            areas = [track.area for result in inferencer(video) for track in result.tracks]
        # The model's last word on the square is that it is a box.
        row = ["0", "box", "0.9000", "0.000", "1.100", "12", f"{np.mean(areas):.1f}"]
        assert outcome.table == [row]
        with VideoReader(outcome.video) as reader:
            assert reader.num_frames == 12 and reader.fps == 10
        painted, tracks, *_ = outcome.files
        assert painted == outcome.video
        (entry,) = json.loads(tracks.read_text())
        assert len(entry["segmentations"]) == 12 and entry["category_id"] == 2
        assert (cv2.imread(str(outcome.timeline)) < 128).any()
        files = {path.name for path in folder.iterdir()}
        endings = ("_tracks.mp4", "_tracks.json", "_tracks.csv", "_tracks.txt", "_timeline.png")
        assert files == {"results.jsonl", *(f"clip{ending}" for ending in endings)}

    @pytest.mark.parametrize("classes", [[], ["ball"], ["box"], ["ball", "unknown"]])
    def test_another_score_and_other_classes_do_without_the_model(
        self, video, models, folder, tmp_path, monkeypatch, classes
    ):
        """The files are those of a run of the model with these settings."""
        known = [name for name in classes if name != "unknown"] or None
        with models.borrow("red") as inferencer, inferencer(video, classes=known) as stream:
            direct = tmp_path / "direct"
            sinks = web.JSONSink(direct / "a.json"), web.CSVSink(direct / "a.csv", 0.5)
            sinks = *sinks, web.MOTSSink(direct / "a.txt", 0.5)
            for result in stream:
                for sink in sinks:
                    sink.write(result)
            for sink in sinks:
                sink.close()
        *_, kept = web.segment_upload(video, "red", models, LIMITS, folder)
        monkeypatch.setattr(VISInferencer, "__call__", None)
        *_, none = web.draw_results(kept, 0.95, classes, folder)
        assert none.table == []
        *_, outcome = web.draw_results(kept, 0.5, classes, folder)
        for sink, file in zip(sinks, outcome.files[1:], strict=True):
            assert sink.written.read_bytes() == file.read_bytes()
        assert len(json.loads(outcome.files[1].read_text())) == (classes == [])

    def test_a_video_that_was_removed_is_told(self, video, models, folder):
        *_, kept = web.segment_upload(video, "red", models, LIMITS, folder)
        video.unlink()
        with pytest.raises(web_limits.RequestError, match="no longer kept here: upload it again"):
            next(web.draw_results(kept, 0.3, [], folder))

    def test_threshold_counts_for_picture_and_table(self, video, models, folder):
        outcome = segment(video, models, folder, score_thr=0.95)[-1]
        assert outcome.table == []
        assert outcome.summary == "12 frames of 90 x 70, 0 tracks: nothing scored 0.95 or more."
        with VideoReader(outcome.video) as reader:
            assert reader.num_frames == 12
        # The official format has all scores.
        assert len(json.loads(outcome.files[1].read_text())) == 1

    def test_a_truncated_upload_is_told(self, models, folder, tmp_path):
        path = tmp_path / "cut.mp4"
        with VideoWriter(path, 10, (90, 70)) as writer:
            for number in range(40):
                writer.write(make_frame(number))
        data = path.read_bytes()
        start = data.index(b"mdat")
        path.write_bytes(data[: start + (len(data) - start) // 2])
        outcome = segment(path, models, folder)[-1]
        number = int(outcome.summary.split()[0])
        assert 5 < number < 40
        assert f"the file is incomplete: {40 - number} further frames are" in outcome.summary

    def test_a_truncated_upload_of_known_length_is_told(self, models, folder, tmp_path):
        """Matroska says how long a film is, but not how many frames it has."""
        path = tmp_path / "cut.mkv"
        write_file(path, 40)
        assert "incomplete" not in segment(path, models, folder)[-1].summary
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        assert "the file is incomplete: it ends after" in segment(path, models, folder)[-1].summary

    def test_a_broken_frame_is_told(self, video, models, folder, monkeypatch):
        monkeypatch.setattr(VideoStream, "num_broken", 1)
        assert "1 frames cannot be decoded" in segment(video, models, folder)[-1].summary

    def test_a_recording_of_a_browser_has_neither_length_nor_rate_in_its_header(
        self, models, folder, tmp_path, monkeypatch
    ):
        path = write_recording(tmp_path / "webcam.mkv", 12)
        rates = []
        plot = web.plot_timeline
        monkeypatch.setattr(web, "plot_timeline", lambda *a: rates.append(a[2]) or plot(*a))
        assert segment(path, models, folder)[-1].summary.startswith("12 frames of 90 x 70")
        assert rates == [pytest.approx(12 / 1.101)]  # the last frame's duration is not known
        refused("too long", path, models, folder, web_limits.Limits(frames=11))
        refused("too long", path, models, folder, web_limits.Limits(seconds=1))


def write_recording(path, count):
    """Matroska written as a stream, as browsers record: the header is never completed."""

    class Pipe(io.RawIOBase):
        def __init__(self, file):
            self.write = file.write

        def writable(self):
            return True

        def seekable(self):
            return False

    with open(path, "wb") as file, av.open(Pipe(file), "w", format="matroska") as container:
        stream = container.add_stream("mpeg4", rate=1000)
        stream.width, stream.height, stream.pix_fmt = 90, 70, "yuv420p"
        for number in range(count):
            frame = av.VideoFrame.from_ndarray(make_frame(number), format="bgr24")
            frame.pts = 100 * number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with av.open(str(path)) as container:
        assert not container.duration and not container.streams.video[0].frames
        assert container.streams.video[0].average_rate == 1000
    return path


class TestRefusals:
    """What is refused, before any frame is decoded and any model is loaded."""

    @pytest.fixture(autouse=True)
    def nothing_is_read(self, monkeypatch):
        def fail(*args, **kwargs):
            raise AssertionError("the video is read")

        monkeypatch.setattr(VISInferencer, "__call__", fail)
        monkeypatch.setattr(web.ModelCache, "borrow", fail)

    def test_file_too_large(self, video, models, folder, monkeypatch):
        limits = web_limits.Limits(megabytes=video.stat().st_size / web_limits.MEGABYTE)
        web.check_upload(video, limits)
        with open(video, "ab") as file:
            file.write(b"\0")
        monkeypatch.setattr(web.av, "open", None)  # not even opened
        refused("file is too large: up to", video, models, folder, limits)

    @pytest.mark.parametrize(
        "limits, message",
        [
            (web_limits.Limits(seconds=1.1), "too long: up to 50 MB, 1.1 seconds, 900 frames"),
            (web_limits.Limits(frames=11), "too long"),
            (web_limits.Limits(pixels=90 * 70 - 1), "picture is too large"),
        ],
    )
    def test_too_much_by_the_header(self, video, models, folder, limits, message):
        refused(message, video, models, folder, limits)

    @pytest.mark.parametrize("told", [16000, 64])
    def test_a_huge_picture_in_a_small_file(self, models, folder, tmp_path, told):
        """Decoded, it would take 768 MB; also where the file's header has another size."""
        path = tmp_path / "huge.mov"
        picture = io.BytesIO()
        Image.new("1", (16000, 16000)).save(picture, "PNG")
        with av.open(str(path), "w") as container:
            stream = container.add_stream("png", rate=10)
            stream.width, stream.height, stream.pix_fmt = 16000, 16000, "rgb24"
            packet = av.Packet(picture.getvalue())
            packet.stream, packet.pts, packet.dts = stream, 0, 0
            packet.time_base = Fraction(1, 10)
            container.mux(packet)
        written, size = path.read_bytes(), (16000).to_bytes(2, "big")
        where = written.index(2 * size, written.index(b"stsd"))
        path.write_bytes(written[:where] + 2 * told.to_bytes(2, "big") + written[where + 4 :])
        refused("picture is too large, or its size is not known", path, models, folder)

    def test_just_within_the_limits(self, video):
        web.check_upload(video, web_limits.Limits(seconds=1.2, frames=12, pixels=90 * 70))

    def test_frames_are_counted_where_the_header_has_no_number(self, folder):
        path = folder / "many.mkv"
        write_file(path, 40)
        web.check_upload(path, web_limits.Limits(frames=40))
        with pytest.raises(web_limits.RequestError, match="too long"):
            web.check_upload(path, web_limits.Limits(frames=39))

    def test_uploads_are_bounded_in_sum(self, tmp_path):
        limits = web_limits.Limits(stored=0.001)
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "one.mp4").write_bytes(bytes(1000))
        web_limits.require_room(tmp_path, limits)
        (tmp_path / "two.mp4").write_bytes(b"1")
        with pytest.raises(web_limits.RequestError, match="try again later"):
            web_limits.require_room(tmp_path, limits)

    def test_no_upload(self, models, folder):
        refused("no video yet", None, models, folder)

    def test_not_a_video(self, video, models, folder, tmp_path):
        empty, noise, cut = (tmp_path / name for name in ("empty.mp4", "noise.mp4", "cut.mp4"))
        empty.touch()
        noise.write_bytes(np.random.default_rng(0).bytes(5000))
        cut.write_bytes(video.read_bytes()[:100])
        for path in (empty, noise):
            refused("not a video", path, models, folder)
        refused("no video in this file", cut, models, folder)

    def test_sound_only(self, models, folder, tmp_path):
        with av.open(str(tmp_path / "sound.mp4"), "w") as container:
            stream = container.add_stream("aac", rate=48000)
            silence = np.zeros((1, 2048), np.float32)
            frame = av.AudioFrame.from_ndarray(silence, format="fltp", layout="mono")
            frame.sample_rate = 48000
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        refused("no video in this file", tmp_path / "sound.mp4", models, folder)

    @pytest.mark.parametrize(
        "name, playlist",
        [
            (
                "upload.m3u8",
                "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1.2,\n{0}\n#EXT-X-ENDLIST\n",
            ),
            ("upload.mp4", "ffconcat version 1.0\nfile '{0.name}'\n"),
        ],
    )
    def test_a_list_of_other_files_on_the_server(self, models, folder, tmp_path, name, playlist):
        other = tmp_path / "secret.ts"
        write_file(other, 12, "mpeg4", container="mpegts")
        upload = tmp_path / name
        upload.write_text(playlist.format(other))
        with av.open(str(upload)) as container:  # FFmpeg by itself would read it
            assert container.streams.video[0].width == 90
        refused("not a video", upload, models, folder)


class TestFailures:
    def test_file_without_a_frame_that_can_be_decoded(self, video, models, folder, tmp_path):
        data = bytearray(video.read_bytes())
        start = data.index(b"mdat") + 4
        data[start:] = bytes(len(data) - start)  # the index is in front and whole
        damaged = tmp_path / "damaged.mp4"
        damaged.write_bytes(data)
        with pytest.raises(ValueError, match=r"damaged.mp4"):
            segment(damaged, models, folder)
        assert [path.name for path in folder.iterdir()] == ["results.jsonl"]
        assert segment(video, models, folder)[-1].table  # the next request is not touched

    def test_model_that_is_not_offered(self, video, models, folder):
        refused("no model 'blue'", video, models, folder, model="blue")

    def test_header_that_promises_less_than_there_is(self, video, models, folder, monkeypatch):
        monkeypatch.setattr(web, "check_upload", lambda path, limits: None)
        refused("too long", video, models, folder, web_limits.Limits(frames=11))
        assert [path.name for path in folder.iterdir()] == ["results.jsonl"]

    def test_visitor_who_leaves(self, video, models, folder):
        steps = web.segment_upload(video, "red", models, LIMITS, folder)
        for step in steps:
            if step.done == 3:
                break
        steps.close()
        assert not any(thread.name == "prefetch" for thread in threading.enumerate())
        assert segment(video, models, folder)[-1].table


class TestModelCache:
    @pytest.fixture
    def cache(self, monkeypatch):
        self.loaded = []

        def load(config, checkpoint, device, accept_licence):
            self.loaded.append(config)
            if config == "bad":
                raise FileNotFoundError(config)
            return SimpleNamespace(name=config, classes=(config,), shown_score=0.3)

        monkeypatch.setattr(web, "VISInferencer", load)
        choices = {name: web_limits.ModelChoice(name) for name in ("a", "b", "c", "bad")}
        return web.ModelCache(choices, "cpu", 2)

    def use(self, cache, *names):
        for name in names:
            with cache.borrow(name) as model:
                assert model.name == name

    def test_the_last_used_stay(self, cache):
        self.use(cache, "a", "b", "a", "b", "c", "b", "a")
        assert self.loaded == ["a", "b", "c", "a"]

    def test_one_in_use_stays_beyond_the_bound(self, cache):
        with cache.borrow("a"):
            self.use(cache, "b", "c", "b", "c")
            assert list(cache._models) == ["a", "c"]
        self.use(cache, "a", "c")
        assert self.loaded == ["a", "b", "c", "b", "c"]

    def test_one_that_cannot_be_loaded_is_tried_again(self, cache):
        for _ in range(2):
            with pytest.raises(FileNotFoundError):
                self.use(cache, "bad")
        assert self.loaded == ["bad", "bad"]
        self.use(cache, "a")

    def test_one_request_a_model_at_a_time(self, cache):
        events = []

        def work(name, number):
            with cache.borrow(name):
                events.append(("in", name, number))
                time.sleep(0.02)
                events.append(("out", name, number))

        threads = [threading.Thread(target=work, args=("a", n)) for n in range(5)]
        with cache.borrow("b"):  # of another model a request goes on beside it
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(10)
        assert [kind for kind, _, _ in events] == ["in", "out"] * 5
        assert self.loaded == ["b", "a"]


def test_table_is_that_of_the_csv(tmp_path):
    path = tmp_path / "tracks.csv"
    columns = [*web.TABLE.values(), "areas"]
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([columns, [*"0123456", "1 2"]])
    assert web.read_table(path) == [[*"0123456"]]
