"""Test a model: print its figures, or write a submission if the data has no annotations."""

import argparse

from command_line import (
    add_checkpoint,
    add_config,
    add_run,
    add_score_thr,
    make_parser,
    read_settings,
    run,
)

EXAMPLES = """examples:
  python tools/test.py maskprop_r18_shapes
  python tools/test.py masktrack_rcnn_r50_ytvis19 --out results.json
  python tools/test.py configs/maskprop/maskprop_r18_shapes.py work_dirs/x/iter_3000.pth \\
      --out results.json --show-dir tracks
  tools/dist_test.sh configs/maskprop/maskprop_r50_ytvis19.py CHECKPOINT 8 --out results.json
"""


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__, EXAMPLES)
    add_config(parser)
    add_checkpoint(parser)
    add_run(parser, "logs")
    parser.add_argument(
        "--out",
        metavar="RESULTS.json",
        help="write the tracks in the official YouTube-VIS format, and zipped for its server",
    )
    parser.add_argument(
        "--show-dir", metavar="FOLDER", help="write each test video with its tracks drawn"
    )
    add_score_thr(parser, "--show-score-thr", "that --show-dir draws")
    args = parser.parse_args()
    if args.out and not args.out.endswith(".json"):
        parser.error(f"--out must end in .json, got {args.out}")
    return args


def main() -> None:
    args = parse_args()
    from mmvis_plugin.checkpoint import dataset_version, load_checkpoint_safely
    from mmvis_plugin.config import load_config, naming_settings
    from mmvis_plugin.distributed import set_launcher, use_idle_cores
    from mmvis_plugin.engine.dataset_version import require_weights_version
    from mmvis_plugin.files import naming_place

    print(use_idle_cores(), flush=True)
    options = read_settings(args.cfg_options)
    cfg = load_config(args.config, options, args.data_root)
    with naming_settings(cfg, options):
        prepare(cfg, args)
        weights = load_checkpoint_safely(args.checkpoint)
        require_weights_version(cfg, dataset_version(weights), args.checkpoint)
        set_launcher(cfg, args.launcher)
        with naming_place(cfg.work_dir):
            test(cfg, weights, args.checkpoint)


def prepare(cfg, args: argparse.Namespace) -> None:
    """Set up a run in its config, and check it as far as possible without building anything."""
    from mmvis_plugin.apis.models import released_weights
    from mmvis_plugin.engine import run_settings
    from mmvis_plugin.models.video_segmentor import leave_out_training_parts

    run_settings.require_data(cfg, ["test_dataloader"])
    run_settings.set_work_dir(cfg, args.work_dir)
    args.checkpoint = args.checkpoint or str(released_weights(cfg, args.accept_licence))
    cfg.load_from, cfg.resume = args.checkpoint, False
    leave_out_training_parts(cfg.model)
    if args.out:
        run_settings.set_result_file(cfg, args.out)
    if args.show_dir:
        run_settings.video_evaluator(cfg, "--show-dir")
        hook = dict(type="TrackVisHook", out_dir=args.show_dir, score_thr=args.show_score_thr)
        cfg.custom_hooks = [*(cfg.get("custom_hooks") or []), hook]


def test(cfg, weights: dict, name: str) -> None:
    """Test the weights of a checkpoint, whose name is for messages."""
    from mmvis_plugin.checkpoint import class_names
    from mmvis_plugin.engine.run_settings import require_classes
    from mmvis_plugin.engine.runner import VISRunner

    runner = VISRunner.from_cfg(cfg)
    runner.opened = weights
    meta = getattr(runner.test_dataloader.dataset, "metainfo", {})
    require_classes(cfg, class_names(weights), meta.get("classes") or (), name)
    runner.test()


if __name__ == "__main__":
    run(main)
