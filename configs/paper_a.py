"""Paper A's best row: VGG16 + temporal softmax pooling + spatial attention with 2 heads and λ = 1.

Paper:    Aminbeidokhti et al., ICIAR 2019, arXiv 1910.01254, Table 1: 49.0 % on AFEW's validation clips.
Data:     AFEW 7.0 under its licence: affect prepare AFEW --dataset afew --out shards/afew
Weights:  affect weights import vgg16 rcmalli_vggface_tf_notop_vgg16.h5
Command:  affect train configs/paper_a.py --data shards/afew --workdir runs/paper_a
          affect evaluate runs/paper_a --data shards/afew --split val
Not measured here: neither the data nor the weights can be had freely.

Where the paper is silent the value is its authors' code's: 3 clips a batch, restarts after 10 and 20 epochs, rotation,
crop of 224/256. U is not given; 256 is one of the values in the authors' comments.
"""

from affect.config import Data, Experiment, Model, Train

CONFIG = Experiment(
    name="paper_a",
    model=Model(
        backbone="vgg16",
        weights="vggface",
        output_stride=16,
        spatial_pooling="attention",
        heads=2,
        hidden_units=256,
        diversity=1.0,
        temporal_pooling="joint_softmax",
    ),
    data=Data(batch_clips=3, frames=16),
    train=Train(epochs=30, backbone_learning_rate=1e-5, head_learning_rate=0.1),
    reported={"accuracy": 0.490},
)
