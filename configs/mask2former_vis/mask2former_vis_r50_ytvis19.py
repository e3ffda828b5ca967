# Mask2Former-VIS R-50 on YouTube-VIS 2019, with MMDetection's settings. Trained on pairs of frames,
# tested on whole videos.
_base_ = [
    "../_base_/models/mask2former_vis_r50.py",
    "../_base_/datasets/ytvis19.py",
    "../_base_/schedules/iterations.py",
    "../_base_/default_runtime.py",
]

model = dict(
    init_cfg=dict(
        type="Pretrained",
        checkpoint="https://download.openmmlab.com/mmdetection/v3.0/mask2former/"
        "mask2former_r50_8xb2-lsj-50e_coco/"
        "mask2former_r50_8xb2-lsj-50e_coco_20220506_191028-41b088b6.pth",
    ),
)

train_dataloader = dict(batch_size=2, sampler=dict(type="InfiniteKeyFrameSampler"))

_max_iters = 6000
train_cfg = dict(max_iters=_max_iters, val_interval=_max_iters)

_embed_multi = dict(lr_mult=1.0, decay_mult=0.0)
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-4, weight_decay=0.05, eps=1e-8, betas=(0.9, 0.999)),
    paramwise_cfg=dict(
        custom_keys={
            "backbone": dict(lr_mult=0.1, decay_mult=1.0),
            "query_embed": _embed_multi,
            "query_feat": _embed_multi,
            "level_embed": _embed_multi,
        },
        norm_decay_mult=0.0,
    ),
    clip_grad=dict(max_norm=0.01, norm_type=2),
)
param_scheduler = [
    dict(type="MultiStepLR", by_epoch=False, begin=0, end=_max_iters, milestones=[4000], gamma=0.1)
]

# The learning rate is for this many samples an iteration, over all processes: 8 GPUs with 2 each.
auto_scale_lr = dict(enable=False, base_batch_size=16)
default_hooks = dict(checkpoint=dict(interval=500))
