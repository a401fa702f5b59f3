"""Prints the OpenAPI document: `python -m trimtab.api.export_openapi`. The dashboard's types are made from it."""

from __future__ import annotations

import json
import sys

from trimtab.api.app import create_app


def main() -> int:
    """Write the document to standard output."""
    json.dump(create_app(None).openapi(), sys.stdout, indent=2, sort_keys=True, ensure_ascii=False)
    sys.stdout.write("\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
