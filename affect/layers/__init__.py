"""The layers, and the tables from which a model picks its poolings by name."""

import keras

from affect.layers.attention_pooling import AttentionPooling
from affect.layers.average_location_pooling import AverageLocationPooling
from affect.layers.average_score_pooling import AverageScorePooling
from affect.layers.joint_softmax_pooling import JointSoftmaxPooling
from affect.layers.last_frame_pooling import LastFramePooling
from affect.layers.lstm_pooling import LSTMPooling
from affect.layers.mask_frames import MaskFrames
from affect.layers.max_score_pooling import MaxScorePooling
from affect.layers.merge_frames import MergeFrames
from affect.layers.pixel_scaling import PixelScaling
from affect.layers.shifting_attention_pooling import ShiftingAttentionPooling
from affect.layers.spatiotemporal_attention import SpatiotemporalAttention
from affect.layers.split_frames import SplitFrames
from affect.layers.statistics_pooling import StatisticsPooling

# (B, F, L, D) features -> (B, F, ...) one vector for each frame. `has_attention` says whether a layer also returns
# attention maps.
SPATIAL_POOLINGS: dict[str, type[keras.layers.Layer]] = {
    "attention": AttentionPooling,
    "average": AverageLocationPooling,
    "shift": ShiftingAttentionPooling,
}

# `pools = "scores"`: (B, F, E) frame logits -> (B, E) clip logits.
# `pools = "features"`: (B, F, K) frame vectors -> (B, K') one vector for each clip, which the classifier reads.
TEMPORAL_POOLINGS: dict[str, type[keras.layers.Layer]] = {
    "joint_softmax": JointSoftmaxPooling,
    "average": AverageScorePooling,
    "max": MaxScorePooling,
    "lstm": LSTMPooling,
    "statistics": StatisticsPooling,
}

__all__ = [
    "SPATIAL_POOLINGS",
    "TEMPORAL_POOLINGS",
    "AttentionPooling",
    "AverageLocationPooling",
    "AverageScorePooling",
    "JointSoftmaxPooling",
    "LSTMPooling",
    "LastFramePooling",
    "MaskFrames",
    "MaxScorePooling",
    "MergeFrames",
    "PixelScaling",
    "ShiftingAttentionPooling",
    "SpatiotemporalAttention",
    "SplitFrames",
    "StatisticsPooling",
]
