# The paper's best detector. Its COCO weights come with the deformable convolutions.
_base_ = "./maskprop_r50-dcn-htc_ytvis19.py"

model = dict(
    detector=dict(
        backbone=dict(type="ResNeXt", depth=101, groups=64, base_width=4),
        init_cfg=dict(
            checkpoint="https://download.openmmlab.com/mmdetection/v2.0/htc/"
            "htc_x101_64x4d_fpn_dconv_c3-c5_mstrain_400_1400_16x1_20e_coco/"
            "htc_x101_64x4d_fpn_dconv_c3-c5_mstrain_400_1400_16x1_20e_coco_20200312-946fd751.pth"
        ),
    )
)
train_dataloader = dict(batch_size=1)
