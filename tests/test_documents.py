"""The documents: their code runs, their links lead somewhere, and what they name is in the checkout."""

import csv
import io
import re
import subprocess
from importlib import import_module

import pytest
import typer
from typer.main import get_command

from affect.cli import app
from affect.config import load_config
from affect.training.train import train
from tests.commands import affect
from tests.documents import (
    DOCUMENTS,
    FOLDERS,
    OWN_PATH,
    ROOT,
    SHIPPED,
    anchors_of,
    asks_server,
    blocks_of,
    is_shipped,
    links_of,
    prose_of,
    shell_of,
    spans_of,
    split_commands,
    text_of,
)
from tests.write_documents import CHOICES, PAGE, fill_in_choices, help_of, list_commands, write_page

WRITTEN = tuple(name for name in DOCUMENTS if name != PAGE)
# Language of a block → what is done with it here.
LANGUAGES = {
    "sh": "each command is parsed, by the program itself where it is affect's",
    "sh-session": "typed lines begin with $; their syntax is checked, because they need a server or a cluster",
    "python": "it is executed",
    "cpp": "tests/test_phone.py compiles it",
    "kotlin": "tests/test_phone.py compiles it, in make test-large",
    "swift": "tests/test_phone.py compiles it where there is swiftc",
    "csv": "it has a header, and rows as long",
    "bibtex": "nothing",
    "text": "nothing",
}
BLOCKS = [block for document in DOCUMENTS for block in blocks_of(document)]
SHELL = [block for block in BLOCKS if block.language in ("sh", "sh-session")]
# Programs that a document may call beside affect, which are not ours to check.
PROGRAMS = {"docker", "git", "head", "pytest", "qsub", "sbatch", "srun", "sha256sum", "wait"}
# Words of no textbook, or with a private meaning.
PRIVATE = re.compile(r"\b(anew|whoever|hangs? on|stands? in|in place of|the road|the house|lessons?)\b", re.IGNORECASE)


def names_of(blocks):
    return {"argvalues": blocks, "ids": map(str, blocks)}


@pytest.fixture(scope="module")
def desk(shards, face_videos, tmp_path_factory):
    """A folder as a reader has it: files of the checkout, `video.mp4`, `interviews/`, `shards` and the run `runs/a`."""
    folder = tmp_path_factory.mktemp("desk")
    for name in ("configs", "savedmodels"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "shards").symlink_to(shards)
    (folder / "video.mp4").symlink_to(face_videos / "moving.mp4")
    (folder / "interviews").mkdir()
    (folder / "interviews" / "1.mp4").symlink_to(face_videos / "still.mp4")
    train(load_config(ROOT / "configs" / "smoke.py"), data=shards, workdir=folder / "runs" / "a", progress=False)
    return folder


@pytest.mark.parametrize(
    "block", **names_of([block for block in BLOCKS if block.language == "python" and not asks_server(block)])
)
def test_python_runs_as_it_is_written(block, desk, monkeypatch):
    monkeypatch.chdir(desk)
    code = compile("\n" * (block.line - 1) + block.text, block.document, "exec")
    exec(code, {"__name__": "__main__"})


@pytest.mark.parametrize("block", **names_of(SHELL))
def test_shell_code_is_shell_code(block):
    done = subprocess.run(["bash", "-n"], input=shell_of(block), capture_output=True, text=True, check=False)
    assert not done.stderr
    assert shell_of(block).strip()


@pytest.mark.parametrize("block", **names_of([block for block in SHELL if not asks_server(block)]))
def test_commands_are_those_that_there_are(block):
    for words in split_commands(shell_of(block)):
        check_command(words)


