import shutil

import numpy as np
import pytest
from PIL import Image

from mmvis_plugin.datasets.converters import ConversionError, convert_mots

from .cases import HEIGHT, WIDTH, box_mask, named_tracks, rle, write_frames

CAR, WALKER, IGNORE = 1005, 2001, 10000


def frame_ids(t):
    """Frame t: a car that moves, a pedestrian that comes late, at last a region to ignore."""
    ids = np.zeros((HEIGHT, WIDTH), np.uint16)
    ids[box_mask(2 + t, 3, 8, 6)] = CAR
    if t:
        ids[box_mask(20, 10, 4, 9)] = WALKER
    if t == 2:
        ids[box_mask(0, 20, 32, 4)] = IGNORE
    return ids


def write_pngs(folder):
    folder.mkdir(parents=True)
    for t in range(3):
        Image.fromarray(frame_ids(t)).save(folder / f"{t:06d}.png")


def txt(first=0):
    """The lines of a MOTS txt: frame, object id, class id, height, width, RLE."""
    lines = []
    for t in range(3):
        for id_ in sorted(set(np.unique(frame_ids(t)).tolist()) - {0}):
            counts = rle(frame_ids(t) == id_)["counts"]
            lines.append(f"{t + first} {id_} {id_ // 1000} {HEIGHT} {WIDTH} {counts}")
    return "\n".join(lines) + "\n"


@pytest.fixture
def kitti(tmp_path):
    """Folder in KITTI MOTS's layout: frames, PNGs and txt."""
    write_frames(tmp_path / "image_02" / "0002", [f"{t:06d}.png" for t in range(3)])
    write_pngs(tmp_path / "instances" / "0002")
    (tmp_path / "instances_txt").mkdir()
    (tmp_path / "instances_txt" / "0002.txt").write_text(txt())
    return tmp_path


@pytest.mark.parametrize("annotations", ["instances", "instances_txt"])
def test_both_forms_give_the_same_tracks(kitti, usable, annotations):
    conversion = convert_mots(kitti / "image_02", kitti / annotations)
    content = conversion.content
    assert content["categories"][0]["name"] == "car" and content["categories"][1]["id"] == 2
    names = [f"0002/{t:06d}.png" for t in range(3)]
    assert content["videos"][0]["file_names"] == names
    tracks = named_tracks(content)
    keys = [("0002", "car", 0), ("0002", "pedestrian", 0), ("0002", "car", 1)]
    assert [key for key, _ in tracks] == [*keys, ("0002", "pedestrian", 1)]
    for (_, masks), id_ in zip(tracks, (CAR, WALKER, IGNORE, IGNORE), strict=True):
        assert np.array_equal(masks, [frame_ids(t) == id_ for t in range(3)])
    assert content["annotations"][1]["segmentations"][0] is None
    usable(conversion, kitti / "image_02")


def test_motschallenge_layout_starts_at_frame_1(tmp_path):
    write_frames(tmp_path / "train" / "MOTS20-02" / "img1", [f"{t:06d}.jpg" for t in (1, 2, 3)])
    (tmp_path / "train" / "MOTS20-02" / "gt").mkdir()
    (tmp_path / "train" / "MOTS20-02" / "gt" / "gt.txt").write_text(txt(first=1))
    content = convert_mots(tmp_path / "train", tmp_path / "train", {2: "person", 1: "car"}).content
    assert content["videos"][0]["file_names"][0] == "MOTS20-02/img1/000001.jpg"
    assert [c["name"] for c in content["categories"]] == ["person", "car"]
    (_, car), *_ = named_tracks(content)
    assert np.array_equal(car, [frame_ids(t) == CAR for t in range(3)])


def test_frames_without_objects_stay(kitti):
    write_frames(kitti / "image_02" / "0002", ["000003.png"])
    content = convert_mots(kitti / "image_02", kitti / "instances_txt").content
    assert content["videos"][0]["length"] == 4
    assert content["annotations"][0]["segmentations"][3] is None


def test_chosen_sequences(kitti):
    write_frames(kitti / "image_02" / "0003", ["000000.png"])
    counts = rle(frame_ids(0) == CAR)["counts"]
    line = f"0 {CAR} 1 {HEIGHT} {WIDTH} {counts}\n"
    (kitti / "instances_txt" / "0003.txt").write_text(line)
    images, annotations = kitti / "image_02", kitti / "instances_txt"
    assert len(convert_mots(images, annotations).content["videos"]) == 2
    (video,) = convert_mots(images, annotations, sequences=["0003"]).content["videos"]
    assert video["file_names"] == ["0003/000000.png"]
    with pytest.raises(ConversionError, match="no annotations of sequence 0009"):
        convert_mots(images, annotations, sequences=["0009"])


