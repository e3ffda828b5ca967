"""Writes the tracks found in testing as one video per tested video."""

from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import mmcv
from mmdet.registry import HOOKS
from mmdet.structures import DetDataSample, TrackDataSample
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmvis_plugin.video.video_io import VideoWriter
from mmvis_plugin.visualization.track_visualizer import TrackVisualizer


@HOOKS.register_module()
class TrackVisHook(Hook):
    """Writes ``<out_dir>/<video name>.mp4`` for each video of a test run.

    Frames are drawn and written as they become final, also where a method looks ahead; each
    shows the label and score the model gives that frame. The video's name is the folder its
    frames lie in, followed by ``_<video_id>`` where two videos share that name.

    Args:
        out_dir: Folder for the videos; made if missing.
        score_thr: Instances that score less are not drawn.
        fps: Frame rate of the videos; the annotation formats do not tell it.
    """

    def __init__(self, out_dir: str, score_thr: float = 0.3, fps: float = 10):
        self.out_dir = Path(out_dir)
        self.score_thr = score_thr
        self.fps = Fraction(fps).limit_denominator(1001)

    def before_test_epoch(self, runner: Runner) -> None:
        """Name the videos and take the class names from the test dataset."""
        dataset = runner.test_dataloader.dataset
        self._visualizer = TrackVisualizer(dataset.metainfo["classes"], self.score_thr)
        videos = (dataset.get_data_info(index) for index in range(len(dataset)))
        names = {v["video_id"]: Path(v["images"][0]["img_path"]).parent.name for v in videos}
        count = Counter(names.values())
        self._names = {
            video_id: name if count[name] == 1 else f"{name}_{video_id}"
            for video_id, name in names.items()
        }
        self._writers: dict[int, VideoWriter] = {}

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: Sequence[TrackDataSample] | None = None,
    ) -> None:
        """Draw and write the frames that became final, and close videos at their last frame."""
        for track_sample in outputs or ():
            for frame_sample in track_sample.get("video_data_samples", ()):
                self._write(frame_sample)

    def _write(self, sample: DetDataSample) -> None:
        frame = mmcv.imread(sample.img_path)
        video_id = sample.video_id
        if video_id not in self._writers:
            path = self.out_dir / f"{self._names[video_id]}.mp4"
            self._writers[video_id] = VideoWriter(path, self.fps, frame.shape[1::-1])
        picture = self._visualizer.draw(frame, sample.pred_track_instances)
        self._writers[video_id].write(picture)
        if sample.frame_id == sample.ori_video_length - 1:
            self._writers.pop(video_id).close()

    def after_test_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """Close videos whose last frame was not tested."""
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()