def check_command(words):
    """Fails where a command names what there is not, or what affect or a benchmark would refuse."""
    program, *rest = words
    if program == "affect":
        command, name = get_command(app), "affect"
        rest = rest[1:] if rest[0] == "--debug" else rest
        while hasattr(command, "commands"):
            assert rest[0] in command.commands, words
            name = rest.pop(0)
            command = command.commands[name]
        if rest != ["--help"]:
            command.make_context(name, rest)
    elif program == "python":
        if rest[0] in SHIPPED:
            return
        assert rest[0] == "-m", words
        path = rest[1].replace("affect.pipelines", "pipelines").replace(".", "/")
        assert f"{path}.py" in SHIPPED, words
        command_of_benchmark(rest[1]).make_context(rest[1], rest[2:])
    elif program == "make":
        assert set(rest) <= set(re.findall(r"^([\w-]+):", text_of("Makefile"), re.MULTILINE)), words
    elif program == "pip":
        assert rest[0] == "install", words
    else:
        assert program in PROGRAMS or is_shipped(program), words


def command_of_benchmark(module):
    """Returns what reads the command line of a module of benchmarks."""
    found = typer.Typer(add_completion=False)
    found.command()(import_module(module).main)
    return get_command(found)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("affect train configs/paper_a.py --data shards", "Missing parameter: workdir"),
        ("affect train configs/paper_a.py --data shards --workdir runs/a --head 2", "No such option: --head"),
        ("affect check savedmodels/a/1 savedmodels/a/2", "unexpected extra argument"),
        ("affect prepare videos --out shards --face-size large", "unable to parse string as an integer"),
    ],
)
def test_a_command_that_affect_would_refuse_is_found(words, message):
    with pytest.raises(Exception, match=message):
        check_command(words.split())


@pytest.mark.parametrize("words", ["affect trian", "make everything", "python -m benchmarks.nothing", "rm -r x"])
def test_a_command_that_is_not_there_is_found(words):
    with pytest.raises(AssertionError):
        check_command(words.split())


@pytest.mark.parametrize("document", DOCUMENTS)
def test_sentences_name_commands_and_options_that_there_are(document):
    """What a sentence names need not be a whole command."""
    root = get_command(app)
    for words in map(str.split, spans_of(document)):
        if words[:2] == ["python", "-m"]:
            check_command(words)
        elif words[0] == "make":
            check_command(words[: words.index("&&")] if "&&" in words else words)
        if words[0] != "affect":
            continue
        command, rest, known = root, words[1:], {"--debug", "--help"}
        while rest and hasattr(command, "commands") and rest[0].isidentifier() and rest[0].islower():
            assert rest[0] in command.commands, f"{document}: {' '.join(words)}"
            command = command.commands[rest.pop(0)]
            known |= {option for each in command.params for option in (*each.opts, *each.secondary_opts)}
        options = {word.split("=")[0] for word in rest if word.startswith("--")}
        assert options <= known, f"{document}: {' '.join(words)}"


@pytest.mark.parametrize("document", WRITTEN)
def test_options_in_sentences_are_those_of_some_command(document):
    known = set(re.findall(r"--[a-z][\w-]+", "".join(map(help_of, list_commands()))))
    named = {span.split()[0] for span in spans_of(document) if re.match(r"--[a-z]", span)}
    assert named <= known


@pytest.mark.parametrize("block", **names_of(BLOCKS))
def test_blocks_are_in_a_language_that_is_checked(block):
    assert block.language in LANGUAGES
    if block.language == "csv":
        header, *rows = csv.reader(io.StringIO(block.text))
        assert rows
        assert {len(row) for row in rows} == {len(header)}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_link_leads_somewhere(document):
    for target in links_of(document):
        if re.match(r"\w+://", target):
            continue
        path, _, anchor = target.partition("#")
        found = (ROOT / document).parent.joinpath(path).resolve().relative_to(ROOT).as_posix() if path else document
        assert is_shipped(found), target
        if anchor:
            assert anchor in anchors_of(found), target


@pytest.mark.parametrize("document", WRITTEN)
def test_documents_name_files_that_there_are(document):
    code = [*spans_of(document), *(shell_of(block) for block in blocks_of(document))]
    named = {path for text in code for path in OWN_PATH.findall(text)}
    made = {path for text in code for path in re.findall(r"affect export \S+ (\S+)", text)}
    assert not {path for path in named if not is_shipped(path) and not path.startswith((*made, "savedmodels/NAME"))}


