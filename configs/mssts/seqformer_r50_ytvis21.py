# SeqFormer R-50 on YouTube-VIS 2021.
_base_ = "./seqformer_r50_ytvis19.py"

train_dataloader = dict(dataset=_base_._ytvis21.train)
val_dataloader = dict(dataset=_base_._ytvis21.val)
test_dataloader = dict(dataset=_base_._ytvis21.test)

_ytvis_train, _coco_train = _base_._joint_dataset.datasets
_joint_dataset = dict(
    datasets=[
        dict(_ytvis_train, **_base_._ytvis21.train),
        dict(_coco_train, benchmark="ytvis21"),
    ]
)
