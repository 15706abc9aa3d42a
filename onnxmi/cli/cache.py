"""`onnxmi cache`."""

from __future__ import annotations

from datetime import datetime

import click

from onnxmi.cli.arguments import JSON
from onnxmi.cli.failures import epilog
from onnxmi.cli.verbosity import print_data
from onnxmi.pruning.run_cache import kept_runs
from onnxmi.reporting.json_data import to_json
from onnxmi.reporting.tables import printable
from onnxmi.runtime.cache_folder import CacheEntry, cache_entries, cache_folder, remove_entry


@click.command(epilog=epilog("onnxmi cache", "onnxmi cache --clear"))
@click.option("--clear", is_flag=True, help="Remove all of it.")
@JSON
def cache(*, clear: bool, as_json: bool) -> None:
    """Show what is kept of earlier runs: times, statistics and damage, so that the next run need not measure them.

    It lies in the user's cache folder, or where ONNXMI_CACHE says. It can be removed at any time.
    """
    folder = cache_folder()
    times = [entry for entry in cache_entries(folder) if entry.path.name.startswith("times-")]
    entries = [*kept_runs(), *times]
    if clear:
        for entry in entries:
            remove_entry(entry)
    if as_json:
        print_data(to_json({"folder": str(folder), "cleared": clear, "entries": [_data(entry) for entry in entries]}))
        return
    for entry in entries:
        used = datetime.fromtimestamp(entry.used).isoformat(" ", "minutes")
        click.echo(printable(f"{entry.path.relative_to(folder)}  {entry.size:,} bytes, used {used}"))
    total = sum(entry.size for entry in entries)
    counted = "1 entry" if len(entries) == 1 else f"{len(entries)} entries"
    click.echo(printable(f"{folder}: {'removed' if clear else 'holds'} {counted}, {total:,} bytes"))


def _data(entry: CacheEntry) -> dict[str, str | int | float]:
    return {"path": str(entry.path), "bytes": entry.size, "used": entry.used}
