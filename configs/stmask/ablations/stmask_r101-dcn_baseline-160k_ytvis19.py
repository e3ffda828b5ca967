# The paper's baseline: three anchors, all kernels 3 x 3. Tables 1, 4 and 5, first row.
_base_ = "./stmask_r101-dcn_fca-no-tf-160k_ytvis19.py"

model = dict(
    detector=dict(
        bbox_head=dict(
            kernel_sizes=((3, 3), (3, 3), (3, 3)),
            # Height and width in cells: aspect ratios 1, 1/2 and 2 of the same area.
            anchor_sizes=((3, 3), (4.2426, 2.1213), (2.1213, 4.2426)),
        )
    )
)
