"""The loop that gives tracks to annotations, compiled by Numba; imported at its first use."""

import numpy as np

from mmvis_plugin.ytvis.rle_loops import compiled


@compiled
def assign(ious, first, stop, gt_ignored, crowd, thresholds, matched, ignored):
    """Give each track, best score first, the free annotation it overlaps most.

    Annotations that count come before ignored ones, whatever the overlap, and the later one wins
    between equals. A crowd annotation takes any number of tracks.

    Args:
        ious: (D, C), IoU of each track with the annotations of its class.
        first: (D,) first annotation of the track's class.
        stop: (D,) the one after the last.
        gt_ignored: (G, areas) bool, annotations that do not count in each area range.
        crowd: (G,) bool.
        thresholds: (thresholds,) IoU that makes a match.
        matched: (D, areas, thresholds) bool, all False; filled in.
        ignored: Likewise: matched to an annotation that does not count.
    """
    num_tracks, num_areas, num_thresholds = matched.shape
    taken = np.zeros((len(crowd), num_areas, num_thresholds), dtype=np.bool_)
    for d in range(num_tracks):
        for a in range(num_areas):
            for t in range(num_thresholds):
                best, best_iou, best_counts = -1, thresholds[t], False
                for g in range(first[d], stop[d]):
                    if taken[g, a, t] and not crowd[g]:
                        continue
                    iou, counts = ious[d, g - first[d]], not gt_ignored[g, a]
                    least = best_iou if counts == best_counts else thresholds[t]
                    if iou >= least and counts >= best_counts:
                        best, best_iou, best_counts = g, iou, counts
                if best >= 0:
                    matched[d, a, t] = True
                    ignored[d, a, t] = not best_counts
                    taken[best, a, t] = True
