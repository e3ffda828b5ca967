# The baseline of MS-STS VIS's ablation: SeqFormer with 3 encoder and 3 decoder layers.
_base_ = "../seqformer_r50_ytvis19.py"

model = dict(encoder=dict(num_layers=3), decoder=dict(num_layers=3))

# The schedule of MS-STS VIS's repository, whatever the data: 5 GPUs with 2 clips each.
param_scheduler = _base_._joint_param_scheduler
auto_scale_lr = dict(base_batch_size=10)
