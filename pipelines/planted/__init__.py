"""Videos that affect renders itself: their expressions, valence and arousal are known exactly."""
