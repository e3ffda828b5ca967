# VisTR R-50 with clips of 30 frames.
_base_ = "../vistr_r50_ytvis19.py"

model = dict(
    network=dict(queries=dict(num_frames=30)),
    windows=dict(length=30, overlap=15),
)
_pipeline = [dict(type="CircularClipSample", length=30), *_base_._train_pipeline[1:]]
train_dataloader = dict(dataset=dict(pipeline=_pipeline))
