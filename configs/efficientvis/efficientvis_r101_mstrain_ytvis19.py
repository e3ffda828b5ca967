# EfficientVIS R-101 trained at several scales (Table 2). The paper does not name them; these are
# the two that the methods it compares with train at.
_base_ = "./efficientvis_r101_ytvis19.py"

_resize = dict(type="RandomChoiceResize", scales=[(640, 360), (960, 480)], keep_ratio=True)
_base_.train_dataloader.dataset.pipeline[1].transforms[2] = _resize
