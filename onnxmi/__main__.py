"""Run the command line: `python -m onnxmi`, and the `onnxmi` script.

To import what it takes lasts long enough for a Ctrl-C to come; until the commands take care of it, it ends the process.
"""

import os
import signal
from importlib import import_module


def run() -> None:
    """Run the command line."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _stop)
    main = import_module("onnxmi.cli").main
    interrupted = import_module("onnxmi.cli.signals").Interrupted
    try:
        main(prog_name="onnxmi")
    except interrupted:  # just before or after what is told of in the usual way
        _stop()
    finally:  # how it ended is settled; Python would let an interrupt kill what is left
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _stop(*_signal: object) -> None:
    os.write(2, b"onnxmi: error: interrupted\n")
    os._exit(130)


if __name__ == "__main__":
    run()
