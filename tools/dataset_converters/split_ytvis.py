"""Split a YouTube-VIS training JSON by video into a part to train on and a held-out part.

The official validation sets have no public annotations, so configs validate on the held-out part.
"""

import argparse
import random
from collections import Counter
from pathlib import Path


def split_videos(content: dict, val_ratio: float, seed: int) -> set[int]:
    """Choose the held-out videos, stratified by class.

    Classes are dealt out one by one, the one with the fewest videos left first; each video goes to
    the side that lacks more videos of that class (iterative stratification). A class in two or more
    videos is on both sides where the videos allow it; the only video of a class stays in training.

    Args:
        content (dict): Official YouTube-VIS JSON with annotations.
        val_ratio (float): In (0, 1).
        seed (int): The same seed gives the same split.

    Returns:
        set[int]: Ids of the held-out videos.
    """
    classes_of = {video["id"]: set() for video in content["videos"]}
    for annotation in content["annotations"]:
        classes_of[annotation["video_id"]].add(annotation["category_id"])
    # Videos without objects are dealt out like one more class; no category has a negative id.
    classes_of = {video: classes or {-1} for video, classes in classes_of.items()}
    left = Counter(c for classes in classes_of.values() for c in classes)
    val_lacks = {c: float(min(max(val_ratio * n, 1), n - 1)) for c, n in left.items()}
    train_lacks = {c: n - val_lacks[c] for c, n in left.items()}
    in_train = Counter(left)  # so far, or still to be dealt out
    order = list(classes_of)
    random.Random(seed).shuffle(order)
    held_out = set()

    def in_order(class_: int | str) -> tuple:
        return isinstance(class_, str), class_  # ids may be texts, videos without objects are -1

    def can_hold_out(video: int) -> bool:
        return all(in_train[c] > 1 for c in classes_of[video])

    def hold_out(video: int) -> None:
        held_out.add(video)
        in_train.subtract(classes_of[video])

    undealt = list(order)
    while undealt:
        rarest = min((c for c in left if left[c]), key=lambda c: (left[c], *in_order(c)))
        for video in [v for v in undealt if rarest in classes_of[v]]:
            lacks = train_lacks
            if val_lacks[rarest] > train_lacks[rarest] and can_hold_out(video):
                hold_out(video)
                lacks = val_lacks
            for c in classes_of[video]:
                lacks[c] -= 1
                left[c] -= 1
            undealt.remove(video)
    # A class may have come to training as a whole, in the company of rarer ones.
    for class_ in sorted(left, key=in_order):
        videos = [v for v in order if class_ in classes_of[v]]
        if len(videos) > 1 and not held_out.intersection(videos):
            movable = [v for v in videos if can_hold_out(v)]
            if movable:
                hold_out(min(movable, key=lambda v: len(classes_of[v])))
    return held_out


def select(content: dict, video_ids: set[int]) -> dict:
    """The part of a JSON about some videos; ids and order stay."""
    return {
        **content,
        "videos": [v for v in content["videos"] if v["id"] in video_ids],
        "annotations": [a for a in content["annotations"] if a["video_id"] in video_ids],
    }


def split(path: Path, val_ratio: float, seed: int) -> dict[str, dict]:
    """Read a JSON and give its two parts, ``train`` and ``val``; see :func:`split_videos`.

    Raises:
        ValueError: If the reader refuses it, or it has no annotations or too few videos.
        OSError: If it cannot be read.
    """
    from mmvis_plugin.ytvis.reader import read_ytvis

    data = read_ytvis(path, keep_lists=True)
    content, videos = data.content, set(data.videos)
    if not data.tracks:
        raise ValueError(f"{path} has no annotations; split the training JSON")
    held_out = split_videos(content, val_ratio, seed)
    if not held_out:
        raise ValueError(f"{path}: too few videos of each class to hold any out")
    return dict(train=select(content, videos - held_out), val=select(content, held_out))


def class_table(parts: dict[str, dict]) -> str:
    """Videos and objects of each class in each part, as text."""
    categories = next(iter(parts.values()))["categories"]
    width = max(len(name) for name in ("all classes", *(c["name"] for c in categories)))
    columns = [f"{name} {what}" for name in parts for what in ("videos", "objects")]
    lines = ["  ".join(["class".ljust(width), *columns])]
    rows = [(c["name"], [c["id"]]) for c in categories]
    for name, ids in [*rows, ("all classes", [c["id"] for c in categories])]:
        cells = []
        for part in parts.values():
            found = [a["video_id"] for a in part["annotations"] if a["category_id"] in ids]
            cells += [len(set(found)), len(found)]
        padded = [str(cell).rjust(len(column)) for cell, column in zip(cells, columns, strict=True)]
        lines.append("  ".join([name.ljust(width), *padded]))
    counts = ", ".join(f"{len(part['videos'])} {name}" for name, part in parts.items())
    return "\n".join([*lines, f"videos, with those without objects: {counts}"])


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example:\n  python tools/dataset_converters/split_ytvis.py "
        "data/youtube_vis_2019/train.json\n"
        "writes train_sub-train.json and train_sub-val.json beside it, which the configs use",
    )
    parser.add_argument("ann_file", type=Path, help="training JSON in the YouTube-VIS format")
    parser.add_argument(
        "--val-ratio",
        type=float,
        default=0.1,
        metavar="SHARE",
        help="share of the videos to hold out, between 0 and 1 (default: %(default)s)",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="of the drawing; the same seed gives the same split (default: %(default)s)",
    )
    for part, what in (("train", "train on"), ("val", "hold out")):
        parser.add_argument(
            f"--out-{part}",
            type=Path,
            metavar="FILE.json",
            help=f"JSON to write of the videos to {what} (default: <ann_file>_sub-{part}.json)",
        )
    args = parser.parse_args(argv)
    if not 0 < args.val_ratio < 1:
        parser.error(f"--val-ratio must be between 0 and 1, got {args.val_ratio}")
    if not args.ann_file.is_file():
        parser.error(f"{args.ann_file} does not exist")
    stem = args.ann_file.with_suffix("")
    args.out_train = args.out_train or Path(f"{stem}_sub-train.json")
    args.out_val = args.out_val or Path(f"{stem}_sub-val.json")
    return args


def main(argv=None) -> None:
    args = parse_args(argv)
    # Imported here, so that --help does not wait for PyTorch and MMDetection.
    from mmvis_plugin.files import write_json

    try:
        parts = split(args.ann_file, args.val_ratio, args.seed)
        write_json(parts["train"], args.out_train)
        write_json(parts["val"], args.out_val)
    except (OSError, ValueError) as error:
        raise SystemExit(f"error: {error}") from None
    print(class_table(parts))
    print(f"wrote {args.out_train} and {args.out_val}")


if __name__ == "__main__":
    main()
