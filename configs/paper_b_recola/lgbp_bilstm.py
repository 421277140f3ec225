"""LGBP-TOP + bidirectional LSTM over windows of 4 s; valence and arousal of RECOLA.

Paper:    Lee et al., ICASSP 2018, RECOLA, row LGBP-TOP + BiLSTM; it names another paper for it:
          RMSE .105, CC .501, CCC .346. Sizes are assumed, as in configs/paper_b.py and affect/data/lgbp.py; no
          reproduction.
Data:     shards/recola: affect prepare RECOLA --dataset recola --out shards/recola
Not measured here: the data cannot be had freely.
"""

from dataclasses import replace

from affect.configs.paper_b import CONFIG as BASE

CONFIG = replace(
    BASE,
    name="lgbp_bilstm",
    model=replace(BASE.model, temporal="bilstm", attention=None, features="lgbp_top", face_size=64),
    data=replace(BASE.data, random_crop=False, flip=False, rotation_deg=0.0),  # features of one view
    reported={"rmse": 0.105, "cc": 0.501, "ccc": 0.346},
)
