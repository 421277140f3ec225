"""The networks, and what they are built of, in `keras.ops` alone."""
