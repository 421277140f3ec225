"""2D-CNN on each frame alone; valence and arousal of AV+EC'17.

Paper:    Lee et al., ICASSP 2018, AV+EC'17, row CNN; it names another paper for it:
          RMSE .114, CC .564, CCC .528. Sizes are assumed, as in configs/paper_b.py; no reproduction.
Data:     shards/sewa: affect prepare SEWA --dataset sewa --out shards/sewa
Not measured here: the data cannot be had freely.
"""

from dataclasses import replace

from affect.configs.paper_b import CONFIG as BASE

CONFIG = replace(
    BASE,
    name="cnn",
    model=replace(BASE.model, temporal=None, attention=None),
    reported={"rmse": 0.114, "cc": 0.564, "ccc": 0.528},
)
