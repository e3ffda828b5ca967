"""ByteTrack and OC-SORT give the identities that MMDetection's trackers give.

Where MMDetection's code does not follow the paper, the references here are corrected; these are
all the branches that differ.
"""

import numpy as np
import torch
from linking import assert_same_tracks, link, random_video
from mmdet.models.trackers import ByteTracker, OCSORTTracker
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox_xyxy_to_cxcyah
from mmengine.structures import InstanceData

from mmvis_plugin.models.track_by_detection.linkers import ByteTrackLinker, OCSORTLinker


class PredictsAll:
    """MMDetection predicts confirmed tracks only; in the papers, all tracks are predicted."""

    def track(self, data_sample):
        for track_id in self.unconfirmed_ids:
            track = self.tracks[track_id]
            track.mean, track.covariance = self.motion.predict(track.mean, track.covariance)
        return super().track(data_sample)


class PaperByteTracker(PredictsAll, ByteTracker):
    pass


class PaperOCSORTTracker(PredictsAll, OCSORTTracker):
    def update_track(self, id, obj):
        """MMDetection updates the filter with each detection twice: its parent does, too."""
        track = self.tracks[id]
        predicted = track.mean, track.covariance
        super().update_track(id, obj)
        bbox = bbox_xyxy_to_cxcyah(track.bboxes[-1])[0].numpy()
        track.mean, track.covariance = self.kf.update(*predicted, bbox)

    def online_smooth(self, track, obj):
        """MMDetection only updates along the virtual trajectory; the paper predicts, too."""
        boxes = [box for box in track.obs if box is not None]
        missed = next(n for n, box in enumerate(reversed(track.obs)) if box is not None)
        state = self.kf.predict(track.saved_attr.mean, track.saved_attr.covariance)
        for step in range(1, missed + 1):
            box = boxes[-1] + step * (obj - boxes[-1]) / (missed + 1)
            state = self.kf.update(*state, bbox_xyxy_to_cxcyah(box[None])[0].numpy())
            state = self.kf.predict(*state)
        track.mean, track.covariance = state


def sample_of(detections, frame):
    """A frame for MMDetection.

    In a frame without detections it neither predicts nor counts a miss, so such a frame gets one
    that is below all thresholds.
    """
    bboxes, scores, labels = detections.bboxes, detections.scores, detections.labels
    if not len(detections):
        bboxes, scores, labels = np.array([[0.0, 0, 1, 1]]), np.zeros(1), np.zeros(1, dtype=int)
    sample = DetDataSample(metainfo={"frame_id": frame})
    sample.pred_instances = InstanceData(
        bboxes=torch.tensor(bboxes), scores=torch.tensor(scores), labels=torch.tensor(labels)
    )
    return sample


def reference_ids(tracker, video):
    """Identities of each frame's detections, which MMDetection gives in another order."""
    frames = []
    for frame, detections in enumerate(video):
        tracked = tracker.track(sample_of(detections, frame))
        ids = np.full(len(detections), -1)
        for bbox, track_id in zip(tracked.bboxes.numpy(), tracked.instances_id, strict=True):
            (row,) = np.flatnonzero((detections.bboxes == bbox).all(1))
            ids[row] = track_id
        frames.append(ids)
    return frames


# MMDetection opens tracks of all high detections, whatever `init_track_thr`, except in the first
# frame and where nothing is tracked: both get the same threshold. It forgets a track in the frame
# in which it is missed for the `num_frames_retain`-th time, ours in the one after the
# `max_gap`-th.
VIDEOS = [random_video(seed, num_frames=20) for seed in range(50)]
MMDET = dict(motion=dict(type="KalmanFilter"), num_frames_retain=5)


def test_bytetrack():
    linker = ByteTrackLinker(init_score=0.6, max_gap=4)
    for video in VIDEOS:
        tracker = PaperByteTracker(init_track_thr=0.6, **MMDET)
        assert_same_tracks(link(linker, video), reference_ids(tracker, video))


def test_ocsort():
    linker = OCSORTLinker(init_score=0.3, max_gap=4)
    for video in VIDEOS:
        tracker = PaperOCSORTTracker(init_track_thr=0.3, **MMDET)
        assert_same_tracks(link(linker, video), reference_ids(tracker, video))
