import json

import pytest

from mmvis_plugin.datasets import YTVISDataset
from mmvis_plugin.ytvis.checking import check_ytvis


@pytest.fixture
def usable(tmp_path):
    """Function that fails unless the dataset and the checker find a conversion's JSON right."""

    def check(conversion, images):
        path = tmp_path / "usable.json"
        conversion.write(path)
        report = check_ytvis(path, images)
        assert not report.num_errors, "\n".join(map(str, report.problems))
        dataset = YTVISDataset(ann_file=str(path), data_prefix=dict(img_path=str(images)))
        assert len(dataset) == len(json.loads(path.read_text())["videos"])

    return check
