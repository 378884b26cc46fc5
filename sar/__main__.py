"""``python -m sar`` is the ``sarclip`` command."""

from sar.cli import main

if __name__ == "__main__":
    main()
