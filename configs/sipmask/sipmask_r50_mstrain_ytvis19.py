# Multi-scale training: long side 649 (as the authors) to 960, short side 360 to 480.
_base_ = "./sipmask_r50_ytvis19.py"

_sample, _frames_of_pair, _pack = _base_._train_pipeline
_frames_of_pair.transforms[2] = dict(
    type="RandomResize", scale=[(649, 360), (960, 480)], keep_ratio=True
)
train_dataloader = dict(dataset=dict(pipeline=[_sample, _frames_of_pair, _pack]))
