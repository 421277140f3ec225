"""VGG16 + temporal softmax pooling + spatial attention with 2 heads and λ = 0.1.

Paper:    Aminbeidokhti et al., ICIAR 2019, arXiv 1910.01254, Table 1, VGG16+TP+SA, N=2, λ=0.1:
          48.9 % on AFEW's validation clips. Data and weights as in configs/paper_a.py.
Command:  affect train configs/paper_a_table1/tp_sa_n2_l0p1.py --data shards/afew --workdir runs/table1/tp_sa_n2_l0p1
          affect evaluate runs/table1/tp_sa_n2_l0p1 --data shards/afew --split val
Not measured here: neither the data nor the weights can be had freely.
"""

from dataclasses import replace

from affect.configs.paper_a import CONFIG as BASE
from affect.configs.paper_a import recipes

CONFIG = replace(
    BASE,
    name="tp_sa_n2_l0p1",
    model=replace(BASE.model, spatial_pooling="attention", heads=2, diversity=0.1),
    reported={"accuracy": 0.489},
)
RECIPES = recipes(CONFIG)
