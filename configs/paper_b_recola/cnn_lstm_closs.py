"""2D-CNN + LSTM over windows of 4 s, learnt by the concordance alone; valence and arousal of RECOLA.

Paper:    Lee et al., ICASSP 2018, RECOLA, row CNN + LSTM + c-loss; it names another paper for it:
          RMSE .116, CC .561, CCC .538. Sizes are assumed, as in configs/paper_b.py; no reproduction.
Data:     shards/recola: affect prepare RECOLA --dataset recola --out shards/recola
Not measured here: the data cannot be had freely.
"""

from dataclasses import replace

from affect.configs.paper_b import CONFIG as BASE

CONFIG = replace(
    BASE,
    name="cnn_lstm_closs",
    model=replace(BASE.model, temporal="lstm", attention=None),
    train=replace(BASE.train, concordance=1.0),
    reported={"rmse": 0.116, "cc": 0.561, "ccc": 0.538},
)
