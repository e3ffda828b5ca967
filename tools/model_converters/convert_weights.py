"""Converts weights of other projects into the layout of this package's models.

CODEBASE is one of:
  stmask           the authors' STMask; YOLACT++ as a training start for it
  seqformer        SeqFormer and MSSTS-VIS
  minvis           MinVIS, and detectron2's Mask2Former for instances
  sipmask          SipMask-VIS, also its COCO weights as a training start
  ifc              IFC, also its COCO weights as a training start
  detr             MMDetection's DETR, as a training start for IFC
  vistr            VisTR, and its authors' DETR of COCO as a training start for it
  deformable_detr  MMDetection's Deformable DETR, as a training start for MS-STS VIS
  queryinst        MMDetection's QueryInst or Sparse R-CNN, as a training start for EfficientVIS

A training start goes to load_from: parts that both models share take its weights, the others stay
initialised. The report names what became of every weight.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from command_line import add_option, checkpoint, config, make_parser, run

EXAMPLES = """examples:
  python tools/model_converters/convert_weights.py stmask STMask_plus_resnet50_ada.pth \\
      stmask_r50_ada.pth --config stmask_r50-dcn_fca-ada_ytvis19
  python tools/model_converters/convert_weights.py queryinst \\
      https://download.openmmlab.com/mmdetection/v2.0/queryinst/\\
queryinst_r50_fpn_mstrain_480-800_3x_coco/\\
queryinst_r50_fpn_mstrain_480-800_3x_coco_20210901_103643-7837af86.pth \\
      work_dirs/efficientvis_r50_coco.pth --config configs/efficientvis/efficientvis_r50_ytvis19.py
  python tools/train.py configs/efficientvis/efficientvis_r50_ytvis19.py \\
      --cfg-options load_from=work_dirs/efficientvis_r50_coco.pth
"""


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument("codebase", help="project that the weights come from, see above")
    parser.add_argument("src", type=checkpoint, help="its weights: a file or an address")
    parser.add_argument("dst", help="file to write")
    add_option(
        parser,
        "--config",
        config,
        "FILE.py",
        "our config of the model, to check the result against",
    )
    add_option(
        parser,
        "--classes",
        str,
        "DATASET",
        "store the class names of this dataset, such as ytvis21, with a whole model "
        "(default: the dataset in the name of --config, or one with as many classes)",
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    from mmvis_plugin.apis.conversion import convert_weights

    print(convert_weights(args.codebase, args.src, args.dst, args.config, args.classes))


if __name__ == "__main__":
    run(main)
