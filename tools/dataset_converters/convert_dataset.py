"""Convert annotations of other tools and datasets to a YouTube-VIS JSON, or one to MMDetection's.

The report says how many videos, frames, objects and classes were written, and what was left out.
"""

import argparse
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # tools/
import command_line

SCRIPT = "python tools/dataset_converters/convert_dataset.py"
EXAMPLES = f"""\
examples:
  {SCRIPT} cvat cats.zip dogs.zip \\
      --images data/mine --out data/mine/train.json
  {SCRIPT} labelme data/mine/frames \\
      --classes cat dog --out data/mine/train.json
  {SCRIPT} cvat --help
"""


def add_cvat(parser: argparse.ArgumentParser) -> None:
    add_inputs(parser, "+", annotations="ZIP as it was downloaded, its unpacked folder, or XML")
    parser.add_argument(
        "--images",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="folder with the frames in NAME/images or NAME, where those of ZIPs are unpacked to; "
        "file_names are relative to it",
    )
    add_classes(parser, "labels of the tasks, by name")
    parser.add_argument(
        "--identity",
        type=identity,
        default="track",
        metavar="track|group|attribute:NAME",
        help="what an object is: a track; a group, which joins tracks and masks of one label; or "
        "an attribute, which joins tracks and masks of one value (default: %(default)s)",
    )


def add_labelme(parser: argparse.ArgumentParser) -> None:
    add_inputs(parser, labels="folder with a folder of LabelMe files for each video")
    parser.add_argument(
        "--images",
        type=command_line.existing,
        metavar="FOLDER",
        help="folder that file_names are relative to (default: the folder of labels)",
    )
    add_classes(parser, "labels that occur, by name")
    parser.add_argument(
        "--ungrouped",
        choices=("refuse", "label", "number"),
        default="refuse",
        help="what a shape without group_id is: an error; the one object of its label in the "
        "video; or, in labels such as cow-1 and cow-2, the object of this number and the class "
        "cow (default: %(default)s)",
    )
    parser.add_argument(
        "--unlabelled",
        choices=("drop", "empty"),
        default="drop",
        help="what to do with an image without a LabelMe file: drop it, or take it for a frame "
        "without objects (default: %(default)s)",
    )
    parser.add_argument(
        "--encoding",
        metavar="NAME",
        help="encoding of the LabelMe files, such as gbk (default: UTF-8)",
    )


def add_mots(parser: argparse.ArgumentParser) -> None:
    add_inputs(
        parser,
        images="folder with the frames in SEQUENCE or SEQUENCE/img1",
        annotations="folder with SEQUENCE/*.png, SEQUENCE.txt or SEQUENCE/gt/gt.txt",
    )
    parser.add_argument(
        "--sequences",
        nargs="+",
        metavar="NAME",
        help="sequences to convert (default: all that have annotations)",
    )
    parser.add_argument(
        "--classes",
        type=numbered_class,
        nargs="+",
        metavar="NUMBER=NAME",
        help="names of MOTS's class numbers (default: 1=car 2=pedestrian)",
    )


def add_vos(parser: argparse.ArgumentParser) -> None:
    add_inputs(
        parser,
        images="folder with a folder of frames for each video",
        masks="folder with a folder of PNGs for each video",
    )
    parser.add_argument(
        "--meta",
        type=command_line.existing,
        metavar="FILE.json",
        help="the meta.json of YouTube-VOS, which has the classes of the objects",
    )
    parser.add_argument(
        "--videos",
        type=lines_of,
        metavar="FILE.txt",
        help="list of the videos to convert, one name a line (default: all that have masks)",
    )
    parser.add_argument(
        "--class-name",
        default="object",
        metavar="NAME",
        help="class of all objects without --meta (default: %(default)s)",
    )
    add_classes(parser, "classes that occur, by name")


def add_json(parser: argparse.ArgumentParser) -> None:
    add_inputs(parser, path="JSON to read")


