"""Paper A, Table 2: VGG16 with different poolings over time.

Paper:    Aminbeidokhti et al., ICIAR 2019, arXiv 1910.01254, Table 2: accuracy on AFEW's validation clips.
Command:  affect table paper_a_table2 --data shards/afew --split val --workdir runs/table2
          affect train paper_a_table2/tp_sa --data shards/afew --workdir runs/table2_tp_sa
Data, weights and recipes are those of configs/paper_a.py. Not measured here: neither data nor weights are free.

The rows have the paper's order, and the first is what the others are compared with. The paper does not say how the
feature map becomes one vector without attention; a global average is assumed. It quotes `lstm` from another paper,
which gives neither the size of the LSTM nor what it reads; 512 units are assumed, and the last output is classified.
`avg` averages the scores of the frames before the softmax.

The loss of eq. 7, in which frames are independent, never sees all frames of a clip. It is `avg` on single frames:
--set data.frames=1 --set data.batch_clips=48 --set train.epochs=480 --set train.restart_epochs=160 shows as many faces
in as many steps.
"""

from dataclasses import replace

from affect.configs.paper_a import CONFIG as BASE
from affect.configs.paper_a import recipes


def row(name, accuracy, **model):
    return replace(BASE, name=name, model=replace(BASE.model, **model), reported={"accuracy": accuracy})


AVERAGE = {"spatial_pooling": "average", "hidden_units": None}
ROWS = {
    "lstm": row("lstm", 0.462, **AVERAGE, temporal_pooling="lstm", lstm_units=512),
    "avg": row("avg", 0.460, **AVERAGE, temporal_pooling="average"),
    "tp": row("tp", 0.464, **AVERAGE, temporal_pooling="joint_softmax"),
    "tp_sa": row("tp_sa", 0.490, spatial_pooling="attention", heads=2, diversity=1.0, temporal_pooling="joint_softmax"),
}
RECIPES = {name: recipes(config) for name, config in ROWS.items()}
