"""The rows of paper B's table, tiny, and windows to give them."""

from dataclasses import replace

import numpy as np

from affect.config import VideoRegressor

TINY = VideoRegressor(
    temporal=None,
    face_size=16,
    blocks=2,
    filters=3,
    attention_filters=2,
    recurrent_units=4,
    hidden_units=6,
)
ROWS = {
    "cnn": TINY,
    "cnn_rnn": replace(TINY, temporal="rnn"),
    "cnn_lstm": replace(TINY, temporal="lstm"),
    "cnn_bilstm": replace(TINY, temporal="bilstm"),
    "cnn3d": replace(TINY, temporal="conv3d", attended_blocks=2),
    "sta": replace(TINY, temporal="conv3d", attention="softmax"),
    "sta_sigmoid": replace(TINY, temporal="conv3d", attention="sigmoid", attended_blocks=0),
    "cnn_lstm_attention": replace(TINY, temporal="lstm", spatial_pooling="attention", pooling_units=5, diversity=0.1),
    "cnn3d_shift": replace(TINY, temporal="conv3d", spatial_pooling="shift", heads=3),
}
RANDOM = np.random.default_rng(0)
FACES = RANDOM.integers(0, 256, (2, 5, 16, 16, 3), dtype=np.uint8)
FRAME_MASK = np.array([[True] * 5, [True, False, True, True, False]])
INPUTS = {"faces": FACES, "frame_mask": FRAME_MASK}
