"""3D-CNN without attention; valence and arousal of RECOLA.

Paper:    Lee et al., ICASSP 2018, RECOLA, row 3D-CNN of the components:
          RMSE .104, CC .510, CCC .493. Sizes are assumed, as in configs/paper_b.py; no reproduction.
Data:     shards/recola: affect prepare RECOLA --dataset recola --out shards/recola
Not measured here: the data cannot be had freely.
"""

from dataclasses import replace

from affect.configs.paper_b import CONFIG as BASE

CONFIG = replace(
    BASE,
    name="cnn3d",
    model=replace(BASE.model, temporal="conv3d", attention=None),
    reported={"rmse": 0.104, "cc": 0.510, "ccc": 0.493},
)
