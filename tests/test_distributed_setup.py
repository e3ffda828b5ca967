import pytest
import torch
from mmengine.config import Config
from torch import distributed

from mmvis_plugin.config import ConfigError
from mmvis_plugin.distributed import set_launcher

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without a GPU")


@pytest.fixture
def environment(monkeypatch):
    """Function that sets variables as a launcher would; no other launcher's are set."""
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "")  # put back after the test
        monkeypatch.delenv(name)

    def set_variables(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    yield set_variables
    if distributed.is_initialized():
        distributed.destroy_process_group()


def test_one_process_needs_nothing(environment):
    cfg = Config(dict(model_wrapper_cfg=None))
    set_launcher(cfg, "none")
    assert cfg.launcher == "none" and cfg.model_wrapper_cfg is None
    assert not distributed.is_initialized()


@pytest.mark.parametrize("wrapper", [None, dict(type="TwoOptimizers", static_graph=True)])
def test_processes_without_a_gpu_use_gloo_and_no_device(environment, wrapper, tmp_path):
    environment(OMPI_COMM_WORLD_RANK="0", OMPI_COMM_WORLD_SIZE="1")
    environment(OMPI_COMM_WORLD_LOCAL_RANK="0", MASTER_ADDR="127.0.0.1", MASTER_PORT="0")
    cfg = Config(dict(model_wrapper_cfg=wrapper, find_unused_parameters=True))
    set_launcher(cfg, "mpi")
    assert distributed.get_backend() == "gloo" and distributed.get_world_size() == 1
    assert cfg.model_wrapper_cfg.device_ids is None
    if wrapper:
        assert cfg.model_wrapper_cfg == dict(wrapper, device_ids=None)
    else:
        assert cfg.model_wrapper_cfg.type == "MMDistributedDataParallel"
        assert cfg.model_wrapper_cfg.find_unused_parameters


def test_launcher_that_did_not_start_the_process(environment):
    with pytest.raises(ConfigError, match="RANK, WORLD_SIZE, LOCAL_RANK is not.*dist_train.sh"):
        set_launcher(Config(), "pytorch")
    environment(SLURM_PROCID="0", SLURM_NTASKS="1", SLURM_LOCALID="0")
    with pytest.raises(ConfigError, match="MASTER_ADDR"):
        set_launcher(Config(), "slurm")
