"""Build the documentation site; broken links, anchors and references fail.

    python -m tools.site                      into build/site
    python -m tools.site FOLDER
    python -m tools.site FOLDER --external    try the links to other hosts, too (needs a network)

Sphinx comes with the extra `docs`: pip install -e '.[docs]'.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from sphinx.cmd.build import build_main

from tools.site import accessible, api
from tools.site.stage import ROOT, stage


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "build" / "site")
    parser.add_argument("--external", action="store_true", help="also try the links to other hosts")
    args = parser.parse_args()
    if api.missing():
        print(f"not on a page of tools/site/api.py: {', '.join(sorted(api.missing()))}", file=sys.stderr)
        return 1
    with TemporaryDirectory() as source:
        stage(Path(source))
        settings = ["-q", "-W", "--keep-going", "-E", "-c", str(Path(__file__).parent), source]
        code = build_main(["-b", "html", "-d", f"{source}/.doctrees", *settings, str(args.folder)])
        accessible.complete(args.folder)
        if args.external:
            code = code or build_main(["-b", "linkcheck", *settings, str(args.folder / "linkcheck")])
    return code


if __name__ == "__main__":
    sys.exit(main())
