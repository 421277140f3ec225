"""LGBP-TOP + LSTM over windows of 4 s, learnt by the concordance alone; valence and arousal of RECOLA.

Paper:    Lee et al., ICASSP 2018, RECOLA, row LGBP-TOP + LSTM + c-loss; it names another paper for it:
          RMSE .121, CC .488, CCC .463. Sizes are assumed, as in configs/paper_b.py and affect/data/lgbp.py; no
          reproduction.
Data:     shards/recola: affect prepare RECOLA --dataset recola --out shards/recola
Not measured here: the data cannot be had freely.
"""

from dataclasses import replace

from affect.configs.paper_b import CONFIG as BASE

CONFIG = replace(
    BASE,
    name="lgbp_lstm_closs",
    model=replace(BASE.model, temporal="lstm", attention=None, features="lgbp_top", face_size=64),
    data=replace(BASE.data, random_crop=False, flip=False, rotation_deg=0.0),  # features of one view
    train=replace(BASE.train, concordance=1.0),
    reported={"rmse": 0.121, "cc": 0.488, "ccc": 0.463},
)
