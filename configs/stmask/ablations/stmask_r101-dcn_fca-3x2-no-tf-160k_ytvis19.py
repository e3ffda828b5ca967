# Table 1, second row: kernels of 3 x 3, 3 x 2 and 2 x 3.
_base_ = "./stmask_r101-dcn_fca-no-tf-160k_ytvis19.py"

model = dict(
    detector=dict(
        bbox_head=dict(kernel_sizes=((3, 3), (3, 2), (2, 3)), anchor_sizes=((3, 3), (3, 2), (2, 3)))
    )
)