GOOD = rle(box_mask(1, 1, 2, 2))["counts"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 1005 1 24 32", "line 2: expected `frame id class height width rle`, got '0 1005"),
        (f"0 x 1 24 32 {GOOD}", "line 2: expected `frame id"),
        (f"-1 1005 1 24 32 {GOOD}", "line 2: expected `frame id"),
        (f"9 1006 1 24 32 {GOOD}", "line 2: there is no frame of number 9"),
        (f"0 1006 1 375 1242 {GOOD}", "line 2: the mask is 1242 x 375 pixels, the frame 32 x 24"),
        (f"0 1006 2 24 32 {GOOD}", "line 2: id 1006 belongs to class 1, but the class is 2"),
        (f"0 1005 1 24 32 {GOOD}", "line 2: object 1005 occurs twice in frame 0"),
        ("0 1006 1 24 32 0", "line 2: the RLE describes 0 pixels, not a mask of 24 x 32"),
        ("0 1006 1 24 32 ~~~", "line 2: the counts of the RLE are cut off or hold what is not"),
        (f"{'9' * 5000} 1006 1 24 32 {GOOD}", "line 2: expected `frame id"),
        (f"0 3001 3 24 32 {GOOD}", r"object 3001 is of class 3; the known classes are 1 \(car\)"),
    ],
)
def test_bad_lines_are_named(kitti, line, message):
    path = kitti / "instances_txt" / "0002.txt"
    path.write_text(f"0 {CAR} 1 {HEIGHT} {WIDTH} {GOOD}\n{line}\n")
    with pytest.raises(ConversionError, match=message) as error:
        convert_mots(kitti / "image_02", kitti / "instances_txt")
    assert "0002.txt" in str(error.value)


def test_counts_written_as_python_bytes_are_read(kitti):
    path = kitti / "instances_txt" / "0002.txt"
    expected = convert_mots(kitti / "image_02", path.parent).content
    lines = [line.rpartition(" ") for line in txt().splitlines()]
    path.write_text("\n".join(f"{head} {counts.encode()!r}" for head, _, counts in lines))
    assert convert_mots(kitti / "image_02", path.parent).content == expected


def save(path, array):
    Image.fromarray(array).save(path)


PNG_FAULTS = {
    r"000001\.png is not a PNG of 16 bits": lambda folder: save(
        folder / "000001.png", np.zeros((HEIGHT, WIDTH), np.uint8)
    ),
    r"000001\.png is 5 x 4 pixels, its frame 32 x 24": lambda folder: save(
        folder / "000001.png", np.zeros((4, 5), np.uint16)
    ),
    r"000001\.png cannot be read": lambda folder: (folder / "000001.png").write_bytes(b"PNG"),
    "there is no PNG of number 2": lambda folder: (folder / "000002.png").unlink(),
    "there is no frame of number 3": lambda folder: shutil.copy(
        folder / "000002.png", folder / "000003.png"
    ),
    r"x\.png: the frames' names must be numbers": lambda folder: shutil.copy(
        folder / "000002.png", folder / "x.png"
    ),
    "object 7000 is of class 7": lambda folder: save(
        folder / "000001.png", np.full((HEIGHT, WIDTH), 7000, np.uint16)
    ),
}


@pytest.mark.parametrize("message", PNG_FAULTS)
def test_bad_pngs_are_named(kitti, message):
    PNG_FAULTS[message](kitti / "instances" / "0002")
    with pytest.raises(ConversionError, match=message):
        convert_mots(kitti / "image_02", kitti / "instances")


def test_folders_without_annotations_are_named(kitti, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConversionError, match="empty has no SEQUENCE"):
        convert_mots(kitti / "image_02", tmp_path / "empty")
    with pytest.raises(ConversionError, match="gone does not exist"):
        convert_mots(kitti / "image_02", tmp_path / "gone")
    with pytest.raises(ConversionError, match=r"0002\.txt: there is no folder .*0002 with"):
        convert_mots(tmp_path / "empty", kitti / "instances_txt")


def test_a_sequence_annotated_twice_is_named(kitti):
    shutil.copy(kitti / "instances_txt" / "0002.txt", kitti / "instances")
    with pytest.raises(ConversionError, match=r"0002 and .*0002\.txt are both of sequence 0002"):
        convert_mots(kitti / "image_02", kitti / "instances")
