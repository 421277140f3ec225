"""3D-CNN + spatiotemporal attention; valence and arousal of AV+EC'17.

Paper:    Lee et al., ICASSP 2018, AV+EC'17, row 3D-CNN + STA (≈ 4 sec.):
          RMSE .099, CC .638, CCC .612. Sizes are assumed, as in configs/paper_b.py; no reproduction.
Data:     shards/sewa: affect prepare SEWA --dataset sewa --out shards/sewa
Not measured here: the data cannot be had freely.
"""

from dataclasses import replace

from affect.configs.paper_b import CONFIG as BASE

CONFIG = replace(
    BASE,
    name="sta",
    reported={"rmse": 0.099, "cc": 0.638, "ccc": 0.612},
)
