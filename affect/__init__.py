"""affect: read emotion from face video with spatial attention and temporal softmax pooling."""

__version__ = "0.1.0"
