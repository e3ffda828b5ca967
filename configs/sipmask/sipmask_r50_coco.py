# The image model of SipMask on COCO, 1333 x 800 pixels and 12 epochs, from Detectron2's ImageNet
# weights. Its weights are what the video configs start from.
_base_ = [
    "../_base_/models/sipmask_r50.py",
    "../_base_/datasets/coco.py",
    "../_base_/schedules/schedule_ytvis_12e.py",
    "../_base_/default_runtime.py",
]

model = dict(
    backbone=dict(
        init_cfg=dict(
            type="Pretrained",
            checkpoint="https://download.openmmlab.com/pretrain/third_party/resnet50_msra-5891d200.pth",
        )
    ),
    bbox_head=dict(num_classes=80, embed_dims=None),
    test_cfg=dict(max_per_img=100),
)

train_dataloader = dict(batch_size=4)
auto_scale_lr = dict(base_batch_size=16)
optim_wrapper = dict(
    optimizer=dict(lr=0.01),
    paramwise_cfg=dict(bias_lr_mult=2.0, bias_decay_mult=0.0),
    clip_grad=None,
)
