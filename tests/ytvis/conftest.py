import pytest
from mmengine.registry import init_default_scope

import mmvis_plugin.datasets  # noqa: F401  (registers)


@pytest.fixture(autouse=True, scope="session")
def _mmdet_scope():
    init_default_scope("mmdet")
