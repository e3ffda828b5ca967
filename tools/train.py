"""Train a model.

Logs and checkpoints go to the work directory. A resumed run goes on as if it had not stopped.
"""

import argparse
import sys

EXAMPLES = """examples:
  python tools/train.py configs/maskprop/maskprop_r18_shapes.py
  python tools/train.py configs/maskprop/maskprop_r18_shapes.py --resume
  python tools/train.py configs/maskprop/maskprop_r50_ytvis19.py --amp \\
      --data-root /data/youtube_vis_2019 --cfg-options train_dataloader.batch_size=1
  tools/dist_train.sh configs/maskprop/maskprop_r50_ytvis19.py 8 --amp
"""


def parse_args() -> argparse.Namespace:
    # Imported in functions, so that --help does not wait for PyTorch and MMDetection.
    from mmengine.config import DictAction

    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "config", help="a file, or the name of a config that comes with the package"
    )
    parser.add_argument(
        "--work-dir",
        metavar="FOLDER",
        help="for logs and checkpoints (default: work_dirs/<name of the config>)",
    )
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=DictAction,
        metavar="KEY=VALUE",
        help="override settings of the config: train_dataloader.batch_size=1 key=[a,b] ...",
    )
    parser.add_argument(
        "--data-root",
        action="append",
        default=[],
        metavar="FOLDER",
        help="folder of the dataset; where a config has several, OLD=NEW once for each",
    )
    parser.add_argument(
        "--resume",
        nargs="?",
        const="auto",
        metavar="CHECKPOINT",
        help="go on from a checkpoint; without a name from the latest in the work directory",
    )
    parser.add_argument(
        "--no-pretrained",
        action="store_true",
        help="start from random weights: ignore load_from and every pretrained init_cfg",
    )
    parser.add_argument("--amp", action="store_true", help="mixed precision (needs a GPU)")
    parser.add_argument(
        "--seed",
        type=int,
        metavar="N",
        help="of the run (default: the config's); a resumed run keeps its own",
    )
    parser.add_argument(
        "--launcher",
        choices=("none", "pytorch", "slurm", "mpi"),
        default="none",
        help="what started the processes of a distributed run (default: %(default)s)",
    )
    return parser.parse_args()


def prepare(args: argparse.Namespace):
    """Config of the run, checked as far as possible without building anything."""
    from mmvis_plugin.config import load_config, remove_pretrained
    from mmvis_plugin.engine import run_settings

    cfg = load_config(args.config, args.cfg_options, args.data_root)
    validating = cfg.get("val_cfg") is not None
    run_settings.require_data(cfg, ["train_dataloader"] + ["val_dataloader"] * validating)
    run_settings.set_work_dir(cfg, args.work_dir)
    run_settings.set_seed(cfg, args.seed)
    if args.amp:
        run_settings.use_amp(cfg)
    if args.no_pretrained:
        for name, path in remove_pretrained(cfg).items():
            print(f"--no-pretrained: not loading {name} = {path}", flush=True)
    resume = args.resume or (cfg.get("resume") and (cfg.get("load_from") or "auto"))
    if resume:
        run_settings.set_resume(cfg, resume)
    run_settings.check_pretrained(cfg)
    return cfg


def build(cfg):
    """Runner of a config, with data and optimizer: what does not fit shows here, in one line."""
    from mmengine.runner import Runner

    from mmvis_plugin.config import ConfigError
    from mmvis_plugin.engine.run_settings import require_class_counts

    loops = ["train_loop"] + ["val_loop"] * (cfg.get("val_cfg") is not None)
    try:
        runner = Runner.from_cfg(cfg)
        for loop in loops:
            getattr(runner, loop)  # is built when it is asked for
        # Runner.train() would build it first thing; it takes a built one as it is.
        runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    except (OSError, ValueError) as error:  # of a file, an argument or the data
        raise ConfigError(str(error)) from error
    meta = getattr(runner.train_dataloader.dataset, "metainfo", {})
    require_class_counts(cfg, meta.get("classes") or ())
    return runner


def train(cfg) -> None:
    from mmvis_plugin.config import naming_settings

    with naming_settings(cfg):
        build(cfg).train()


def main() -> None:
    args = parse_args()
    from mmvis_plugin.checkpoint import CheckpointError, forbid_unsafe_loading
    from mmvis_plugin.config import ConfigError
    from mmvis_plugin.datasets import DatasetError
    from mmvis_plugin.distributed import set_launcher
    from mmvis_plugin.errors import message_of

    forbid_unsafe_loading()
    try:
        cfg = prepare(args)
        set_launcher(cfg, args.launcher)
        train(cfg)
    except (CheckpointError, ConfigError, DatasetError) as error:
        sys.exit(f"error: {message_of(error)}")


if __name__ == "__main__":
    main()
