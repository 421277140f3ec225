"""Paper B on RECOLA, valence: networks that see one frame or many, features that replace faces, and attention.

Paper:    Lee et al., ICASSP 2018, poster: RMSE, CC and CCC on RECOLA. It names other papers for all rows but cnn3d and
          sta. The baseline of the organisers (RMSE .117, CC .358, CCC .273) is no network of this package.
Data:     RECOLA under its licence: affect prepare RECOLA --dataset recola --out shards/recola
Command:  affect table paper_b_recola --data shards/recola --split dev --workdir runs/recola
Sizes are assumed, as configs/paper_b.py and affect/data/lgbp.py say: this is no reproduction. Not measured here: the
data are not free.

The rows have the poster's order, and the first is what the others are compared with. `closs` rows learn by the
concordance alone. LGBP-TOP is computed on one view of a face, so faces are not mirrored, turned or cropped
at random.
"""

from dataclasses import replace

from affect.configs.paper_b import CONFIG as BASE


def row(name, rmse, cc, ccc, data=BASE.data, concordance=0.0, windows=BASE.windows, **model):
    return replace(
        BASE,
        name=name,
        model=replace(BASE.model, **model),
        data=data,
        train=replace(BASE.train, concordance=concordance),
        windows=windows,
        reported={"rmse": rmse, "cc": cc, "ccc": ccc},
    )


ONE_SECOND = replace(BASE.windows, length_s=1.0, stride_s=0.5)
LGBP = {
    "data": replace(BASE.data, random_crop=False, flip=False, rotation_deg=0.0),
    "features": "lgbp_top",
    "face_size": 64,
    "attention": None,
}
ROWS = {
    "cnn": row("cnn", 0.113, 0.426, 0.326, temporal=None, attention=None),
    "cnn_rnn_1s": row("cnn_rnn_1s", 0.111, 0.501, 0.474, temporal="rnn", attention=None, windows=ONE_SECOND),
    "cnn_rnn_4s": row("cnn_rnn_4s", 0.108, 0.544, 0.506, temporal="rnn", attention=None),
    "lgbp_lstm": row("lgbp_lstm", 0.114, 0.430, 0.354, temporal="lstm", **LGBP),
    "lgbp_bilstm": row("lgbp_bilstm", 0.105, 0.501, 0.346, temporal="bilstm", **LGBP),
    "lgbp_lstm_closs": row("lgbp_lstm_closs", 0.121, 0.488, 0.463, temporal="lstm", concordance=1.0, **LGBP),
    "cnn_lstm_closs": row("cnn_lstm_closs", 0.116, 0.561, 0.538, temporal="lstm", attention=None, concordance=1.0),
    "cnn3d": row("cnn3d", 0.104, 0.510, 0.493, temporal="conv3d", attention=None),
    "sta": row("sta", 0.102, 0.572, 0.546, temporal="conv3d", attention="softmax"),
}
