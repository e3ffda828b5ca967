# YouTube-VIS 2021 and COCO's images as pseudo-clips: as ytvis19_coco_joint.py.
_base_ = "./ytvis19_coco_joint.py"

_ytvis_train, _coco_train = _base_.train_dataloader.dataset.datasets
train_dataloader = dict(
    dataset=dict(
        datasets=[
            dict(_ytvis_train, **_base_._ytvis21.train),
            dict(_coco_train, benchmark="ytvis21"),
        ]
    )
)
val_dataloader = dict(dataset=_base_._ytvis21.val)
test_dataloader = dict(dataset=_base_._ytvis21.test)
