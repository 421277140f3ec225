"""What configuration names is in the checkout: files, served models, packages; and what a forge and pre-commit run."""

import re
from configparser import ConfigParser
from importlib import import_module
from pathlib import Path

import pytest
import yaml
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

import affect
from tests.documents import DOCUMENTS, OWN_PATH, ROOT, SHIPPED, is_shipped, text_of

WITH_SUFFIX = re.compile(r"\.(py|md|json|config|yaml|png|npz|txt|pb|ya?ml)$")


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
    "document", [*DOCUMENTS, "affect/cli.py", "affect/reading/server.py", "savedmodels/serving/compose.yaml"]
)
def test_servers_are_asked_for_models_that_are_served(document):
    names = re.findall(r"\w+://localhost:850[01]/(?:v1/models/)?(\w+)", text_of(document))
    assert set(names) <= set(served_models())


def test_packaging_names_what_there_is():
    setup = ConfigParser()
    setup.read_string(text_of("setup.cfg"))
    assert is_shipped(setup["metadata"]["license_files"].strip())
    assert is_shipped(setup["metadata"]["long_description"].removeprefix("file:").strip())
    for script in setup["options.entry_points"]["console_scripts"].strip().splitlines():
        module, _, function = script.split("=")[1].strip().partition(":")
        assert callable(getattr(import_module(module), function))
    version = setup["metadata"]["version"].removeprefix("attr:").strip().rpartition(".")
    assert getattr(import_module(version[0]), version[2])


def test_the_citation_is_of_this_version():
    citation, setup = yaml.safe_load(text_of("CITATION.cff")), ConfigParser()
    setup.read_string(text_of("setup.cfg"))
    assert citation["version"] == affect.__version__
    assert citation["license"] == setup["metadata"]["license"]
    for entry in (citation, *citation["references"]):
        assert {"title", "authors", "type"} <= set(entry)


def test_a_forge_runs_what_runs_anywhere():
    workflow = yaml.safe_load(text_of(".github/workflows/ci.yml"))
    (job,) = workflow["jobs"].values()
    (version,) = (step["with"]["python-version"] for step in job["steps"] if "python-version" in step.get("with", {}))
    assert f"python{version}" in text_of("Makefile")
    assert [step["run"] for step in job["steps"] if "run" in step] == [".ci/run"]
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o100, ".ci/run is not executable"


def test_pre_commit_runs_what_make_lint_runs():
    (repository,) = yaml.safe_load(text_of(".pre-commit-config.yaml"))["repos"]
    assert repository["repo"] == "local"
    assert all(hook["language"] == "system" for hook in repository["hooks"])
    entries = {hook["entry"].removesuffix(" --force-exclude") for hook in repository["hooks"]}
    recipe = re.search(r"^lint:.*\n((?:\t.*\n)+)", text_of("Makefile"), re.MULTILINE)[1]
    assert entries == {line.strip().removeprefix("$(BIN)/").removesuffix(" .") for line in recipe.splitlines()}
