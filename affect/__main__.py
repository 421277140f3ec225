"""`python -m affect` is the command `affect`."""

from affect.cli import main

if __name__ == "__main__":
    main()
