# VisTR on ShapesVIS with clips of 6 frames.
_base_ = "../vistr_r18_shapes.py"

model = dict(
    network=dict(queries=dict(num_frames=6)),
    windows=dict(length=6, overlap=3),
)
_pipeline = [dict(type="CircularClipSample", length=6), *_base_._train_pipeline[1:]]
train_dataloader = dict(dataset=dict(pipeline=_pipeline))
