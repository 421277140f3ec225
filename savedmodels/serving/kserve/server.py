"""Serves an ONNX model by KServe's Open Inference Protocol (v2): HTTP on port 8080, gRPC on port 8081.

It does not import affect:

    pip install 'kserve~=0.21.0' 'onnxruntime~=1.32'
    python savedmodels/serving/kserve/server.py --model_dir savedmodels/NAME/1 --model_name NAME --workers 2

`model.onnx` is served as the model NAME, and each other file, such as `frame.onnx`, as NAME-frame. The names, dtypes
and shapes of the tensors are those of the file: `GET /v2/models/NAME`. All options: `--help`.
"""

import argparse
import asyncio
import math
from pathlib import Path

import onnxruntime
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer, model_server
from kserve.errors import InvalidInput

# Type of ONNX → type of the protocol.
TYPES = {"tensor(uint8)": "UINT8", "tensor(bool)": "BOOL", "tensor(float)": "FP32"}
# Largest number of faces in a request: clips × frames. The memory that a network takes is proportional to it.
MAX_FACES = 512


class ONNX(Model):
    """A file. A process of the server opens it at its first request, because a session cannot be sent to a process."""

    def __init__(self, name: str, path: Path, threads: int):
        super().__init__(name)
        self.path, self.threads, self.session = path, threads, None
        self.ready = path.is_file()

    def open(self) -> onnxruntime.InferenceSession:
        if self.session is None:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = self.threads
            content = self.path.read_bytes()
            self.session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        return self.session

    async def get_input_types(self) -> list[dict]:
        return [describe(tensor) for tensor in self.open().get_inputs()]

    async def get_output_types(self) -> list[dict]:
        return [describe(tensor) for tensor in self.open().get_outputs()]

    async def predict(self, payload: InferRequest, headers: dict | None = None) -> InferResponse:
        session = self.open()
        expected = {tensor.name: tensor for tensor in session.get_inputs()}
        if {tensor.name for tensor in payload.inputs} != set(expected):
            raise InvalidInput(f"{self.name} takes the inputs {sorted(expected)}")
        arrays = {}
        for tensor in payload.inputs:
            if tensor.datatype != (datatype := TYPES[expected[tensor.name].type]):
                raise InvalidInput(f"{tensor.name} must be {datatype}, not {tensor.datatype}")
            arrays[tensor.name] = tensor.as_numpy().reshape(tensor.shape)
        if "faces" in arrays and math.prod(arrays["faces"].shape[:-3]) > MAX_FACES:
            raise InvalidInput(f"More than {MAX_FACES} faces a request")
        try:
            found = await asyncio.to_thread(session.run, None, arrays)
        except Exception as error:  # classes of its own, which share no base class: shapes that do not fit
            raise InvalidInput(str(error).splitlines()[0]) from error
        outputs = []
        for tensor, array in zip(session.get_outputs(), found, strict=True):
            output = InferOutput(tensor.name, list(array.shape), TYPES[tensor.type])
            output.set_data_from_numpy(array)
            outputs.append(output)
        return InferResponse(payload.id, self.name, outputs)


def describe(tensor) -> dict:
    """Returns the metadata of a tensor; -1 is a free size."""
    shape = [size if isinstance(size, int) else -1 for size in tensor.shape]
    return {"name": tensor.name, "datatype": TYPES[tensor.type], "shape": shape}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(parents=[model_server.parser], conflict_handler="resolve")
    parser.add_argument("--model_dir", type=Path, required=True, help="Folder NAME/VERSION of an ONNX model.")
    parser.add_argument("--threads", type=int, default=1, help="Threads of a request.")
    arguments = parser.parse_args()
    files = sorted(arguments.model_dir.glob("*.onnx"))
    if not files:
        parser.error(f"{arguments.model_dir} has no .onnx file. Make them: affect export RUN NAME --format onnx")
    names = {file: arguments.model_name + ("" if file.stem == "model" else f"-{file.stem}") for file in files}
    ModelServer().start([ONNX(name, file, arguments.threads) for file, name in names.items()])
