# Table 1c: clips of 18 frames, trained in pairs (36 frames a sample).
_base_ = "../efficientvis_r50_ytvis19.py"

model = dict(clip_length=18)
_train_pipeline = [
    dict(type="ClipSample", clip_length=18, num_clips=2),
    *_base_._train_pipeline[1:],
]
train_dataloader = dict(dataset=dict(pipeline=_train_pipeline))
