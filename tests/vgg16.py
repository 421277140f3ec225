"""VGG16 in the words of others."""

# VGG16's convolutions as torchvision names them.
TORCHVISION = [f"features.{n}" for n in (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)]
