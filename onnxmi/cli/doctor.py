"""`onnxmi doctor`."""

from __future__ import annotations

import click
from rich.console import Console

from onnxmi.cli.arguments import JSON
from onnxmi.cli.failures import epilog
from onnxmi.cli.verbosity import print_data
from onnxmi.reporting.doctor import doctor_data, show_doctor
from onnxmi.reporting.json_data import to_json


@click.command(epilog=epilog("onnxmi doctor", "onnxmi doctor --json > doctor.json"))
@JSON
def doctor(*, as_json: bool) -> None:
    """Show what a bug report needs: versions, the processor's features, threads, memory and the cache.

    Nothing is sent anywhere. The user's home folder is written as ~.
    """
    data = doctor_data()
    if as_json:
        print_data(to_json(data))
    else:
        show_doctor(Console(), data)
