import gc
import os
import resource
import time
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmvis_plugin.apis import FrameTiming, VideoError, VideoReader, VideoWriter

BGR = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (0, 200, 200), (120, 30, 90)]


def solid(size, color):
    width, height = size
    return np.full((height, width, 3), color, np.uint8)


def write_video(path, frames, fps=Fraction(10), timings=None):
    with VideoWriter(path, fps, frames[0].shape[1::-1]) as writer:
        for number, frame in enumerate(frames):
            writer.write(frame, timings[number] if timings else None)


def facts(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return {
            "size": (stream.width, stream.height),
            "rate": stream.average_rate,
            "frames": stream.frames,
            "duration": stream.duration * stream.time_base,
            "start": stream.start_time,
            "codec": stream.codec_context.name,
            "pix_fmt": stream.codec_context.pix_fmt,
        }


@settings(max_examples=15, deadline=None)
@given(
    size=st.tuples(st.integers(16, 50), st.integers(16, 50)),
    fps=st.sampled_from([Fraction(30000, 1001), Fraction(3), Fraction(25), Fraction(24000, 1001)]),
    num_frames=st.integers(1, 12),
)
def test_written_video_has_the_frames_size_rate_and_duration(
    tmp_path_factory, size, fps, num_frames
):
    path = tmp_path_factory.mktemp("video") / "out.mp4"
    frames = [solid(size, BGR[i % len(BGR)]) for i in range(num_frames)]

    write_video(path, frames, fps)

    assert facts(path) == {
        "size": tuple(side + side % 2 for side in size),
        "rate": fps,
        "frames": num_frames,
        "duration": num_frames / fps,
        "start": 0,
        "codec": "h264",
        "pix_fmt": "yuv420p",
    }
    with VideoReader(path) as reader:
        read = list(reader)
    assert (reader.fps, reader.num_frames, len(read)) == (fps, num_frames, num_frames)
    width, height = size
    for frame, original in zip(read, frames, strict=True):
        assert frame.dtype == np.uint8
        # Blocks of flat colour survive compression to within a few levels.
        assert np.abs(frame[:height, :width].astype(int) - original).max() <= 8


def test_timing_of_every_frame_is_kept_for_a_variable_rate(tmp_path):
    starts = [Fraction(n, 100) for n in (0, 4, 8, 12, 30, 31, 60, 64)]
    ends = [*starts[1:], Fraction(90, 100)]
    timings = [FrameTiming(s, e - s) for s, e in zip(starts, ends, strict=True)]
    fps = Fraction(len(starts)) / ends[-1]

    write_video(tmp_path / "a.mp4", [solid((32, 32), BGR[0])] * len(starts), fps, timings)
    with (
        VideoReader(tmp_path / "a.mp4") as reader,
        VideoWriter(tmp_path / "b.mp4", reader.fps, reader.size) as writer,
    ):
        read = []
        for frame in reader:
            read.append(reader.timing)
            writer.write(frame, reader.timing)

    assert read == timings
    assert facts(tmp_path / "b.mp4") == facts(tmp_path / "a.mp4")
    assert facts(tmp_path / "b.mp4")["duration"] == Fraction(90, 100)
    assert facts(tmp_path / "b.mp4")["frames"] == len(starts)


def test_times_rounded_by_a_coarse_container_clock_are_a_constant_rate(tmp_path):
    path, fps = tmp_path / "a.mkv", Fraction(30000, 1001)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"bf": "0"})
        stream.width = stream.height = 32
        for number in range(40):
            frame = av.VideoFrame.from_ndarray(solid((32, 32), BGR[1]), format="bgr24")
            frame.pts, frame.time_base = number, 1 / fps
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))

    with VideoReader(path) as reader:
        starts = [reader.timing.start for _ in reader]

    assert reader.fps == fps
    assert starts == [n / fps for n in range(40)]


def test_repeated_times_do_not_stop_the_writer(tmp_path):
    timing = FrameTiming(Fraction(0), Fraction(1, 10))
    write_video(tmp_path / "a.mp4", [solid((16, 16), BGR[0])] * 3, timings=[timing] * 3)
    assert facts(tmp_path / "a.mp4")["frames"] == 3


