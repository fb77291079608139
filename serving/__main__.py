"""`python -m serving` is the `tessera` command."""

from serving.cli import main

if __name__ == "__main__":
    main()
