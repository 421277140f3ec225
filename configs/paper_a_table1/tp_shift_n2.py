"""VGG16 + temporal softmax pooling + the shifting operation with 2 heads and no penalty.

Paper:    Aminbeidokhti et al., ICIAR 2019, arXiv 1910.01254, Table 1, VGG16+TP+SHIFT, N=2:
          45.0 % on AFEW's validation clips. Data and weights as in configs/paper_a.py.
Command:  affect train configs/paper_a_table1/tp_shift_n2.py --data shards/afew --workdir runs/table1/tp_shift_n2
          affect evaluate runs/table1/tp_shift_n2 --data shards/afew --split val
Not measured here: neither the data nor the weights can be had freely.

The paper gives no λ in this row; none is assumed, because the shift replaces the penalty.
"""

from dataclasses import replace

from affect.configs.paper_a import CONFIG as BASE
from affect.configs.paper_a import recipes

CONFIG = replace(
    BASE,
    name="tp_shift_n2",
    model=replace(BASE.model, spatial_pooling="shift", heads=2, diversity=0.0),
    reported={"accuracy": 0.450},
)
RECIPES = recipes(CONFIG)
