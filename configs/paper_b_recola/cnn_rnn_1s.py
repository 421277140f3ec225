"""2D-CNN + recurrent network over windows of 1 s; valence and arousal of RECOLA.

Paper:    Lee et al., ICASSP 2018, RECOLA, row CNN + RNN (≈ 1 sec.); it names another paper for it:
          RMSE .111, CC .501, CCC .474. Sizes are assumed, as in configs/paper_b.py; no reproduction.
Data:     shards/recola: affect prepare RECOLA --dataset recola --out shards/recola
Not measured here: the data cannot be had freely.
"""

from dataclasses import replace

from affect.configs.paper_b import CONFIG as BASE

CONFIG = replace(
    BASE,
    name="cnn_rnn_1s",
    model=replace(BASE.model, temporal="rnn", attention=None),
    windows=replace(BASE.windows, length_s=1.0, stride_s=0.5),
    reported={"rmse": 0.111, "cc": 0.501, "ccc": 0.474},
)
