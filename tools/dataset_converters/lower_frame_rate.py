"""Keep every n-th frame of a YouTube-VIS JSON: the same videos at a lower frame rate.

Frame files stay where they are. Objects that no frame is left of are dropped.
"""

import argparse
import sys
from pathlib import Path

EXAMPLE = """example:
  python tools/dataset_converters/lower_frame_rate.py data/shapes_vis/valid.json --stride 4
writes data/shapes_vis/valid_stride4.json"""


def main() -> None:
    args = parse_args()
    # Imported here, so that --help does not wait for PyTorch and MMDetection.
    from mmvis_plugin.files import write_json
    from mmvis_plugin.ytvis.reader import read_ytvis

    out = args.out or args.ann_file.with_name(f"{args.ann_file.stem}_stride{args.stride}.json")
    try:
        data = read_ytvis(args.ann_file, keep_lists=True)
        content = lower_frame_rate(data.content, args.stride)
        write_json(content, out)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    frames = sum(video["length"] for video in content["videos"])
    print(f"{out}: {len(content['videos'])} videos, {frames} frames")


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("ann_file", type=Path, help="JSON in the YouTube-VIS format")
    parser.add_argument(
        "--stride", type=int, required=True, metavar="N", help="keep frames 0, N, 2N ..."
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE.json",
        help="JSON to write (default: <ann_file>_stride<N>.json)",
    )
    return parser.parse_args()


def lower_frame_rate(content: dict, stride: int) -> dict:
    """The same content with the frames 0, ``stride``, 2 * ``stride`` ... of each video.

    Args:
        content: Official YouTube-VIS JSON, with or without annotations; left as it is.
        stride: At least 1.

    Returns:
        dict: Ids and order of videos and objects stay.

    Raises:
        ValueError: If the stride is not positive.
        KeyError: If a part of the format is missing.
    """
    if stride < 1:
        raise ValueError(f"the stride must be at least 1, got {stride}")

    def thinned(record: dict, length: int) -> dict:
        """Every list over frames is cut, also those that only some datasets have (occlusion)."""
        lists = {key: value for key, value in record.items() if isinstance(value, list)}
        lists.pop("tags", None)  # of the whole video, however many there are
        cut = {key: values[::stride] for key, values in lists.items() if len(values) == length}
        return record | cut

    videos = [thinned(video, len(video["file_names"])) for video in content["videos"]]
    for video in videos:
        video["length"] = len(video["file_names"])
    result = content | dict(videos=videos)
    if content.get("annotations"):
        tracks = [thinned(track, len(track["segmentations"])) for track in content["annotations"]]
        for track in tracks:
            track["length"] = len(track["segmentations"])
        result["annotations"] = [track for track in tracks if any(track["segmentations"])]
    return result


if __name__ == "__main__":
    main()
