"""Paper A, Table 2: VGG16 with different poolings over time."""

# The paper's order; the first is what the others are compared with.
ROWS = ("lstm", "avg", "tp", "tp_sa")