def test_each_document_is_linked_from_the_readme():
    linked = {target.partition("#")[0] for target in links_of("README.md")}
    assert {*DOCUMENTS, "CITATION.cff", "LICENSE"} - {"README.md"} <= linked


def test_the_readme_is_read_in_two_screens():
    assert len(text_of("README.md").split()) < 1200


@pytest.mark.parametrize("document", WRITTEN)
def test_documents_are_in_plain_words(document):
    assert not [found[0] for found in PRIVATE.finditer(prose_of(document))]


def test_the_code_is_in_plain_words():
    code = {name for name in SHIPPED if name.endswith(".py")} - {"tests/test_documents.py"}  # which holds the words
    found = {name: PRIVATE.search((ROOT / name).read_text(encoding="utf-8")) for name in code}
    assert not {name: words[0] for name, words in found.items() if words}


def test_help_is_what_the_commands_print():
    assert text_of(PAGE) == write_page(), "The help has changed. Run make docs."


@pytest.mark.parametrize("words", [words for words in list_commands() if words], ids=" ".join)
def test_help_names_arguments_in_upper_case_as_the_messages_do(words):
    usage = next(line for line in help_of(words).splitlines() if line.startswith("Usage: "))
    assert not re.findall(r"[{\[]([a-z_]+)[}\]]", usage)


def test_the_tables_of_choices_are_made_from_the_fields():
    text = text_of(CHOICES)
    assert text == fill_in_choices(text), "The choices have changed. Run make docs."
    assert "| `data.frames` | 16 | 16 | 16 | drawn at random" in text and "| `model.filters` | 64 | |" in text


def test_the_csv_in_the_readme_is_what_affect_writes(shared_data, tmp_path):
    """Some columns of the real clip, rounded; numbers may differ in their last digits on another processor."""
    (shown,) = (block for block in blocks_of("README.md") if block.language == "csv")
    commands = [words for block in blocks_of("README.md") for words in split_commands(shell_of(block))]
    (words,) = (words for words in commands if words[:4] == ["affect", "predict", "fer2013", "video.mp4"])
    (tmp_path / "video.mp4").symlink_to(shared_data / "clips" / "single_face.mp4")
    places = {"video.mp4": tmp_path / "video.mp4", "results": tmp_path / "results"}
    code, _, lines = affect(*(places.get(word, word) for word in words[1:]))
    assert code == 0, lines
    written = (tmp_path / "results" / "frames.csv").read_text()
    expected, found = (csv.DictReader(io.StringIO(text)) for text in (shown.text, written))
    assert [name for name in found.fieldnames if name in expected.fieldnames] == expected.fieldnames
    for row, other in zip(expected, found, strict=False):
        assert (row.pop("video"), row.pop("has_face")) == ("video.mp4", other["has_face"])
        assert {name: float(other[name]) for name in row} == pytest.approx(
            {name: float(value) for name, value in row.items()}, abs=1e-3
        )


def read_map():
    """Returns the paths in the map of CONTRIBUTING, folders with a slash at their end."""
    (tree,) = (block.text for block in blocks_of("CONTRIBUTING.md") if block.text.startswith("affect/"))
    paths, parents = [], []
    for line in tree.splitlines():
        indent, name = re.match(r"( *)([\w.]+/?)", line).groups()
        parents = parents[: len(indent) // 2]
        paths.append("".join([*parents, name]))
        parents.append(name)
    return paths


def test_the_map_of_modules_names_what_there_is():
    for path in read_map():
        assert is_shipped(path), path


def test_the_map_of_modules_leaves_nothing_out():
    """A folder of which the map names no file counts as a whole."""
    paths = read_map()
    whole = tuple(path for path in paths if path.endswith("/") and sum(each.startswith(path) for each in paths) == 1)
    modules = {name for name in SHIPPED if name.endswith(".py") and not name.endswith("__init__.py")}
    modules = {name for name in modules if name.split("/")[0] in ("affect", "pipelines", "benchmarks", "configs")}
    assert not {name for name in modules if name not in paths and not name.startswith(whole)}
    top = {name.split("/")[0] + "/" for name in FOLDERS if name != "." and not name.startswith(".")}
    assert top <= set(paths)
