"""Data and weights of another version of ShapesVIS than the config's."""

import json

import pytest
from mmengine.config import Config
from run_config import dataset

from mmvis_plugin.checkpoint import dataset_version
from mmvis_plugin.config import ConfigError
from mmvis_plugin.engine.dataset_version import require_weights_version
from mmvis_plugin.engine.run_settings import require_data


@pytest.fixture
def config(tmp_path):
    """Function: a config for a version, and data of another one."""

    def make(wanted, info, name="shapes_vis"):
        root = tmp_path / name
        root.mkdir()
        # The rest of the JSON is not read here.
        (root / "train.json").write_text(f'{{"info": {json.dumps(info)}, "videos": [')
        meta = {} if wanted is None else dict(metainfo=dict(dataset_version=wanted))
        return Config(dict(train_dataloader=dict(dataset=dataset(f"{root}/", **meta))))

    return make


def info(version):
    return dict(description="ShapesVIS train", version=version, seed=0)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (1, info("1.0")),
        (2, info("2.0")),
        (None, info("1.0")),
        (2, dict(description="YouTube-VOS", version="1.0")),  # a user's data in a shapes config
        (2, {}),
        (2, None),
    ],
)
def test_data_that_fits_or_names_no_version_passes(config, wanted, found):
    require_data(config(wanted, found), ["train_dataloader"])


@pytest.mark.parametrize(
    ("wanted", "found", "name", "options"),
    [
        (1, "2.0", "shapes_vis", ""),
        (2, "1.0", "shapes_vis", ""),
        (2, "1.0", "shapes_vis_large", " --videos 1200"),
    ],
)
def test_data_of_another_version_is_refused(config, tmp_path, wanted, found, name, options):
    root = tmp_path / name
    with pytest.raises(ConfigError) as error:
        require_data(config(wanted, info(found), name), ["train_dataloader"])
    assert str(error.value) == (
        f"{root}/train.json is version {found[0]} of ShapesVIS, but train_dataloader.dataset is "
        f"for version {wanted}. To fix this, run: python tools/dataset_converters/"
        f"make_shapes_vis.py --version {wanted} --out {root}_v{wanted}{options}, and add: "
        f"--data-root {root}_v{wanted}"
    )


def test_missing_data_is_made_in_the_version_of_the_config(tmp_path):
    settings = dataset(f"{tmp_path}/shapes/", metainfo=dict(dataset_version=1))
    with pytest.raises(ConfigError, match=f"make_shapes_vis.py --version 1 --out {tmp_path}/shap"):
        require_data(Config(dict(val_dataloader=dict(dataset=settings))), ["val_dataloader"])


def test_weights_of_another_version_are_refused():
    def testing(**kwargs):
        return Config(dict(test_dataloader=dict(dataset=dataset(**kwargs))))

    cfg = testing(metainfo=dict(dataset_version=2))
    weights = dict(meta=dict(dataset_meta=dict(classes=("a",), dataset_version=2)))
    require_weights_version(cfg, dataset_version(weights), "x.pth")
    require_weights_version(testing(), dataset_version(weights), "x.pth")
    del weights["meta"]["dataset_meta"]["dataset_version"]  # from before there was a version 2
    with pytest.raises(ConfigError, match=r"x.pth was trained on version 1 .*--version 1 --out "):
        require_weights_version(cfg, dataset_version(weights), "x.pth")
