# Mask R-CNN R-50 FPN as MMDetection's, for the 40 classes of YouTube-VIS, started from its COCO
# weights (the classifiers, whose shapes differ, start at random). RoI features are computed in
# float32 whatever autocast says. Methods take it as their detector.
_base_ = "mmdet::_base_/models/mask-rcnn_r50_fpn.py"

_base_.model.pop("_scope_", None)
_base_.model.backbone.pop("init_cfg")
model = dict(
    roi_head=dict(
        bbox_roi_extractor=dict(type="Float32RoIExtractor"),
        bbox_head=dict(num_classes=40),
        mask_roi_extractor=dict(type="Float32RoIExtractor"),
        mask_head=dict(num_classes=40),
    ),
    init_cfg=dict(
        type="Pretrained",
        checkpoint="https://download.openmmlab.com/mmdetection/v2.0/mask_rcnn/"
        "mask_rcnn_r50_fpn_1x_coco/mask_rcnn_r50_fpn_1x_coco_20200205-d4b0c5d6.pth",
    ),
)
