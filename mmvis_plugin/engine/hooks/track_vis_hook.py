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

from mmvis_plugin.visualization import TrackVisualizer, default_enlargement


@HOOKS.register_module()
class TrackVisHook(Hook):
    """Writes ``<out_dir>/<video name>.mp4`` for each video of a test run.

    Frames are drawn and written as they become final, also where a method looks ahead; each
    shows the label and score the model gives that frame. Small frames are enlarged so that labels
    have room. The video's name is the folder its frames lie in, followed by ``_<video_id>`` where
    two videos share that name.

    Args:
        out_dir: Folder for the videos; made if missing.
        score_thr: Instances that score less are not drawn.
        fps: Frame rate of the videos, which the annotation formats do not hold.
    """

    def __init__(self, out_dir: str, score_thr: float = 0.3, fps: float = 10):
        self.out_dir = Path(out_dir)
        self.score_thr = score_thr
        self.fps = Fraction(fps).limit_denominator(1001)

    def before_test_epoch(self, runner: Runner) -> None:
        """Name the videos and take the class names from the test dataset."""
        dataset = runner.test_dataloader.dataset
        self._classes = dataset.metainfo["classes"]
        videos = (dataset.get_data_info(index) for index in range(len(dataset)))
        names = {v["video_id"]: Path(v["images"][0]["img_path"]).parent.name for v in videos}
        count = Counter(names.values())
        self._names = {
            video_id: name if count[name] == 1 else f"{name}_{video_id}"
            for video_id, name in names.items()
        }
        self._open: dict[int, tuple] = {}  # visualizer and writer by video id

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
        if video_id not in self._open:
            self._open[video_id] = self._start(self._names[video_id], frame.shape[1::-1])
        visualizer, writer = self._open[video_id]
        writer.write(visualizer.draw(frame, sample.pred_track_instances))
        if sample.frame_id == sample.ori_video_length - 1:
            del self._open[video_id]
            writer.close()

    def _start(self, name: str, size: tuple[int, int]) -> tuple:
        """Visualizer and writer of a video of frames of (width, height)."""
        from mmvis_plugin.video import VideoWriter  # PyAV is loaded when there is a video

        enlarge = default_enlargement(size)
        visualizer = TrackVisualizer(self._classes, self.score_thr, enlarge=enlarge)
        size = tuple(enlarge * side for side in size)
        return visualizer, VideoWriter(self.out_dir / f"{name}.mp4", self.fps, size)

    def after_test_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """Close videos whose last frame was not tested."""
        for _, writer in self._open.values():
            writer.close()
        self._open.clear()
