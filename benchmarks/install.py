"""How large an installation is: a new environment for each set of extras, without pip itself.

    python -m benchmarks.install [--extras plots --extras plots,train]

The packages are downloaded. Each file counts with its length; a file that two names share counts once.
"""

import subprocess
import sys
import tempfile
import venv
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

ROOT = Path(__file__).parents[1]
SHOWN = 6  # largest packages


def measure(extras: str) -> Counter[str]:
    """Installs affect in a new environment; returns the bytes by name in its folder of packages.

    Args:
        extras: Names of extras, with commas; empty installs none.
    """
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=False)
        what = f"{ROOT}[{extras}]" if extras else str(ROOT)
        python = Path(folder, "bin", "python")
        subprocess.run([sys.executable, "-m", "pip", "--python", python, "install", "--quiet", what], check=True)
        (packages,) = Path(folder).glob("lib/*/site-packages")
        sizes, seen = Counter(), set()
        for path in packages.rglob("*"):
            state = path.lstat()
            if path.is_file() and not path.is_symlink() and state.st_ino not in seen:
                seen.add(state.st_ino)
                sizes[path.relative_to(packages).parts[0].removesuffix(".libs")] += state.st_size
        return sizes


def main(extras: Annotated[list[str] | None, typer.Option(help="Extras, with commas.")] = None) -> None:
    """Prints the size of each set of extras, in MB of 10⁶ bytes, and its largest packages."""
    for names in extras or ("", "plots", "train", "plots,train,logs,serving"):
        sizes = measure(names)
        largest = ", ".join(f"{name} {size / 1e6:.0f}" for name, size in sizes.most_common(SHOWN))
        print(f"affect[{names}]: {sizes.total() / 1e6:.0f} MB ({largest}, ...)", flush=True)


if __name__ == "__main__":
    typer.run(main)
