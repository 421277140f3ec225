"""Paper B on AV+EC'17 (SEWA): what sees time, and attention. The baseline's row, on other features, is left out."""

# The poster's order; the first is what the others are compared with.
ROWS = ("cnn", "cnn_rnn_4s", "sta")
