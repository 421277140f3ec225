"""2D-CNN + recurrent network over windows of 4 s; valence and arousal of RECOLA.

Paper:    Lee et al., ICASSP 2018, RECOLA, row CNN + RNN (≈ 4 sec.); it names another paper for it:
          RMSE .108, CC .544, CCC .506. Sizes are assumed, as in configs/paper_b.py; no reproduction.
Data:     shards/recola: affect prepare RECOLA --dataset recola --out shards/recola
Not measured here: the data cannot be had freely.
"""

from dataclasses import replace

from affect.configs.paper_b import CONFIG as BASE

CONFIG = replace(
    BASE,
    name="cnn_rnn_4s",
    model=replace(BASE.model, temporal="rnn", attention=None),
    reported={"rmse": 0.108, "cc": 0.544, "ccc": 0.506},
)
