"""What documents and configuration name is in the checkout: files, commands and their options, served models."""

import re
import shlex
import subprocess
from configparser import ConfigParser
from importlib import import_module
from pathlib import Path

import pytest
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2
from typer.main import get_command

from affect.cli import app

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = ("README.md", "CHANGELOG.md", "savedmodels/README.md")
# A path into one of the project's own folders.
OWN_PATH = re.compile(r"(?<![\w/.~-])(?:affect|benchmarks|configs|pipelines|savedmodels|tests|\.ci)/[\w./*-]*\w")
WITH_SUFFIX = re.compile(r"\.(py|md|json|config|yaml|png|npz|txt|pb|ya?ml)$")


def shipped():
    """Returns the names of all files of a clone: those that git knows, or of a copy without git all that there are."""
    listed = subprocess.run(["git", "-C", ROOT, "ls-files", "-z"], capture_output=True, text=True, check=False)
    if listed.returncode == 0 and listed.stdout:
        return frozenset(name for name in listed.stdout.split("\0") if name)
    return frozenset(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*") if path.is_file())


SHIPPED = shipped()
FOLDERS = frozenset(parent.as_posix() for name in SHIPPED for parent in Path(name).parents)


def is_shipped(path):
    """Returns whether a clone has a file or folder of that name, or one that a pattern with * fits."""
    path = path.rstrip("/")
    return path in SHIPPED or path in FOLDERS or ("*" in path and any(Path(name).match(path) for name in SHIPPED))


def text_of(name):
    return (ROOT / name).read_text(encoding="utf-8")


def code_of(document):
    """Returns the pieces of code of a Markdown document: each line of a block, and each span."""
    text = text_of(document)
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    rest = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return lines + re.findall(r"`([^`]+)`", rest)


def commands_of(document):
    """Returns the words of each `affect VERB ...` of a document, up to what another program reads."""
    found = []
    for code in code_of(document):
        for part in re.split(r"&&|;", code.split(" #")[0]):
            words = shlex.split(part.strip().replace("'", ""))
            if len(words) > 1 and words[0] == "affect":
                found.append(words[1 : words.index("--") if "--" in words else None])
    return found


def made_by(words):
    """Returns patterns of what a command writes below `savedmodels`."""
    if words[0] == "export" and len(words) > 2:
        return [words[2], f"{words[2]}/1"]
    if words[0] == "convert" and len(words) > 1:
        return ["-".join(words[1].rsplit("/", 1)) + "-*.tflite"]
    return []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_documents_name_files_that_there_are(document):
    made = [pattern for words in commands_of(document) for pattern in made_by(words)]
    named = {path for code in code_of(document) for path in OWN_PATH.findall(code)}
    missing = [
        path
        for path in sorted(named)
        if not is_shipped(path)
        and not any(Path(path).match(pattern) for pattern in made)
        and not re.search(r"(^|/)(NAME|a)(/|-|$)", path)  # NAME and a are whatever a reader calls a model
    ]
    assert not missing, f"{document} names {missing}"


def test_code_and_configuration_name_files_that_there_are():
    missing = {}
    for name in sorted(SHIPPED):
        if name.startswith("tests/") or not name.endswith((".py", ".cfg", ".toml", ".config", ".yaml", "Makefile")):
            continue
        paths = {path for path in OWN_PATH.findall(text_of(name)) if WITH_SUFFIX.search(path)}
        if wrong := sorted(path for path in paths if not is_shipped(path)):
            missing[name] = wrong
    assert not missing
    for pattern in re.findall(r"\btests/\S+\.py", text_of("Makefile")):
        assert is_shipped(pattern), f"Makefile names {pattern}"
    for line in text_of(".gitignore").splitlines():
        if line.startswith("!/"):
            assert is_shipped(line[2:]), f".gitignore keeps {line[2:]}"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_documents_name_commands_and_options_that_there_are(document):
    root = get_command(app)
    for words in commands_of(document):
        command, rest, known = root, words, set()
        while True:
            known |= {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
            rest = [*rest]
            while rest and rest[0] in known:
                rest.pop(0)
            if not hasattr(command, "commands") or not rest or not rest[0].islower():
                break
            assert rest[0] in command.commands, f"{document}: affect {' '.join(words)}"
            command = command.commands[rest.pop(0)]
        options = {word.split("=")[0] for word in rest if word.startswith("--")}
        assert options <= known, f"{document}: affect {' '.join(words)} has no {sorted(options - known)}"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_documents_name_modules_and_targets_that_there_are(document):
    targets = set(re.findall(r"^([\w-]+):", text_of("Makefile"), re.MULTILINE))
    for code in code_of(document):
        for module in re.findall(r"python -m (benchmarks[\w.]+)", code):
            assert f"{module.replace('.', '/')}.py" in SHIPPED, code
        for target in re.findall(r"^make ([\w-]+)", code):
            assert target in targets, code


def test_the_tree_in_the_readme_is_that_of_the_checkout():
    (tree,) = re.findall(r"^## The house\n+```\n(.*?)^```", text_of("README.md"), re.MULTILINE | re.DOTALL)
    folder, listed = "", set()
    for line in tree.splitlines():
        if found := re.match(r"(\w+)/", line):
            folder = found[1]
        for name in re.findall(r"\b\w+\.py\b", line):
            listed.add(name if is_shipped(name) else f"{folder}/{name}")
    missing = sorted(name for name in listed if not is_shipped(name) and not is_shipped(name.replace("/", "/*/")))
    assert not missing


def served_models():
    config = model_server_config_pb2.ModelServerConfig()
    text_format.Parse(text_of("savedmodels/serving/models.config"), config)
    return {model.name: model.base_path for model in config.model_config_list.config}


def test_every_model_that_is_served_is_in_a_clone():
    """TensorFlow Serving opens its ports when every model of its list is loaded, and never without one of them."""
    models = served_models()
    assert models
    for name, base_path in models.items():
        folder = f"savedmodels/{Path(base_path).relative_to('/models').as_posix()}"
        versions = [path for path in SHIPPED if re.fullmatch(rf"{re.escape(folder)}/\d+/saved_model\.pb", path)]
        assert versions, f"{name}: {folder} holds no version"


@pytest.mark.parametrize(
    "document", [*DOCUMENTS, "affect/cli.py", "affect/client.py", "savedmodels/serving/compose.yaml"]
)
def test_servers_are_asked_for_models_that_are_served(document):
    names = re.findall(r"\w+://localhost:850[01]/(?:v1/models/)?(\w+)", text_of(document))
    assert set(names) <= set(served_models())


def test_packaging_names_what_there_is():
    setup = ConfigParser()
    setup.read_string(text_of("setup.cfg"))
    assert is_shipped(setup["metadata"]["license_files"].strip())
    assert is_shipped(setup["metadata"]["long_description"].removeprefix("file:").strip())
    for pattern in setup["options.packages.find"]["include"].split():
        assert is_shipped(f"{pattern.rstrip('*')}/__init__.py")
    for script in setup["options.entry_points"]["console_scripts"].strip().splitlines():
        module, _, function = script.split("=")[1].strip().partition(":")
        assert callable(getattr(import_module(module), function))
    version = setup["metadata"]["version"].removeprefix("attr:").strip().rpartition(".")
    assert getattr(import_module(version[0]), version[2])
