# The detector of ShapesVIS for the methods that track what it finds, with the weights of
# configs/mask_rcnn/mask_rcnn_r18_shapes.py. All link the same kind and number of detections, so
# that what differs between them is the tracking.
_base_ = "./mask_rcnn_r18_shapes.py"

model = dict(
    backbone=dict(frozen_stages=1, norm_eval=True),
    init_cfg=dict(
        _delete_=True,
        type="Pretrained",
        checkpoint="{{ fileDirname }}/../../../weights/mask_rcnn_r18_shapes.pth",
    ),
    test_cfg=dict(
        rcnn=dict(
            # One object may not get two tracks because two classes claim it.
            nms=dict(type="nms", iou_threshold=0.5, class_agnostic=True),
            score_thr=0.4,
            max_per_img=10,
        )
    ),
)
