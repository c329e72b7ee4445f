"""``python -m visattn``."""

from __future__ import annotations

from visattn.cli.app import main

main()
