"""Paper B's network on paper A's clips: 3D-CNN + spatiotemporal attention, classes by joint softmax over the frames.

Of neither paper: it shows that their heads are interchangeable. Sizes are those of configs/paper_b.py, and so is how it
learns; all else is as configs/paper_a.py reads and augments clips, but for evaluation, which sees as many frames of a
clip as training does. Not measured.
Command:  affect train configs/video_classes.py --data shards --workdir runs/video_classes
"""

from dataclasses import replace

from affect.config import Data, Experiment, VideoClassifier
from affect.configs.paper_b import CONFIG as PAPER_B

CONFIG = Experiment(
    name="video_classes",
    model=VideoClassifier(temporal="conv3d", attention="softmax", temporal_pooling="joint_softmax"),
    data=Data(batch_clips=3, frames=16, eval_frames=16),
    train=replace(PAPER_B.train, selection_metric="accuracy"),
)
