"""VGG16 + LSTM: a recurrent network reads the frames; the last output is classified.

Paper:    Aminbeidokhti et al., ICIAR 2019, arXiv 1910.01254, Table 2, VGG16+LSTM:
          46.2 % on AFEW's validation clips, quoted from another paper. Data and weights as in configs/paper_a.py.
Command:  affect train configs/paper_a_table2/lstm.py --data shards/afew --workdir runs/table2/lstm
          affect evaluate runs/table2/lstm --data shards/afew --split val
Not measured here: neither the data nor the weights can be had freely.

The size of that LSTM and what it reads are not given there; 512 units and a global average are assumed.
"""

from dataclasses import replace

from affect.configs.paper_a import CONFIG as BASE
from affect.configs.paper_a import recipes

CONFIG = replace(
    BASE,
    name="lstm",
    model=replace(BASE.model, spatial_pooling="average", hidden_units=None, temporal_pooling="lstm", lstm_units=512),
    reported={"accuracy": 0.462},
)
RECIPES = recipes(CONFIG)
