"""3D-CNN + spatiotemporal attention; valence and arousal of RECOLA.

Paper:    Lee et al., ICASSP 2018, RECOLA, row 3D-CNN + STA (≈ 4 sec.), and STA of the components:
          RMSE .102, CC .572, CCC .546. Sizes are assumed, as in configs/paper_b.py; no reproduction.
Data:     shards/recola: affect prepare RECOLA --dataset recola --out shards/recola
Not measured here: the data cannot be had freely.
"""

from dataclasses import replace

from affect.configs.paper_b import CONFIG as BASE

CONFIG = replace(
    BASE,
    name="sta",
    reported={"rmse": 0.102, "cc": 0.572, "ccc": 0.546},
)
