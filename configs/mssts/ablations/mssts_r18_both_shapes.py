# SeqFormer with MS-STS attention, within and between scales, in the encoder, on ShapesVIS.
_base_ = "../seqformer_r18_shapes.py"

model = dict(encoder=dict(ms_sts=dict(type="MSSTSAttention", intra=True, inter=True)))
