"""2D-CNN on each frame alone; valence and arousal of RECOLA.

Paper:    Lee et al., ICASSP 2018, RECOLA, row CNN, and 2D-CNN of the components; it names another paper for it:
          RMSE .113, CC .426, CCC .326. Sizes are assumed, as in configs/paper_b.py; no reproduction.
Data:     shards/recola: affect prepare RECOLA --dataset recola --out shards/recola
Not measured here: the data cannot be had freely.
"""

from dataclasses import replace

from affect.configs.paper_b import CONFIG as BASE

CONFIG = replace(
    BASE,
    name="cnn",
    model=replace(BASE.model, temporal=None, attention=None),
    reported={"rmse": 0.113, "cc": 0.426, "ccc": 0.326},
)
