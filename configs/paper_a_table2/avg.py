"""VGG16 + average pooling of the frames' scores before the softmax.

Paper:    Aminbeidokhti et al., ICIAR 2019, arXiv 1910.01254, Table 2, VGG16+AVG:
          46.0 % on AFEW's validation clips. Data and weights as in configs/paper_a.py.
Command:  affect train configs/paper_a_table2/avg.py --data shards/afew --workdir runs/table2/avg
          affect evaluate runs/table2/avg --data shards/afew --split val
Not measured here: neither the data nor the weights can be had freely.

The frame-independent loss of eq. 7, which never holds all frames of a clip, is this row on single frames:
--set data.frames=1 --set data.batch_clips=48 --set train.epochs=480 --set train.restart_epochs=160 shows as many faces
in as many steps. How the feature map becomes one vector the paper does not say; a global average is assumed.
"""

from dataclasses import replace

from affect.configs.paper_a import CONFIG as BASE
from affect.configs.paper_a import recipes

CONFIG = replace(
    BASE,
    name="avg",
    model=replace(BASE.model, spatial_pooling="average", hidden_units=None, temporal_pooling="average"),
    reported={"accuracy": 0.460},
)
RECIPES = recipes(CONFIG)
