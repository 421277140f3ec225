"""Paper B on AV+EC'17 (SEWA), valence: networks that see one frame or many, and attention.

Paper:    Lee et al., ICASSP 2018, poster: RMSE, CC and CCC on AV+EC'17. It names other papers for cnn and cnn_rnn_4s.
          The baseline's row, on other features, is left out.
Data:     SEWA under its licence: affect prepare SEWA --dataset sewa --out shards/sewa
Command:  affect table paper_b_avec17 --data shards/sewa --split dev --workdir runs/avec17
Sizes are assumed, as configs/paper_b.py says: this is no reproduction. Not measured here: the data are not free.

The rows have the poster's order, and the first is what the others are compared with.
"""

from affect.configs.paper_b_recola import row

ROWS = {
    "cnn": row("cnn", 0.114, 0.564, 0.528, temporal=None, attention=None),
    "cnn_rnn_4s": row("cnn_rnn_4s", 0.104, 0.616, 0.588, temporal="rnn", attention=None),
    "sta": row("sta", 0.099, 0.638, 0.612, temporal="conv3d", attention="softmax"),
}
