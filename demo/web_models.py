"""The models that the page offers, as its visitors read of them, and films to try them on."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from web_limits import ModelChoice
from web_requests import ModelFacts

from mmvis_plugin.apis import VideoWriter
from mmvis_plugin.apis.releases import Release, find_release
from mmvis_plugin.config import find_config
from mmvis_plugin.datasets.shapes_vis import generate_video
from mmvis_plugin.files import write_picture

# How the words of a config's name are spelled by people.
SPELLINGS = {
    "bytetrack": "ByteTrack",
    "deepsort": "DeepSORT",
    "efficientvis": "EfficientVIS",
    "iou-plus": "IoUTracker+",
    "mask-rcnn": "Mask R-CNN",
    "mask2former": "Mask2Former",
    "mask2former-vis": "Mask2Former-VIS",
    "maskprop": "MaskProp",
    "masktrack-rcnn": "MaskTrack R-CNN",
    "minvis": "MinVIS",
    "mssts": "MS-STS VIS",
    "ocsort": "OC-SORT",
    "queryinst": "QueryInst",
    "rtmdet-ins": "RTMDet-Ins",
    "seq": "Seq-NMS",
    "seqformer": "SeqFormer",
    "sort": "SORT",
    "stmask": "STMask",
    "swin-l": "Swin-L",
}
CLASSES_SHOWN = 12
EXAMPLES = (16, 30, 7)  # of the validation films of ShapesVIS
EXAMPLE_SIZE = (96, 128)  # height and width in pixels, as in ShapesVIS
EXAMPLE_LENGTH = (36, 36)  # frames
EXAMPLE_RATE = 10


def menu_entry(name: str, choice: ModelChoice) -> str:
    """A model in the menu, with what it knows where that is known."""
    release = released(choice)
    if release is None:
        return name
    knows = "painted shapes only" if release.knows_shapes_only else release.dataset
    return f"{title(release.name)} ({knows})"


def released(choice: ModelChoice) -> Release | None:
    """What a metafile says of a model; None for weights of somebody's own."""
    return None if choice.checkpoint else find_release(find_config(choice.config))


def title(name: str) -> str:
    """The name of a config, ``<method>_<backbone>[_<variant>]_<dataset>``, as people write it.

    Examples:
        >>> title("bytetrack_mask-rcnn_r50_coco")
        'ByteTrack, Mask R-CNN, R-50'
    """
    for method in ("mask2former_vis", "masktrack_rcnn"):
        name = name.replace(method, method.replace("_", "-"))
    words = name.split("_")[:-1]
    return ", ".join(SPELLINGS.get(w, re.sub(r"^([rx])(\d)", upper_with_dash, w)) for w in words)


def upper_with_dash(found: re.Match) -> str:
    return f"{found[1].upper()}-{found[2]}"


def describe(choice: ModelChoice, facts: ModelFacts | None) -> str:
    """What a model knows and how far it looks ahead, in Markdown."""
    release = released(choice)
    classes = facts.classes if facts else (release.classes if release else ())
    lines = []
    if classes:
        names = ", ".join(name.replace("_", " ") for name in classes[:CLASSES_SHOWN])
        more = f" and {len(classes) - CLASSES_SHOWN} more" if len(classes) > CLASSES_SHOWN else ""
        lines.append(f"**Knows:** {names}{more}.")
    if release and release.knows_shapes_only:
        lines.insert(0, "**This model knows painted shapes only, and nothing in a real video.**")
    if release:
        ahead = {"none": "Looks at no later frame", "unknown": ""}.get(release.delay)
        ahead = f"Looks ahead: {release.delay}" if ahead is None else ahead
        lines.append(f"{ahead}." if ahead else "")
    return "  \n".join(filter(None, lines))


def known_classes(names: Iterable[str | None], facts: Mapping[str, ModelFacts]) -> list[str]:
    """The classes of some models, each once."""
    found = (facts[name].classes for name in names if name in facts)
    return list(dict.fromkeys(name for classes in found for name in classes))


class Example(NamedTuple):
    """A film to try the page on, and a picture of it."""

    film: Path
    picture: Path


def make_examples(folder: Path) -> list[Example]:
    """Write films of painted shapes; they are generated, nobody holds rights in them."""
    return [make_example(folder, number, index) for number, index in enumerate(EXAMPLES, 1)]


def make_example(folder: Path, number: int, index: int) -> Example:
    video = generate_video(0, "valid", index, EXAMPLE_LENGTH, EXAMPLE_SIZE, 6, version=1)
    film, picture = folder / f"shapes_{number}.mp4", folder / f"shapes_{number}.png"
    with VideoWriter(film, EXAMPLE_RATE, EXAMPLE_SIZE[::-1]) as writer:
        for frame in video.frames:
            writer.write(frame)
    write_picture(video.frames[len(video.frames) // 2], picture)
    return Example(film, picture)
