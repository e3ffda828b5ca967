# Table 1e: each clip is trained as a video of its own; testing stays end to end. As many frames are
# seen as with pairs.
_base_ = "../efficientvis_r18_shapes.py"

_train_pipeline = [
    dict(type="ClipSample", clip_length=_base_._clip_length, num_clips=1),
    *_base_._train_pipeline[1:],
]
train_dataloader = dict(batch_size=4, dataset=dict(pipeline=_train_pipeline))
auto_scale_lr = dict(base_batch_size=4)
