"""Check a dataset in the YouTube-VIS format and print all that is wrong with it, and where.

The exit status is 1 if there are errors, 2 if the check cannot be made or its report cannot be
written; warnings are printed only.
"""

import argparse
import sys
from pathlib import Path

EXAMPLE = """\
example:
  python tools/analysis_tools/check_ytvis.py data/youtube_vis_2019/train.json \\
      --images data/youtube_vis_2019/train/JPEGImages
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("ann_file", type=Path, help="JSON in the YouTube-VIS format")
    parser.add_argument(
        "--images",
        type=Path,
        metavar="FOLDER",
        help="check the frames as well, which lie in this folder",
    )
    parser.add_argument(
        "--decode",
        action="store_true",
        help="with --images: decode every frame, which finds files that are cut off (slow)",
    )
    parser.add_argument("--json", metavar="FILE.json", help="write the report as JSON")
    args = parser.parse_args()
    if args.decode and args.images is None:
        parser.error("--decode needs --images")
    from tqdm import tqdm

    from mmvis_plugin.files import check_writable, write_json
    from mmvis_plugin.ytvis.checking import check_ytvis

    try:
        if args.json:
            check_writable(args.json)
        report = check_ytvis(
            args.ann_file, args.images, args.decode, lambda items, unit: tqdm(items, unit=unit)
        )
        for problem in report.problems:
            print(problem)
        print(report.summary())
        if args.json:
            write_json(report.as_dict(), args.json)
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    if report.num_errors:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
