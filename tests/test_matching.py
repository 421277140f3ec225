"""The assignment of faces to tracks has the sum of SciPy's."""

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from affect.pipelines.matching import find_matching

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (2, 5), (5, 2), (7, 7), (30, 12), (12, 30), (40, 40)])
@pytest.mark.parametrize("kind", ["all different", "many equal", "most are 0", "far apart"])
def test_the_sum_is_the_greatest(shape, kind):
    for _ in range(20):
        affinity = RANDOM.normal(size=shape)
        if kind == "many equal":
            affinity = np.round(affinity)
        elif kind == "most are 0":
            affinity *= RANDOM.random(shape) < 0.1
        elif kind == "far apart":
            affinity = np.exp(8 * affinity)
        rows, columns = zip(*find_matching(affinity), strict=True)
        assert list(rows) == sorted(set(rows)) and len(set(columns)) == len(columns) == min(shape)
        best = linear_sum_assignment(-affinity)
        assert affinity[list(rows), list(columns)].sum() == pytest.approx(affinity[best].sum(), rel=1e-12)
        if kind == "all different":
            assert [rows, columns] == [tuple(found) for found in best]


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0)])
def test_nothing_has_no_pairs(shape):
    assert find_matching(np.zeros(shape)) == []
