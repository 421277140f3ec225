"""The files in savedmodels/serving/, parsed as the ModelServer parses them."""

from pathlib import Path

import yaml
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format, wrappers_pb2
from tensorflow_serving.config import model_server_config_pb2

ROOT = Path(__file__).resolve().parents[1]
SERVING = ROOT / "savedmodels" / "serving"

# Messages that the package tensorflow-serving-api lacks: name → field → (number, type).
BOOL, INT64, STRING = (f".google.protobuf.{name}Value" for name in ("Bool", "Int64", "String"))
MESSAGES = {
    # tensorflow_serving/servables/tensorflow/session_bundle_config.proto
    "BatchingParameters": {
        "max_batch_size": (1, INT64),
        "batch_timeout_micros": (2, INT64),
        "max_enqueued_batches": (3, INT64),
        "num_batch_threads": (4, INT64),
        "thread_pool_name": (5, STRING),
        "allowed_batch_sizes": (6, "repeated int64"),
        "pad_variable_length_inputs": (7, "bool"),
        "enable_large_batch_splitting": (8, BOOL),
        "max_execution_batch_size": (9, INT64),
    },
    # tensorflow_serving/config/monitoring_config.proto
    "PrometheusConfig": {"enable": (1, "bool"), "path": (2, "string")},
    "MonitoringConfig": {"prometheus_config": (1, ".test.PrometheusConfig")},
}


def text_of(name):
    return (SERVING / name).read_text(encoding="utf-8")


def compose():
    """Returns the service of compose.yaml."""
    return yaml.safe_load(text_of("compose.yaml"))["services"]["serving"]


def parse_models(text):
    """Returns a `ModelServerConfig`. A field that the message does not have, or has twice, is an error."""
    return text_format.Parse(text, model_server_config_pb2.ModelServerConfig())


def parse_batching(text):
    """Returns `BatchingParameters`."""
    return text_format.Parse(text, _message("BatchingParameters"))


def parse_monitoring(text):
    """Returns a `MonitoringConfig`."""
    return text_format.Parse(text, _message("MonitoringConfig"))


def _message(name):
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    file = descriptor_pb2.FileDescriptorProto(
        name="test.proto", package="test", syntax="proto3", dependency=["google/protobuf/wrappers.proto"]
    )
    for message_name, fields in MESSAGES.items():
        described = file.message_type.add(name=message_name)
        for key, (number, kind) in fields.items():
            kind, is_repeated = kind.removeprefix("repeated "), kind.startswith("repeated ")
            field = described.field.add(name=key, number=number, label=3 if is_repeated else 1)
            if kind.startswith("."):
                field.type, field.type_name = field.TYPE_MESSAGE, kind
            else:
                field.type = getattr(field, f"TYPE_{kind.upper()}")
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"test.{name}"))()
