# As the paper trains and tests: calibration for boxes on all three branches, pairs of frames at
# most 5 apart, 160,000 iterations of 16 pairs; the best 100 detections of a frame.
_base_ = "../stmask_r50-dcn_fca-ada_ytvis19.py"

model = dict(
    detector=dict(
        bbox_head=dict(fcb=dict(cls="ada", mask="ada", track="ada")),
        test_cfg=dict(max_per_img=100),
    )
)

_train_pipeline = [
    dict(type="AnnotatedPairSample", frame_range=5),
    *_base_._train_pipeline[1:],
]
# 4 GPUs with 4 pairs each.
train_dataloader = dict(
    batch_size=4,
    sampler=dict(type="InfiniteKeyFrameSampler"),
    dataset=dict(pipeline=_train_pipeline),
)
auto_scale_lr = dict(base_batch_size=16)

_max_iters = 160000
train_cfg = dict(
    _delete_=True, type="ResumableIterBasedTrainLoop", max_iters=_max_iters, val_interval=10000
)
param_scheduler = [
    dict(type="LinearLR", start_factor=1.0 / 3, by_epoch=False, begin=0, end=500),
    dict(
        type="MultiStepLR",
        by_epoch=False,
        begin=0,
        end=_max_iters,
        milestones=[66000, 133000],
        gamma=0.1,
    ),
]
default_hooks = dict(
    logger=dict(log_metric_by_epoch=False), checkpoint=dict(by_epoch=False, interval=10000)
)
log_processor = dict(by_epoch=False)
