"""The layers, and the tables from which a model picks its poolings by name."""

from affect.layers.attention_pooling import AttentionPooling
from affect.layers.joint_softmax_pooling import JointSoftmaxPooling
from affect.layers.merge_frames import MergeFrames
from affect.layers.pixel_scaling import PixelScaling
from affect.layers.split_frames import SplitFrames

SPATIAL_POOLINGS = {  # (B, F, L, D) features -> (B, F, ...) one vector a frame
    "attention": AttentionPooling,
}

TEMPORAL_POOLINGS = {  # (B, F, E) frame logits -> (B, E) clip logits
    "joint_softmax": JointSoftmaxPooling,
}

__all__ = [
    "SPATIAL_POOLINGS",
    "TEMPORAL_POOLINGS",
    "AttentionPooling",
    "JointSoftmaxPooling",
    "MergeFrames",
    "PixelScaling",
    "SplitFrames",
]
