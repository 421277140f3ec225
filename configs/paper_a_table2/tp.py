"""VGG16 + temporal softmax pooling, without attention.

Paper:    Aminbeidokhti et al., ICIAR 2019, arXiv 1910.01254, Table 2, VGG16+TP:
          46.4 % on AFEW's validation clips. Data and weights as in configs/paper_a.py.
Command:  affect train configs/paper_a_table2/tp.py --data shards/afew --workdir runs/table2/tp
          affect evaluate runs/table2/tp --data shards/afew --split val
Not measured here: neither the data nor the weights can be had freely.

How the feature map becomes one vector the paper does not say; a global average is assumed.
"""

from dataclasses import replace

from affect.configs.paper_a import CONFIG as BASE
from affect.configs.paper_a import recipes

CONFIG = replace(
    BASE,
    name="tp",
    model=replace(BASE.model, spatial_pooling="average", hidden_units=None, temporal_pooling="joint_softmax"),
    reported={"accuracy": 0.464},
)
RECIPES = recipes(CONFIG)
