"""The demo: four planted expressions and a face at rest, mini-Xception's features, attention and joint softmax.

Data:     made by `affect demo` (pipelines/planted/clips.py): 50 training and 25 test clips of 32 frames.
Cost:     half a minute on two cores; the backbone is frozen, and sees four views of each face once.
Expected: accuracy ≥ 0.9 on the test clips, whose most important frame is in the planted interval for ≥ 90 %.
Command:  affect demo
"""

from affect.config import Data, Experiment, FrameClassifier, Train

CONFIG = Experiment(
    name="planted",
    model=FrameClassifier(
        backbone="mini_xception",
        weights="fer2013",
        spatial_pooling="attention",
        heads=2,
        hidden_units=64,
        diversity=0.1,
        temporal_pooling="joint_softmax",
    ),
    data=Data(batch_clips=4, frames=16, flip=True, rotation_deg=5.0, selection_ratio=0.2),
    train=Train(
        epochs=30,
        trainable="head",
        feature_views=4,
        head_learning_rate=0.05,
        restart_epochs=10,
        restart_factor=2.0,
        selection_metric="loss",
    ),
)
