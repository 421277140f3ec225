"""From a folder of videos to TFRecord shards of aligned faces."""
