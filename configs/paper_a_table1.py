"""Paper A, Table 1: spatial attention by heads and penalty, all with temporal softmax pooling (TP).

Paper:    Aminbeidokhti et al., ICIAR 2019, arXiv 1910.01254, Table 1: accuracy on AFEW's validation clips.
Command:  affect table paper_a_table1 --data shards/afew --split val --workdir runs/table1
          affect train paper_a_table1/tp --data shards/afew --workdir runs/table1_tp
Data, weights and recipes are those of configs/paper_a.py. Not measured here: neither data nor weights are free.

The rows have the paper's order, and the first is what the others are compared with. The paper does not say how the
feature map becomes one vector without attention; a global average is assumed. It gives no λ for SHIFT; none is assumed,
because the shift replaces the penalty.
"""

from dataclasses import replace

from affect.configs.paper_a import CONFIG as BASE
from affect.configs.paper_a import recipes


def row(name, accuracy, **model):
    return replace(BASE, name=name, model=replace(BASE.model, **model), reported={"accuracy": accuracy})


ROWS = {
    "tp": row("tp", 0.464, spatial_pooling="average", hidden_units=None),
    "tp_shift_n2": row("tp_shift_n2", 0.450, spatial_pooling="shift", heads=2, diversity=0.0),
    "tp_sa_n1": row("tp_sa_n1", 0.476, spatial_pooling="attention", heads=1, diversity=0.0),
    "tp_sa_n2_l0p1": row("tp_sa_n2_l0p1", 0.489, spatial_pooling="attention", heads=2, diversity=0.1),
    "tp_sa_n2_l1": row("tp_sa_n2_l1", 0.490, spatial_pooling="attention", heads=2, diversity=1.0),
    "tp_sa_n4_l0p1": row("tp_sa_n4_l0p1", 0.483, spatial_pooling="attention", heads=4, diversity=0.1),
    "tp_sa_n4_l1": row("tp_sa_n4_l1", 0.486, spatial_pooling="attention", heads=4, diversity=1.0),
}
RECIPES = {name: recipes(config) for name, config in ROWS.items()}
