"""mini-Xception as published, with its own seven-class head on each frame and joint softmax over frames.

Needs no training: `affect predict configs/fer2013.py VIDEO`. Its weights (MIT) come with
`affect weights get mini_xception`. No accuracy on video is known.
"""

from affect.config import Data, Experiment, FrameClassifier

CONFIG = Experiment(
    name="fer2013",
    model=FrameClassifier(
        backbone="mini_xception",
        weights="fer2013",
        output_stride=16,
        spatial_pooling=None,
        temporal_pooling="joint_softmax",
    ),
    data=Data(crop_ratio=1.0),
)
