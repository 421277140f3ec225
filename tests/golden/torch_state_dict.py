"""Writes torch_zip.pth and torch_legacy.pth: a small state dict as PyTorch itself serialises it, in both its forms.

PyTorch is no requirement of this project: run it once, in a virtual environment of its own.

    python3.11 -m venv torch_venv
    torch_venv/bin/pip install torch==2.15.0
    torch_venv/bin/python tests/golden/torch_state_dict.py

`features.0` is a convolution of 2 to 3 channels with a kernel of 1 × 2; `twin.weight` shares its storage, from the
third number on; `turned` is transposed in memory; `fc` is dense and of float16; `seen` counts. Values count from 0.
"""

from collections import OrderedDict
from pathlib import Path

import torch

kernel = torch.arange(12.0).reshape(3, 2, 1, 2)
state = OrderedDict()
state["features.0.weight"] = kernel
state["features.0.bias"] = torch.tensor([0.5, 1.5, 2.5])
state["twin.weight"] = kernel.flatten()[2:6].reshape(2, 2)
state["turned.weight"] = torch.arange(6.0).reshape(2, 3).T
state["fc.weight"] = torch.arange(4.0).reshape(1, 4).half()
state["seen.count"] = torch.tensor(7)
state._metadata = OrderedDict(version=1)  # model.state_dict() has it, and it is pickled with the dict
for name, is_zip in (("torch_zip.pth", True), ("torch_legacy.pth", False)):
    torch.save(state, Path(__file__).with_name(name), _use_new_zipfile_serialization=is_zip)
