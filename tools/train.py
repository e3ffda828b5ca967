"""Train a model.

Logs and checkpoints go to the work directory. A resumed run goes on as if it had not stopped.
"""

import argparse
from contextlib import nullcontext

from command_line import add_config, add_run, make_parser, read_settings, run

EXAMPLES = """examples:
  python tools/train.py configs/maskprop/maskprop_r18_shapes.py
  python tools/train.py configs/maskprop/maskprop_r18_shapes.py --resume
  python tools/train.py configs/maskprop/maskprop_r50_ytvis19.py --amp \\
      --data-root /data/youtube_vis_2019 --cfg-options train_dataloader.batch_size=1
  tools/dist_train.sh configs/maskprop/maskprop_r50_ytvis19.py 8 --amp
"""

# Not every ValueError: those of a model or of PyTorch are mistakes in a program.
ERRORS = (
    "builtins.OSError",
    "mmvis_plugin.checkpoint.CheckpointError",
    "mmvis_plugin.config.ConfigError",
    "mmvis_plugin.datasets.DatasetError",
    "torch.cuda.OutOfMemoryError",
)


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__, EXAMPLES)
    add_config(parser)
    add_run(parser, "logs and checkpoints")
    parser.add_argument(
        "--resume",
        nargs="?",
        const="auto",
        metavar="CHECKPOINT",
        help="continue from a checkpoint; without a name from the newest in the work directory",
    )
    parser.add_argument(
        "--no-pretrained",
        action="store_true",
        help="start from random weights: ignore load_from and every pretrained init_cfg",
    )
    parser.add_argument(
        "--auto-scale-lr",
        action="store_true",
        help="scale the learning rate from the config's base_batch_size to this training's",
    )
    parser.add_argument("--amp", action="store_true", help="mixed precision (needs a GPU)")
    parser.add_argument(
        "--seed",
        type=int,
        metavar="N",
        help="random seed (default: the config's); a resumed run keeps its own",
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    from mmvis_plugin.config import load_config, naming_settings
    from mmvis_plugin.distributed import is_first_process, set_launcher, use_idle_cores
    from mmvis_plugin.engine.run_settings import first_difference
    from mmvis_plugin.engine.work_dir import locked
    from mmvis_plugin.files import naming_place

    print(use_idle_cores(), flush=True)
    options = read_settings(args.cfg_options)
    cfg = load_config(args.config, options, args.data_root)
    with naming_settings(cfg, options):
        prepare(cfg, args)
        if difference := first_difference(cfg):
            print(difference, flush=True)
        set_launcher(cfg, args.launcher)
        alone = locked(cfg.work_dir) if is_first_process(args.launcher) else nullcontext()
        with naming_place(cfg.work_dir), alone:
            build(cfg).train()


def prepare(cfg, args: argparse.Namespace) -> None:
    """Set up a run in its config, and check it as far as possible without building anything."""
    from mmvis_plugin.config import remove_pretrained
    from mmvis_plugin.engine import resuming, run_settings

    validating = cfg.get("val_cfg") is not None
    run_settings.require_data(cfg, ["train_dataloader"] + ["val_dataloader"] * validating)
    run_settings.set_work_dir(cfg, args.work_dir)
    run_settings.keep_two_checkpoints(cfg)
    resuming.set_seed(cfg, args.seed)
    if args.auto_scale_lr:
        run_settings.use_auto_scale_lr(cfg)
    if args.amp:
        run_settings.use_amp(cfg)
    if args.no_pretrained:
        for name, path in remove_pretrained(cfg).items():
            print(f"--no-pretrained: not loading {name} = {path}", flush=True)
    resume = args.resume or (cfg.get("resume") and (cfg.get("load_from") or "auto"))
    if resume:
        resuming.set_resume(cfg, resume)
    run_settings.check_pretrained(cfg)


def build(cfg):
    """The Runner of a config, with data and optimizer: what does not fit is an error here."""
    from mmvis_plugin.config import ConfigError
    from mmvis_plugin.config_options import in_one_line
    from mmvis_plugin.datasets import DatasetError
    from mmvis_plugin.engine.run_settings import require_class_counts
    from mmvis_plugin.engine.runner import VISRunner

    loops = ["train_loop"] + ["val_loop"] * (cfg.get("val_cfg") is not None)
    try:
        runner = VISRunner.from_cfg(cfg)
        for loop in loops:
            getattr(runner, loop)  # is built when it is asked for
        # Runner.train() would build it first thing; it takes a built one as it is.
        runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    except (ConfigError, DatasetError):
        raise
    except ValueError as error:  # of an argument
        raise ConfigError(f"{cfg.filename}: {in_one_line(error)}") from error
    meta = getattr(runner.train_dataloader.dataset, "metainfo", {})
    require_class_counts(cfg, meta.get("classes") or ())
    return runner


if __name__ == "__main__":
    run(main, ERRORS)
