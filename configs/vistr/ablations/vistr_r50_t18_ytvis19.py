# VisTR R-50 with clips of 18 frames.
_base_ = "../vistr_r50_ytvis19.py"

model = dict(
    network=dict(queries=dict(num_frames=18)),
    windows=dict(length=18, overlap=9),
)
_pipeline = [dict(type="CircularClipSample", length=18), *_base_._train_pipeline[1:]]
train_dataloader = dict(dataset=dict(pipeline=_pipeline))
