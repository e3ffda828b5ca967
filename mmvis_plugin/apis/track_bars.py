"""The tracks of a file as the bars of a timeline."""

import csv
import os
from collections.abc import Iterator

from mmvis_plugin.visualization.timeline import TrackBar, runs_of
from mmvis_plugin.ytvis.json_file import read_json


def read_track_table(path: str | os.PathLike) -> list[TrackBar]:
    """Tracks of a table that :class:`CSVSink` wrote.

    Args:
        path: The table, which has the identities that the video of the same run shows.

    Raises:
        ValueError: If it is no such table; the message says which row is wrong.
    """
    bars = []
    for row in read_rows(path):
        try:
            areas = [int(area) for area in row["areas"].split()]
            runs = runs_of(areas, int(row["first_frame"]))
            score = float(row["score"])
            bars.append(TrackBar(int(row["track_id"]), row["class"], score, runs))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(
                f"{path}: row {len(bars) + 1} is not that of a table of tracks, which has the "
                f"columns track_id, class, score, first_frame and areas ({error!r})"
            ) from error
    return bars


def read_rows(path: str | os.PathLike) -> Iterator[dict[str, str]]:
    """Rows of a table of tracks, by the names of its columns."""
    # The areas of a track of some minutes are more than the 131,072 characters of the default.
    csv.field_size_limit(2**31 - 1)
    with open(path, encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


def read_results(
    path: str | os.PathLike, video_id: int | None = None, classes: dict[int, str] | None = None
) -> tuple[list[TrackBar], int]:
    """Tracks of a video in official YouTube-VIS results.

    The format has no identities: a track's is its rank by score, as in the pictures of
    ``tools/analysis_tools/browse_ytvis.py --results``.

    Args:
        path: JSON as ``tools/test.py --out`` and ``JSONSink`` write it.
        video_id: Which video; it may be left out where the results are of one.
        classes: Class name by category id. Without it, or for ids that are not in it, the id
            stands for the name.

    Returns:
        tuple[list[TrackBar], int]: The tracks by falling score, and the video's number of frames,
        0 where there are no tracks.

    Raises:
        ValueError: If the file is no such JSON, or holds several videos and none is chosen.
    """
    try:
        entries = read_json(path)
        videos = sorted({entry["video_id"] for entry in entries})
        if video_id is None and len(videos) > 1:
            raise ValueError(f"{path} has {len(videos)} videos ({videos[0]}, ...): choose one")
        wanted = videos[0] if video_id is None and videos else video_id
        entries = [entry for entry in entries if entry["video_id"] == wanted]
        bars = []
        for entry in sorted(entries, key=lambda entry: -entry["score"]):
            category = entry["category_id"]
            name = (classes or {}).get(category, f"category {category}")
            runs = runs_of(entry["segmentations"])
            bars.append(TrackBar(len(bars), name, entry["score"], runs))
        return bars, max((len(entry["segmentations"]) for entry in entries), default=0)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a JSON of results ({error!r})") from error
