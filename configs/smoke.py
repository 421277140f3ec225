"""The smallest experiment that walks every line: random weights, two epochs of a few steps. It learns nothing."""

from affect.config import Data, Experiment, FrameClassifier, Train

CONFIG = Experiment(
    name="smoke",
    model=FrameClassifier(backbone="mini_xception", weights=None, face_size=32, hidden_units=8),
    data=Data(batch_clips=2, frames=4, eval_frames=6, selection_ratio=0.25),
    train=Train(epochs=2, backbone_learning_rate=0.001, head_learning_rate=0.01, restart_epochs=1),
)
