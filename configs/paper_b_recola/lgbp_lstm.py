"""LGBP-TOP + LSTM over windows of 4 s; valence and arousal of RECOLA.

Paper:    Lee et al., ICASSP 2018, RECOLA, row LGBP-TOP + LSTM; it names another paper for it:
          RMSE .114, CC .430, CCC .354. Sizes are assumed, as in configs/paper_b.py and affect/data/lgbp.py; no
          reproduction.
Data:     shards/recola: affect prepare RECOLA --dataset recola --out shards/recola
Not measured here: the data cannot be had freely.
"""

from dataclasses import replace

from affect.configs.paper_b import CONFIG as BASE

CONFIG = replace(
    BASE,
    name="lgbp_lstm",
    model=replace(BASE.model, temporal="lstm", attention=None, features="lgbp_top", face_size=64),
    data=replace(BASE.data, random_crop=False, flip=False, rotation_deg=0.0),  # features of one view
    reported={"rmse": 0.114, "cc": 0.430, "ccc": 0.354},
)
