# SeqFormer Swin-L, trained jointly on YouTube-VIS 2019 and COCO's images as clips.
_base_ = "./seqformer_swin-l_ytvis19.py"

train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type="ConcatDataset",
        datasets=[_base_.train_dataloader.dataset, _base_.coco_train],
    )
)
param_scheduler = _base_.joint_param_scheduler
