"""Paper B's network: 3D-CNN + spatiotemporal attention (STA), valence and arousal of the frames of 4 s windows.

Paper:    Lee, Kim, Kim and Sohn, ICASSP 2018, on RECOLA: RMSE .102, CC .572, CCC .546 (valence).
Data:     RECOLA under its licence: affect prepare RECOLA --dataset recola --out shards/recola
No reproduction: only a poster could be read, which names the parts and gives no size. What is assumed is written beside
each field of `affect.config.VideoNetwork`, `VideoRegressor` and `Windows`. Assumed too is how it is learnt, below: by
Adam at its own default rate, for on planted recordings (benchmarks/planted_recordings.py), with the concordance as the
loss, SGD at 0.1 ended at constants and Adam learnt. Whether the poster's numbers are of recordings concatenated or
averaged, it does not say.
Not measured here: the data cannot be had freely.
"""

from affect.config import Data, Experiment, Train, VideoRegressor, Windows

CONFIG = Experiment(
    name="paper_b",
    model=VideoRegressor(temporal="conv3d", attention="softmax"),
    data=Data(
        batch_clips=4,  # windows
        crop_ratio=224 / 256,
        random_crop=True,
        flip=True,
        rotation_deg=10.0,
        selection_ratio=0.15,
    ),
    train=Train(
        epochs=30,
        head_learning_rate=1e-3,
        optimizer="adam",
        weight_decay=5e-5,
        restart_epochs=10,
        restart_factor=2.0,
        concordance=0.0,
        selection_metric="loss",
    ),
    reported={"rmse": 0.102, "cc": 0.572, "ccc": 0.546},
    windows=Windows(length_s=4.0, stride_s=2.0, frame_rate_hz=10.0, delay_s=2.8),
)
