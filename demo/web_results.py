"""Results of a video on disk, so that they are drawn again without the model."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import torch
from mmengine.structures import InstanceData

from mmvis_plugin.apis import FrameResult, VideoReader, VideoStream

FILE = "results.jsonl"


@dataclass(eq=False)
class KeptVideo:
    """A video that was segmented; for sinks it is what :class:`VideoStream` is.

    Attributes:
        path: The video.
        folder: Where the results are.
        tracks: What the model decided on at the end, see :class:`VideoStream`.
        complete: Whether all frames have been given.
        num_read: Number of frames that were segmented.
        title: What its results are called beside those of another model.
        labels: Labels that are shown; None for all.
        drawn: Where the files are that were drawn of them.
    """

    path: Path
    folder: Path
    name: str
    source: str
    fps: Fraction
    size: tuple[int, int]
    num_frames: int | None
    expected_frames: int | None
    num_broken: int
    classes: tuple[str, ...]
    category_ids: tuple[int, ...]
    tracks: InstanceData | None
    num_read: int
    complete: bool = False
    title: str = ""
    labels: list[int] | None = None
    drawn: Path | None = None

    def wanted(self, instances: InstanceData) -> InstanceData:
        """The instances of the classes that are to be shown."""
        if self.labels is None:
            return instances
        return instances[torch.isin(instances.labels, torch.tensor(self.labels, dtype=torch.long))]


def keep_frame(file, instances: InstanceData) -> None:
    """Write the instances of a frame as a line."""
    columns = ("bboxes", "labels", "scores", "instances_id")
    line = {name: instances[name].tolist() for name in columns}
    line["masks"] = [dict(size=list(m["size"]), counts=m["counts"]) for m in instances.masks]
    file.write(json.dumps(line) + "\n")


def kept_frame(line: str) -> InstanceData:
    """The instances that :func:`keep_frame` wrote."""
    kept = json.loads(line)
    return InstanceData(
        bboxes=torch.tensor(kept["bboxes"], dtype=torch.float32).view(-1, 4),
        labels=torch.tensor(kept["labels"], dtype=torch.long),
        scores=torch.tensor(kept["scores"], dtype=torch.float32),
        instances_id=torch.tensor(kept["instances_id"], dtype=torch.long),
        masks=kept["masks"],
    )


def kept_video(video: VideoStream, path: Path, folder: Path, num_read: int) -> KeptVideo:
    """What is known of a video after its last result."""
    tracks = None if video.tracks is None else video.tracks.cpu()
    return KeptVideo(
        path=path,
        folder=folder,
        name=video.name,
        source=video.source,
        fps=video.fps,
        size=video.size,
        num_frames=video.num_frames,
        expected_frames=video.expected_frames,
        num_broken=video.num_broken,
        classes=video.classes,
        category_ids=video.category_ids,
        tracks=tracks,
        num_read=num_read,
    )


def replay(kept: KeptVideo, classes: Sequence[str]) -> Iterator[FrameResult]:
    """The results of a video once more, as the model gave them.

    Args:
        kept: The video. It is not changed: the results are of a copy.
        classes: Names of the classes to keep; none for all. Those that the model does not know
            are passed over.
    """
    labels = [n for n, name in enumerate(kept.classes) if name in classes] if classes else None
    video = KeptVideo(**(vars(kept) | {"labels": labels}))
    if video.tracks is not None:
        video.tracks = video.wanted(video.tracks)
    with VideoReader(kept.path, end=kept.num_read) as reader, open(kept.folder / FILE) as file:
        for index, (image, line) in enumerate(zip(reader, file, strict=True)):
            video.complete = index + 1 == kept.num_read
            instances = video.wanted(kept_frame(line))
            yield FrameResult(video, index, image, reader.timing, instances)
