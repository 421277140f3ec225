"""The documents of a clone, read for tests: blocks of code, commands, links, headings, and the files that there are."""

import re
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# A path into one of the project's own folders.
OWN_PATH = re.compile(
    r"(?<![\w/.~-])(?:affect|benchmarks|configs|pipelines|savedmodels|tests|\.ci|\.github)/[\w./*-]*\w"
)
FENCE = re.compile(r"^```([\w-]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# What a word of a command may be followed by: another command, or a file for its output.
SEPARATORS = {"&&", "||", ";", "|", "&"}
REDIRECTIONS = {">", ">>", "<", "2>", "2>>"}


@dataclass(frozen=True)
class Block:
    """A block of code.

    Args:
        document: Path of the document below the checkout.
        line: Of its first line of code, from 1.
        language: The word after the fence.
        text: The code.
    """

    document: str
    line: int
    language: str
    text: str

    def __str__(self):
        return f"{self.document}:{self.line}"


def list_shipped():
    """Returns the names of all files of a clone: those that git knows, or of a copy without git all that there are."""
    listed = subprocess.run(["git", "-C", ROOT, "ls-files", "-z"], capture_output=True, text=True, check=False)
    if listed.returncode == 0 and listed.stdout:
        return frozenset(name for name in listed.stdout.split("\0") if name and (ROOT / name).exists())
    return frozenset(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*") if path.is_file())


SHIPPED = list_shipped()
FOLDERS = frozenset(parent.as_posix() for name in SHIPPED for parent in Path(name).parents)
# Those of the checkout and of two levels of folders; model cards, which export writes, are deeper.
DOCUMENTS = tuple(sorted(name for name in SHIPPED if re.fullmatch(r"(\w+/){0,2}\w+\.md", name)))


def is_shipped(path):
    """Returns whether a clone has a file or folder of that name, or one that a pattern with * fits."""
    path = path.rstrip("/")
    return path in SHIPPED or path in FOLDERS or ("*" in path and any(Path(name).match(path) for name in SHIPPED))


def text_of(name):
    """Returns the text of a file of the checkout."""
    return (ROOT / name).read_text(encoding="utf-8")


def asks_server(block):
    """Returns whether a block needs TensorFlow Serving: `tests/test_requests.py` runs it."""
    return block.language in ("sh", "python") and "localhost:850" in block.text


def blocks_of(document):
    """Returns the blocks of code of a document."""
    text = text_of(document)
    return [
        Block(document, text.count("\n", 0, found.start(2)) + 1, found[1], found[2]) for found in FENCE.finditer(text)
    ]


def prose_of(document):
    """Returns a document without its blocks of code."""
    return FENCE.sub("", text_of(document))


def spans_of(document):
    """Returns the code within the sentences of a document."""
    return re.findall(r"`([^`\n]+)`", prose_of(document))


def shell_of(block):
    """Returns the part of a block that a shell would run, with continued lines joined; of a session, what is typed."""
    text = block.text.replace("\\\n", " ")
    return "\n".join(re.findall(r"^\$ (.*)", text, re.MULTILINE)) if block.language == "sh-session" else text


def split_commands(text):
    """Returns the commands of shell code, each a list of its words, without assignments before it and redirections.

    A loop over names is its body.
    """
    commands = []
    for line in text.splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split, lexer.commenters = True, "#"
        words, is_target = [], False
        for word in [*lexer, ";"]:
            if is_target:
                is_target = False
            elif word in SEPARATORS:
                while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
                    words.pop(0)
                words = words[words[:1] == ["do"] :]
                if words and words[0] not in ("for", "done"):
                    commands.append(words)
                words = []
            elif word in REDIRECTIONS:
                is_target = True
            else:
                words.append(word)
    return commands


def links_of(document):
    """Returns the targets of links and pictures of a document."""
    return re.findall(r"\]\(([^)\s]+)\)", prose_of(document))


def anchors_of(document):
    """Returns the anchors that a forge gives to the headings of a document."""
    headings = re.findall(r"^#+ (.+)$", prose_of(document), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}
