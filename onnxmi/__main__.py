"""Run the command line with `python -m onnxmi`."""

from onnxmi.cli import main

if __name__ == "__main__":
    main()
