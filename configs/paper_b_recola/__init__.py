"""Paper B on RECOLA: what sees time, features instead of faces, and attention.

The baseline (RMSE .117, CC .358, CCC .273) is left out: it is the organisers' own, and no network of this package.
"""

# The poster's order; the first is what the others are compared with.
ROWS = (
    "cnn",
    "cnn_rnn_1s",
    "cnn_rnn_4s",
    "lgbp_lstm",
    "lgbp_bilstm",
    "lgbp_lstm_closs",
    "cnn_lstm_closs",
    "cnn3d",
    "sta",
)