def add_inputs(parser: argparse.ArgumentParser, nargs: str | None = None, **helps: str) -> None:
    for name, text in helps.items():
        parser.add_argument(name, type=command_line.existing, nargs=nargs, help=text)


def add_classes(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument(
        "--classes",
        nargs="+",
        metavar="NAME",
        help="classes in the order of their category ids, so that several datasets get the same "
        f"(default: {default})",
    )


def identity(text: str) -> str:
    if not re.fullmatch("track|group|attribute:.+", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not track, group or attribute:NAME")
    return text


def numbered_class(text: str) -> tuple[int, str]:
    match = re.fullmatch(r"(\d{1,6})=(.+)", text, re.ASCII)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is not NUMBER=NAME")
    return int(match[1]), match[2]


def lines_of(text: str) -> list[str]:
    """The lines of a text file that are not empty."""
    path = command_line.existing(text)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise argparse.ArgumentTypeError(f"{text} cannot be read as a list: {error}") from error
    return [line.strip() for line in lines if line.strip()]


class Format(NamedTuple):
    """A sub-command: what it converts, with which function of the package, and an example."""

    add_arguments: Callable[[argparse.ArgumentParser], None]
    function: str
    text: str
    example: str


COCO = "MMDetection's video JSON (COCO style)"
FORMATS = {
    "cvat": Format(
        add_cvat,
        "convert_cvat",
        'exports of CVAT in the format "CVAT for video 1.1", each a video',
        "cats.zip dogs.zip --images data/mine --out data/mine/train.json",
    ),
    "labelme": Format(
        add_labelme,
        "convert_labelme",
        "files of LabelMe or X-AnyLabeling; an object is a label with a group_id",
        "data/mine/frames --classes cat dog --out data/mine/train.json",
    ),
    "mots": Format(
        add_mots,
        "convert_mots",
        "PNG or txt of KITTI MOTS or MOTSChallenge; regions to ignore are crowds of each class",
        "data/kitti_mots/training/image_02 data/kitti_mots/instances_txt --sequences 0000 0001 "
        "--out data/kitti_mots/train.json",
    ),
    "vos": Format(
        add_vos,
        "convert_vos",
        "indexed PNGs of DAVIS or YouTube-VOS; frames without a PNG are left out",
        "data/DAVIS/JPEGImages/480p data/DAVIS/Annotations/480p --out data/DAVIS/train.json "
        "--videos data/DAVIS/ImageSets/2017/train.txt",
    ),
    "cocovid": Format(
        add_json, "cocovid_to_ytvis", COCO, "data/mine/cocovid.json --out data/mine/train.json"
    ),
    "to-cocovid": Format(
        add_json,
        "ytvis_to_cocovid",
        f"a YouTube-VIS JSON to {COCO}",
        "data/ovis/annotations_train.json --out data/ovis/cocovid_train.json",
    ),
}


def make_parser() -> argparse.ArgumentParser:
    parser = command_line.make_parser(__doc__, EXAMPLES)
    commands = parser.add_subparsers(
        dest="format",
        required=True,
        metavar="FORMAT",
        help="format to convert; FORMAT --help has its options",
    )
    for name, format_ in FORMATS.items():
        text = f"convert {format_.text}"
        sub = commands.add_parser(
            name,
            help=text,
            description=text,
            epilog=f"example:\n  {SCRIPT} {name} \\\n      {format_.example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        format_.add_arguments(sub)
        command_line.add_json(sub)
    return parser


def convert(args: argparse.Namespace) -> None:
    from mmvis_plugin.datasets import converters

    options = vars(args)
    function = getattr(converters, FORMATS[options.pop("format")].function)
    out = options.pop("out")
    print(function(**options, progress=command_line.progress).write(out))


def main() -> None:
    args = make_parser().parse_args()
    command_line.run(lambda: convert(args))


if __name__ == "__main__":
    main()
