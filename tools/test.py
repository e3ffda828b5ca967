"""Test a model: print its figures, or write a submission where there is nothing to score with."""

import argparse
import sys

EXAMPLES = """examples:
  python tools/test.py configs/maskprop/maskprop_r18_shapes.py weights/maskprop_r18_shapes.pth
  python tools/test.py configs/maskprop/maskprop_r18_shapes.py work_dirs/x/iter_3000.pth \\
      --out results.json --show-dir tracks
  tools/dist_test.sh configs/maskprop/maskprop_r50_ytvis19.py CHECKPOINT 8 --out results.json
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
    parser.add_argument("checkpoint", help="weights: a file or an address")
    parser.add_argument(
        "--work-dir",
        metavar="FOLDER",
        help="for logs (default: work_dirs/<name of the config>)",
    )
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=DictAction,
        metavar="KEY=VALUE",
        help="override settings of the config: test_dataloader.num_workers=0 key=[a,b] ...",
    )
    parser.add_argument(
        "--data-root",
        action="append",
        default=[],
        metavar="FOLDER",
        help="folder of the dataset; where a config has several, OLD=NEW once for each",
    )
    parser.add_argument(
        "--out",
        metavar="RESULTS.json",
        help="write the tracks in the official YouTube-VIS format, and zipped for its server",
    )
    parser.add_argument(
        "--show-dir", metavar="FOLDER", help="write each test video with its tracks drawn"
    )
    parser.add_argument(
        "--show-score-thr",
        type=float,
        default=0.3,
        metavar="SCORE",
        help="lowest score that --show-dir draws (default: %(default)s)",
    )
    parser.add_argument(
        "--launcher",
        choices=("none", "pytorch", "slurm", "mpi"),
        default="none",
        help="what started the processes of a distributed run (default: %(default)s)",
    )
    args = parser.parse_args()
    if args.out and not args.out.endswith(".json"):
        parser.error(f"--out must end in .json, got {args.out}")
    return args


def prepare(args: argparse.Namespace):
    """Config of the run, checked as far as possible without building anything."""
    from mmvis_plugin.checkpoint import check_checkpoint
    from mmvis_plugin.config import load_config, remove_discriminator
    from mmvis_plugin.engine import run_settings

    cfg = load_config(args.config, args.cfg_options, args.data_root)
    run_settings.require_data(cfg, ["test_dataloader"])
    run_settings.set_work_dir(cfg, args.work_dir)
    cfg.load_from, cfg.resume = str(check_checkpoint(args.checkpoint)), False
    remove_discriminator(cfg)
    if args.out:
        run_settings.set_result_file(cfg, args.out)
    if args.show_dir:
        run_settings.video_evaluator(cfg, "--show-dir")
        hook = dict(type="TrackVisHook", out_dir=args.show_dir, score_thr=args.show_score_thr)
        cfg.custom_hooks = [*(cfg.get("custom_hooks") or []), hook]
    return cfg


def test(cfg, args: argparse.Namespace) -> None:
    from mmengine.runner import Runner

    from mmvis_plugin.config import naming_settings

    with naming_settings(cfg):
        runner = Runner.from_cfg(cfg)
        require_fit(runner, args)
        runner.test()


def require_fit(runner, args: argparse.Namespace) -> None:
    """Make sure that the checkpoint is one of this model, trained on the classes of this data."""
    from mmengine.model import is_model_wrapper

    from mmvis_plugin.checkpoint import class_names, fill_model, load_checkpoint_safely
    from mmvis_plugin.engine.run_settings import require_classes

    checkpoint = load_checkpoint_safely(args.checkpoint)
    meta = getattr(runner.test_dataloader.dataset, "metainfo", {})
    classes = meta.get("classes") or ()
    require_classes(runner.cfg, class_names(checkpoint), classes, args.checkpoint)
    # The Runner loads it again, as its hooks want it, but would go on with what does not fit.
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    fill_model(model, checkpoint, args.checkpoint, args.config)


def main() -> None:
    args = parse_args()
    from mmvis_plugin.checkpoint import CheckpointError, forbid_unsafe_loading
    from mmvis_plugin.distributed import set_launcher
    from mmvis_plugin.errors import message_of

    forbid_unsafe_loading()
    try:
        cfg = prepare(args)
        set_launcher(cfg, args.launcher)
        test(cfg, args)
    except (CheckpointError, OSError, ValueError) as error:  # ValueError: of config, data or metric
        sys.exit(f"error: {message_of(error)}")


if __name__ == "__main__":
    main()
