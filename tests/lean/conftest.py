"""Some tests hold only where nothing but the core dependencies is installed."""

from __future__ import annotations

import os

collect_ignore = [] if os.environ.get("MEMEDGE_LEAN") == "1" else ["test_lean_only.py"]
