"""``python -m memedge``: the command line, also where no console script is installed."""

from __future__ import annotations

from memedge.cli import main

if __name__ == "__main__":
    main()
