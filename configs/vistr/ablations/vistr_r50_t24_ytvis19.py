# VisTR R-50 with clips of 24 frames.
_base_ = "../vistr_r50_ytvis19.py"

model = dict(
    network=dict(queries=dict(num_frames=24)),
    windows=dict(length=24, overlap=12),
)
_pipeline = [dict(type="CircularClipSample", length=24), *_base_._train_pipeline[1:]]
train_dataloader = dict(dataset=dict(pipeline=_pipeline))
