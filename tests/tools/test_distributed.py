"""Two processes on the CPU."""

from pathlib import Path

import pytest
import torch

from mmvis_plugin.engine import iteration_seed, seed_generators

# With plain gradient descent of step 1 an iteration subtracts the gradient from the parameters.
RECORDED = """
optim_wrapper = dict(
    _delete_=True, type="OptimWrapper", optimizer=dict(type="SGD", lr=1.0)
)
param_scheduler = []
train_cfg = dict(max_iters=3, val_interval=2)
custom_hooks = [dict(type="IterationSeedHook"), dict(type="RecordHook", folder="{folder}")]
"""


def test_gradient_is_the_mean_of_both_halves(toy_config, run_process, monkeypatch, tmp_path):
    config = toy_config(RECORDED.format(folder=tmp_path))
    command = ["tools/dist_train.sh", config, 2, "--work-dir", tmp_path / "run", "--seed", 5]
    result = run_process(*command)
    assert result.returncode == 0, result.stderr

    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    from toy_task import ToyModel

    for iteration in range(3):
        records = [torch.load(tmp_path / f"iter{iteration}_rank{rank}.pth") for rank in range(2)]
        gradients = []
        for rank, record in enumerate(records):
            model = ToyModel().train()
            model.load_state_dict(records[0]["before"])
            seed_generators(iteration_seed(5, iteration, rank))
            model(**record["batch"], mode="loss")["loss"].backward()
            gradients.append({name: p.grad for name, p in model.named_parameters()})
        for name, before in records[0]["before"].items():
            assert torch.equal(records[0]["after"][name], records[1]["after"][name])
            mean = (gradients[0][name] + gradients[1][name]) / 2
            assert torch.allclose(before - records[0]["after"][name], mean, rtol=0, atol=1e-5)
            assert not torch.allclose(gradients[0][name], gradients[1][name], atol=1e-3)
        inputs = [torch.stack(record["batch"]["inputs"]) for record in records]
        assert not torch.allclose(inputs[0], inputs[1])


@pytest.mark.parametrize("script", ["dist_train.sh", "dist_test.sh"])
def test_scripts_explain_themselves(run_process, script):
    result = run_process(f"tools/{script}", "--help")
    assert result.returncode == 2
    assert f"example: tools/{script} configs/" in result.stderr
