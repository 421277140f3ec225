"""Paper B on RECOLA: what sees time, and attention. Rows on LGBP-TOP features and the baseline's are left out."""

# The poster's order; the first is what the others are compared with.
ROWS = ("cnn", "cnn_rnn_1s", "cnn_rnn_4s", "cnn_lstm_closs", "cnn3d", "sta")
