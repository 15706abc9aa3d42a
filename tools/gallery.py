"""The gallery: models that people ship, pruned, judged on fresh inputs, and shown on a page each.

    python tools/gallery.py --at DIR                  every model
    python tools/gallery.py --at DIR voice angle      some
    python tools/gallery.py pages                     only the pages anew, from docs/gallery/results.json

Models are fetched by the name and version of the package that has them, and stay in DIR. Inputs are made there as
tools/real_files.py says. What was measured goes to docs/gallery/results.json, and a report page beside each page.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

from tools.exhibits import pages, runs  # noqa: E402
from tools.exhibits.entries import ENTRIES  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(ENTRIES)}; or pages")
    parser.add_argument("--at", type=Path, help="folder for models and inputs")
    parser.add_argument("--limit", type=float, default=3600.0, help="seconds after which a run is stopped")
    args = parser.parse_args()
    only_pages = args.names == ["pages"]
    unknown = [] if only_pages else [name for name in args.names if name not in ENTRIES]
    if unknown or (not only_pages and args.at is None):
        parser.error(f"no exhibit {unknown[0]!r}" if unknown else "--at says where models and inputs go")
    if not only_pages:
        for name in args.names or ENTRIES:
            runs.measure(ENTRIES[name], args.at, args.limit)
    pages.write_all()
    return 0


if __name__ == "__main__":
    sys.exit(main())
