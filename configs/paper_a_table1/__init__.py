"""Paper A, Table 1: spatial attention by heads and regularisation, all with temporal softmax pooling."""

# The paper's order; the first is what the others are compared with.
ROWS = ("tp", "tp_shift_n2", "tp_sa_n1", "tp_sa_n2_l0p1", "tp_sa_n2_l1", "tp_sa_n4_l0p1", "tp_sa_n4_l1")