@pytest.mark.parametrize("degrees", [0, 90, -90, 180])
@pytest.mark.parametrize("mirrored", [False, True])
def test_rotated_video_comes_out_as_players_show_it(tmp_path, degrees, mirrored):
    # Four quadrants of different brightness tell the eight orientations apart.
    stored = np.zeros((32, 48, 3), np.uint8)
    stored[:16, 24:], stored[16:, :24], stored[16:, 24:] = 80, 160, 240
    path = tmp_path / "phone.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        # Players turn the picture counter-clockwise by this angle, then mirror left and right.
        stream.set_display_rotation(degrees, hflip=mirrored)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(stored, format="bgr24")))
        container.mux(stream.encode(None))

    with VideoReader(path) as reader:
        shown = next(reader)

    expected = np.rot90(stored, degrees // 90)
    if mirrored:
        expected = expected[:, ::-1]
    assert reader.size == expected.shape[1::-1]
    assert np.abs(shown.astype(int) - expected).max() <= 20


def test_folder_is_read_in_natural_order_at_the_given_rate(tmp_path):
    for name, color in (("f10.png", BGR[2]), ("f2.png", BGR[1]), ("f1.png", BGR[0])):
        cv2.imwrite(str(tmp_path / name), solid((20, 10), color))
    (tmp_path / "notes.txt").write_text("not a frame")

    with VideoReader(tmp_path, fps=Fraction(30000, 1001)) as reader:
        frames = list(reader)

    assert [tuple(frame[0, 0]) for frame in frames] == BGR[:3]
    assert (reader.fps, reader.size, reader.num_frames) == (Fraction(30000, 1001), (20, 10), 3)
    assert VideoReader(tmp_path).fps == 10


def test_camera_is_read_until_it_ends(monkeypatch):
    class Camera:
        frames = [solid((8, 6), color) for color in BGR[:3]]
        released = False

        def __init__(self, index):
            self.left = iter(self.frames if index == 0 else [])
            self.opened = index < 2

        def isOpened(self):
            return self.opened

        def get(self, prop):
            return 0.0

        def read(self):
            time.sleep(0.05)  # slower than the 30 frames a second that it is taken for
            frame = next(self.left, None)
            return frame is not None, frame

        def release(self):
            Camera.released = True

    monkeypatch.setattr(cv2, "VideoCapture", Camera)

    with VideoReader("0") as reader:
        starts = [reader.timing.start for _ in reader]

    assert reader.is_camera and reader.fps == 30 and reader.num_frames is None
    assert len(starts) == 3 and Camera.released
    assert starts[0] == 0 and starts[1] >= 0.05 and starts[2] - starts[1] >= 0.05
    with pytest.raises(VideoError, match="no frame"):
        VideoReader(1)
    with pytest.raises(VideoError, match="camera 7"):
        VideoReader(7)


def test_frames_of_two_sizes_name_the_file(tmp_path):
    cv2.imwrite(str(tmp_path / "1.png"), solid((20, 10), BGR[0]))
    cv2.imwrite(str(tmp_path / "2.png"), solid((22, 10), BGR[0]))
    with pytest.raises(VideoError, match=r"2\.png is 22 x 10 pixels.*20 x 10"):
        list(VideoReader(tmp_path))


def test_damaged_images_are_named_and_left_out(tmp_path, caplog):
    for number in range(8):
        cv2.imwrite(str(tmp_path / f"{number}.png"), solid((20, 10), BGR[number % 5]))
    for number in (0, 2, 3, 7):
        (tmp_path / f"{number}.png").write_bytes(b"")
    with VideoReader(tmp_path, fps=10) as reader:
        starts = [reader.timing.start for _ in reader]
    # The others keep their distances.
    assert starts == [0, Fraction(3, 10), Fraction(4, 10), Fraction(5, 10)]
    assert reader.num_broken == 4 and reader.num_frames == 8
    named = [record.getMessage() for record in caplog.records]
    assert len(named) == 3 and all(
        f"{number}.png cannot be decoded" in message
        for number, message in zip((0, 2, 3), named, strict=True)
    )
    for number in (1, 4, 5, 6):
        (tmp_path / f"{number}.png").write_bytes(b"")
    with pytest.raises(VideoError, match="no frame in it; 8 cannot be decoded"):
        VideoReader(tmp_path)


def test_broken_packets_are_left_out_and_the_rest_is_read(tmp_path):
    path, count = tmp_path / "a.avi", 20
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=10)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuvj420p"
        for number in range(count):
            frame = av.VideoFrame.from_ndarray(solid((48, 32), BGR[number % 5]), format="bgr24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    data = bytearray(path.read_bytes())
    starts = [i for i in range(len(data) - 2) if data[i : i + 3] == b"\xff\xd8\xff"]
    for number in (5, 6, 12):
        start, end = starts[number], starts[number + 1] - 16
        data[start:end] = bytes(end - start)
    path.write_bytes(data)

    with VideoReader(path) as reader:
        colors = [(reader.timing.start, tuple(frame[16, 24].astype(int))) for frame in reader]

    left = [number for number in range(count) if number not in (5, 6, 12)]
    assert [start for start, _ in colors] == [Fraction(number, 10) for number in left]
    for number, (_, color) in zip(left, colors, strict=True):
        assert np.abs(np.array(color) - BGR[number % 5]).max() <= 8
    assert reader.num_broken == 3


def test_image_with_a_damaged_header_is_left_out(tmp_path):
    for number in range(3):
        cv2.imwrite(str(tmp_path / f"{number}.bmp"), solid((20, 10), BGR[number]))
    data = bytearray((tmp_path / "1.bmp").read_bytes())
    data[18:26] = np.array([60000, 60000], "<i4").tobytes()  # width and height, for which
    (tmp_path / "1.bmp").write_bytes(data)  # OpenCV raises an error of its own
    with VideoReader(tmp_path) as reader:
        assert len(list(reader)) == 2 and reader.num_broken == 1


def test_name_with_a_colon_is_no_address(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_video("10:30:00.mp4", [solid((16, 16), BGR[0])] * 2)
    with VideoReader("10:30:00.mp4") as reader:
        assert reader.name == "10:30:00" and len(list(reader)) == 2


def test_frames_are_expected_after_the_duration_where_no_number_is_told(tmp_path):
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width = stream.height = 32
        for _ in range(45):
            frame = av.VideoFrame.from_ndarray(solid((32, 32), BGR[1]), format="bgr24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    for part, expected in (((0, None, 1), 45), ((10, 40, 4), 8), ((40, 60, 2), 3)):
        with VideoReader(path, None, *part) as reader:
            assert reader.num_frames is None and reader.expected_frames == expected
    with VideoReader([solid((8, 8), BGR[0])] * 3) as reader:
        assert reader.expected_frames == 3
    with VideoReader(iter([solid((8, 8), BGR[0])])) as reader:
        assert reader.expected_frames is None


def test_video_that_nothing_can_decode_is_named(tmp_path):
    write_video(tmp_path / "a.mp4", [solid((32, 32), BGR[0])] * 3)
    data = (tmp_path / "a.mp4").read_bytes()
    (tmp_path / "b.mp4").write_bytes(data.replace(b"avc1", b"zzzz"))
    with pytest.raises(VideoError, match=r"b\.mp4: .*no decoder.*libx264"):
        VideoReader(tmp_path / "b.mp4")


@settings(max_examples=20, deadline=None)
@given(
    start=st.integers(0, 11),
    length=st.none() | st.integers(1, 15),
    stride=st.integers(1, 5),
)
def test_part_of_a_video(tmp_path_factory, start, length, stride):
    path = tmp_path_factory.mktemp("part") / "a.mp4"
    frames = [solid((32, 32), (20 * number,) * 3) for number in range(12)]
    write_video(path, frames, Fraction(12))
    end = None if length is None else start + length
    for source in (path, frames):
        with VideoReader(source, Fraction(12), start, end, stride) as reader:
            read = [(reader.timing, frame) for frame in reader]
        wanted = frames[start:end:stride]
        assert reader.num_frames == len(read) == len(wanted)
        assert reader.fps == Fraction(12, stride)
        for number, ((timing, frame), original) in enumerate(zip(read, wanted, strict=True)):
            assert timing == (number * Fraction(stride, 12), Fraction(stride, 12))
            assert np.abs(frame.astype(int) - original).max() <= 8


def test_bad_parts_and_empty_ones_are_named(tmp_path):
    frames = [solid((8, 8), BGR[0])] * 3
    for part in ((-1, None, 1), (2, 2, 1), (0, None, 0)):
        with pytest.raises(ValueError, match="start .*, end .*, stride"):
            VideoReader(frames, None, *part)
    with pytest.raises(VideoError, match="no frame in it from 3 to its end"):
        VideoReader(frames, start=3)
    with pytest.raises(ValueError, match="rate must be positive"):
        VideoReader(frames, fps=0)


def test_pattern_of_images_or_of_one_video(tmp_path):
    for name, color in (("a10.png", BGR[2]), ("a2.png", BGR[1]), ("b1.png", BGR[0])):
        cv2.imwrite(str(tmp_path / name), solid((20, 10), color))
    write_video(tmp_path / "clip.mp4", [solid((16, 16), BGR[0])] * 3, Fraction(7))
    with VideoReader(tmp_path / "a*.png") as reader:
        assert [tuple(frame[0, 0]) for frame in reader] == BGR[1:3]
        assert reader.name == tmp_path.name
    with VideoReader(str(tmp_path / "*.mp4")) as reader:
        assert (reader.fps, reader.name, len(list(reader))) == (7, "clip", 3)
    write_video(tmp_path / "clip2.mp4", [solid((16, 16), BGR[0])])
    with pytest.raises(VideoError, match=r"clip2?\.mp4 is no image"):
        VideoReader(tmp_path / "*.mp4")
    with pytest.raises(FileNotFoundError, match=r"nothing matches"):
        VideoReader(tmp_path / "*.tiff")


def test_digits_that_are_a_folder_are_no_camera(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "7").mkdir()
    cv2.imwrite(str(tmp_path / "7" / "1.png"), solid((20, 10), BGR[0]))
    with VideoReader("7") as reader:
        assert not reader.is_camera and reader.name == "7" and len(list(reader)) == 1


def test_closing_a_writer_under_another_name(tmp_path):
    writer = VideoWriter(tmp_path / "a.mp4", 10, (16, 16))
    writer.write(solid((16, 16), BGR[0]))
    writer.close(tmp_path / "a.partial.mp4")
    assert writer.path == tmp_path / "a.partial.mp4"
    assert [path.name for path in tmp_path.iterdir()] == ["a.partial.mp4"]
    assert facts(writer.path)["frames"] == 1


def test_bad_sources_name_the_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing.mp4"):
        VideoReader(tmp_path / "nothing.mp4")
    with pytest.raises(VideoError, match="no images"):
        VideoReader(tmp_path)
    (tmp_path / "text.mp4").write_text("this is no video" * 100)
    with pytest.raises(VideoError, match="text.mp4"):
        VideoReader(tmp_path / "text.mp4")
    (tmp_path / "empty.mp4").write_bytes(b"")
    with pytest.raises(VideoError, match="empty.mp4"):
        VideoReader(tmp_path / "empty.mp4")

    write_video(tmp_path / "whole.mp4", [solid((64, 64), BGR[i % 5]) for i in range(20)])
    data = (tmp_path / "whole.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: data.index(b"mdat") + 8])
    with pytest.raises(VideoError, match="cut.mp4"):
        list(VideoReader(tmp_path / "cut.mp4"))


def test_audio_only_and_header_only_files_are_refused(tmp_path):
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(VideoError, match="no video stream"):
        VideoReader(tmp_path / "sound.mp4")

    with av.open(str(tmp_path / "none.avi"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 32
        container.start_encoding()
    with pytest.raises(VideoError, match="none.avi"):
        VideoReader(tmp_path / "none.avi")


def test_unfinished_video_never_has_the_final_name(tmp_path):
    path = tmp_path / "out" / "a.mp4"
    with pytest.raises(KeyError), VideoWriter(path, 10, (16, 16)) as writer:
        writer.write(solid((16, 16), BGR[0]))
        assert not path.exists() and len(list(path.parent.iterdir())) == 1
        raise KeyError
    assert list(path.parent.iterdir()) == []


def test_a_full_disk_is_told_with_the_path(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, before[1]))
    try:
        message = f"^{tmp_path}/a.mp4 cannot be written to: File too large$"
        frames = np.random.default_rng(0).integers(0, 255, (40, 48, 64, 3), np.uint8)
        with (
            pytest.raises(OSError, match=message),
            VideoWriter(tmp_path / "a.mp4", 10, (64, 48)) as writer,
        ):
            for frame in frames:
                writer.write(frame)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not os.listdir(tmp_path)


def test_a_writer_that_is_never_closed_leaves_nothing(tmp_path):
    frame = solid((16, 16), BGR[0])
    first, closed = (VideoWriter(tmp_path / f"{name}.mp4", 25, (16, 16)) for name in "ab")
    first.write(frame)
    closed.write(frame)
    closed.close()
    again = VideoWriter(closed.path, 25, (16, 16))
    again.write(frame)
    del first, closed
    gc.collect()
    assert len(list(tmp_path.iterdir())) == 2  # b.mp4 and what is to replace it
    again.close()
    assert list(tmp_path.iterdir()) == [tmp_path / "b.mp4"]


def test_failed_rewrite_keeps_the_old_video(tmp_path):
    path = tmp_path / "a.mp4"
    write_video(path, [solid((16, 16), BGR[0])] * 2)
    with pytest.raises(ValueError, match="frame 0"), VideoWriter(path, 10, (16, 16)) as writer:
        writer.write(solid((18, 16), BGR[0]))
    assert facts(path)["frames"] == 2


def test_no_frames_is_an_error_and_leaves_nothing(tmp_path):
    with pytest.raises(VideoError, match="a.mp4"), VideoWriter(tmp_path / "a.mp4", 10, (16, 16)):
        pass
    assert list(tmp_path.iterdir()) == []


def test_bad_targets_are_refused(tmp_path):
    for path, fps, size in (("a.avi", 10, (8, 8)), ("a.mp4", 0, (8, 8)), ("a.mp4", 10, (0, 8))):
        with pytest.raises(ValueError, match="a."):
            VideoWriter(tmp_path / path, fps, size)
    assert list(tmp_path.iterdir()) == []
