"""2D-CNN + recurrent network over windows of 4 s; valence and arousal of AV+EC'17.

Paper:    Lee et al., ICASSP 2018, AV+EC'17, row CNN + RNN (≈ 4 sec.); it names another paper for it:
          RMSE .104, CC .616, CCC .588. Sizes are assumed, as in configs/paper_b.py; no reproduction.
Data:     shards/sewa: affect prepare SEWA --dataset sewa --out shards/sewa
Not measured here: the data cannot be had freely.
"""

from dataclasses import replace

from affect.configs.paper_b import CONFIG as BASE

CONFIG = replace(
    BASE,
    name="cnn_rnn_4s",
    model=replace(BASE.model, temporal="rnn", attention=None),
    reported={"rmse": 0.104, "cc": 0.616, "ccc": 0.588},
)
