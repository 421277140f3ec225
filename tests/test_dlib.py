"""The detector dlib: without its packages one line, with them landmarks where MTCNN sees them.

What holds for every detector is tested in test_faces.py.
"""

import sys
from importlib.util import find_spec

import numpy as np
import pytest
import skimage.data

from affect.config import Faces
from affect.errors import InputError
from affect.pipelines.detectors import DETECTORS


def test_without_its_packages_it_says_how_to_install_them(monkeypatch):
    monkeypatch.setitem(sys.modules, "dlib", None)
    with pytest.raises(InputError, match=r"detector dlib needs dlib-bin.*Install it: pip install 'affect\[dlib\]'$"):
        DETECTORS["dlib"](Faces())


@pytest.mark.skipif(
    not (find_spec("dlib") and find_spec("face_recognition_models")),
    reason="the detector dlib is absent: pip install 'affect[dlib]'",
)
def test_landmarks_lie_where_mtcnn_sees_them():
    portrait = skimage.data.astronaut()
    ((found,),), ((other,),) = (DETECTORS[name](Faces()).detect([portrait]) for name in ("dlib", "mtcnn"))
    eyes_px = np.linalg.norm(other.landmarks[0] - other.landmarks[1])
    distances = np.linalg.norm(found.landmarks - other.landmarks, axis=1)
    assert (distances < 0.06 * eyes_px).all()
    assert 0.9 < found.score < 1
