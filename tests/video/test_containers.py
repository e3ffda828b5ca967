"""Video files as cameras and telephones write them, and addresses."""

import socket
import threading
from fractions import Fraction
from functools import partial
from http.server import HTTPServer, SimpleHTTPRequestHandler

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from mmvis_plugin.video import VideoError, VideoReader, VideoWriter, containers


def picture(size, level=0):
    """A picture whose four corners differ, darker by its level."""
    width, height = size
    image = np.zeros((height, width, 3), np.uint8)
    image[: height // 2, : width // 2] = 240 - 5 * level
    image[: height // 2, width // 2 :] = 160 - 5 * level
    image[height // 2 :, : width // 2] = 100
    return image


def write(path, size=(128, 96), count=5, codec="mpeg4", aspect=None, cover=None, title=None):
    with av.open(str(path), "w") as file:
        file.metadata["title"] = title or ""
        streams = [file.add_stream(codec, rate=10)]
        if cover:
            streams.insert(0, file.add_stream("mjpeg", rate=10))
        for stream, (width, height) in zip(streams, [cover, size][-len(streams) :], strict=True):
            stream.width, stream.height = width, height
            stream.pix_fmt = "yuvj420p" if stream.codec_context.name == "mjpeg" else "yuv420p"
        if aspect:
            streams[-1].codec_context.sample_aspect_ratio = aspect
        for stream in streams:
            shape = stream.width, stream.height
            for number in range(count if stream is streams[-1] else 1):
                frame = av.VideoFrame.from_ndarray(picture(shape, number), format="bgr24")
                file.mux(stream.encode(frame.reformat(format=stream.pix_fmt)))
            file.mux(stream.encode())
    return path


def read(source, **options):
    with VideoReader(source, **options) as reader:
        frames = list(reader)
    return reader, frames


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photo_with_exif_is_upright(tmp_path, orientation):
    """The camera's name is side data that PyAV has no name for; OpenCV turns the same photo."""
    path = tmp_path / "photo.jpg"
    image = Image.fromarray(picture((128, 96)))
    exif = image.getexif()
    exif[0x010F], exif[0x0112] = "Camera", orientation
    image.save(path, exif=exif, quality=95)
    _, (frame,) = read(path)
    expected = cv2.imread(str(path))
    assert frame.shape == expected.shape
    assert np.abs(frame.astype(int) - expected).mean() < 2


@pytest.mark.parametrize("suffix", [".tif", ".png", ".webp"])
def test_pictures_of_other_formats_with_exif(tmp_path, suffix):
    image = Image.fromarray(picture((64, 48)))
    exif = image.getexif()
    exif[0x010F], exif[0x0112] = "Camera", 6
    image.save(tmp_path / f"photo{suffix}", exif=exif)
    reader, frames = read(tmp_path / f"photo{suffix}")
    assert reader.size == (48, 64) and len(frames) == 1


def test_a_film_of_photos_with_exif(tmp_path):
    image = Image.fromarray(picture((64, 48)))
    exif = image.getexif()
    exif[0x010F] = "Camera"
    for number in range(3):
        image.save(tmp_path / f"{number}.jpg", exif=exif)
    film = tmp_path / "film.mjpeg"
    film.write_bytes(b"".join((tmp_path / f"{n}.jpg").read_bytes() for n in range(3)))
    reader, frames = read(film)
    assert len(frames) == 3 and reader.num_broken == 0


@pytest.mark.parametrize("suffix", [".avi", ".mkv", ".mp4"])
def test_a_title_in_latin_1(tmp_path, suffix):
    path = write(tmp_path / f"a{suffix}", title="caf_!")
    data = path.read_bytes()
    assert b"caf_!" in data
    path.write_bytes(data.replace(b"caf_!", b"caf\xe9!"))
    assert len(read(path)[1]) == 5


def test_the_film_is_read_and_not_the_cover_before_it(tmp_path):
    reader, frames = read(write(tmp_path / "a.mp4", cover=(304, 304)))
    assert reader.size == (128, 96) and len(frames) == reader.num_frames == 5
    assert frames[4][10, 10].mean() < frames[0][10, 10].mean() - 10


@pytest.mark.parametrize(
    ("aspect", "size"),
    [
        (Fraction(2), (256, 96)),
        (Fraction(1, 2), (128, 192)),
        (Fraction(16, 11), (186, 96)),
        (Fraction(1000), (128, 96)),  # a damaged header
    ],
)
def test_pixels_that_are_not_square_are_shown_as_players_do(tmp_path, aspect, size):
    reader, frames = read(write(tmp_path / "a.mp4", aspect=aspect))
    assert reader.size == size
    width, height = size
    corners = frames[0][height // 4 :: height // 2, width // 4 :: width // 2].mean(-1)
    np.testing.assert_allclose(corners, [[240, 160], [100, 0]], atol=6)


@pytest.mark.parametrize("size", [(4000, 2), (2, 4000), (16, 2)])
def test_thin_films(tmp_path, size):
    reader, frames = read(write(tmp_path / "thin.mkv", size))
    assert reader.size == size and len(frames) == 5
    with VideoWriter(tmp_path / "again.mp4", 10, size) as writer:
        writer.write(frames[0])
    assert read(tmp_path / "again.mp4")[0].size == size


def test_a_size_that_h264_does_not_have_is_one_line(tmp_path):
    with pytest.raises(VideoError, match=r"a\.mp4: H\.264 cannot hold frames of 40000 x 2 pixels"):
        VideoWriter(tmp_path / "a.mp4", 10, (40000, 2))
    assert list(tmp_path.iterdir()) == []


def test_what_macos_puts_beside_images_is_no_frame(tmp_path):
    for number in range(3):
        cv2.imwrite(str(tmp_path / f"{number}.png"), picture((32, 24)))
        (tmp_path / f"._{number}.png").write_bytes(b"\0\5\x16\7")
    for source in (tmp_path, tmp_path / "*.png"):
        reader, frames = read(source)
        assert len(frames) == reader.num_frames == 3 and reader.num_broken == 0


# --- addresses --------------------------------------------------------------------------------


def test_a_film_on_a_web_server(tmp_path):
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    write(tmp_path / "a.mp4")
    with HTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            address = f"http://127.0.0.1:{server.server_port}"
            reader, frames = read(f"{address}/a.mp4")
            assert len(frames) == 5 and not reader.is_camera
            assert (reader.name, reader.source) == ("a", f"{address}/a.mp4")
            with pytest.raises(VideoError, match=r"http://127.*/b\.mp4: it cannot be opened"):
                VideoReader(f"{address}/b.mp4")
        finally:
            server.shutdown()


def serve(film, times):
    """A live stream that breaks off at the film's end; it can be had a number of times."""
    server = socket.create_server(("127.0.0.1", 0))

    def send():
        for _ in range(times):
            connection, _ = server.accept()
            with connection:
                connection.sendall(film)
        server.close()

    threading.Thread(target=send, daemon=True).start()
    return f"tcp://127.0.0.1:{server.getsockname()[1]}"


def test_a_live_stream_is_connected_again(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(containers.time, "sleep", lambda seconds: None)
    film = write(tmp_path / "a.ts", codec="mpeg2video", count=30).read_bytes()
    address = serve(film, times=3)
    starts = []
    with VideoReader(address) as reader:
        assert reader.is_camera and reader.num_frames is None
        with pytest.raises(VideoError, match=rf"{address}.*broke off after 90 frames.*5 attempts"):
            for _ in reader:
                starts.append(reader.timing.start)
    assert len(starts) == 90 and starts == sorted(starts)
    assert f"{address} broke off after 30 frames" in caplog.text


def test_an_address_without_a_server_is_one_line():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    for protocol in ("rtsp", "http", "tcp"):
        with pytest.raises(VideoError, match=f"{protocol}://127.0.0.1:{port}/x: it cannot be"):
            VideoReader(f"{protocol}://127.0.0.1:{port}/x")
