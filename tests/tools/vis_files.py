"""Small annotation and result files for the tests of the analysis tools."""

import json

from hota_cases import moving_boxes


def write_case(folder):
    """Annotations of four videos and two results, the second with a lost class in two videos.

    Videos 1 and 2 have the tag "occlusion", 2 also "fast_motion".

    Returns:
        tuple: Paths of the annotations, of right results and of worse ones.
    """
    gt, results = moving_boxes(4, videos=4)
    gt["videos"][0]["tags"] = ["occlusion"]
    gt["videos"][1]["tags"] = ["occlusion", "fast_motion"]
    gt["videos"][2]["tags"] = []
    worse = [r for r in results if r["category_id"] == 1 or r["video_id"] > 2]
    contents = {"gt.json": gt, "right.json": results, "worse.json": worse}
    for name, content in contents.items():
        (folder / name).write_text(json.dumps(content))
    return tuple(folder / name for name in contents)
