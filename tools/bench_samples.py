"""Peak memory of a prune on many images: it should not grow with them.

    python tools/bench_samples.py [--images 10000] [--size 224] [--dtype uint8] [--form npy|npz|folder] -- OPTIONS

makes random images and a small convolutional network in a temporary folder, prunes that with OPTIONS (such as
`--keep 0.5 --threads 1`), and prints the seconds and the peak of the process.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
import onnx

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tests.support.build import Build

CHUNK = 100  # images written at once


def make_model(size: int) -> onnx.ModelProto:
    b = Build(seed=0)
    x = b.op("Relu", b.conv(b.input("N", 3, size, size), 3, 16, strides=[2, 2], pads=[1, 1, 1, 1]))
    x = b.op("Relu", b.conv(x, 16, 32, strides=[2, 2], pads=[1, 1, 1, 1]))
    x = b.op("Relu", b.conv(x, 32, 32, strides=[2, 2], pads=[1, 1, 1, 1]))
    x = b.op("Flatten", b.op("GlobalAveragePool", x))
    return b.proto(b.gemm(x, 32, 10))


def write_images(path: Path, images: int, size: int, dtype: np.dtype) -> None:
    rng = np.random.default_rng(0)
    with path.open("wb") as file:
        header = {
            "descr": np.lib.format.dtype_to_descr(dtype),
            "fortran_order": False,
            "shape": (images, 3, size, size),
        }
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, images, CHUNK):
            pixels = rng.integers(0, 256, size=(min(CHUNK, images - start), 3, size, size), dtype=np.uint8)
            file.write((pixels if dtype == np.uint8 else pixels.astype(dtype) / 255).astype(dtype).tobytes())


def source_of(folder: Path, array: Path, form: str) -> Path:
    if form == "npz":
        with zipfile.ZipFile(folder / "calib.npz", "w") as archive:
            archive.write(array, "x.npy")
        return folder / "calib.npz"
    if form == "folder":
        from PIL import Image  # of the extra `images`

        (folder / "images").mkdir()
        for number, image in enumerate(np.load(array, mmap_mode="r")):
            Image.fromarray(image.transpose(1, 2, 0)).save(folder / "images" / f"{number:05}.png", compress_level=0)
        return folder / "images"
    return array


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--dtype", type=np.dtype, default=np.dtype(np.uint8))
    parser.add_argument("--form", choices=("npy", "npz", "folder"), default="npy")
    parser.add_argument("options", nargs="*", default=["--keep", "0.5", "--threads", "1"])
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        onnx.save(make_model(args.size), folder / "model.onnx")
        write_images(folder / "x.npy", args.images, args.size, args.dtype)
        source = source_of(folder, folder / "x.npy", args.form)
        size = (folder / "x.npy").stat().st_size
        start = time.perf_counter()
        command = [sys.executable, "-m", "onnxmi", "prune", folder / "model.onnx", source, "--overwrite", *args.options]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        print(
            f"{args.images:,} images as {args.form} of {args.dtype} ({size / 1e9:.2f} GB): exit"
            f" {os.waitstatus_to_exitcode(status)}, {seconds:.0f} s ({usage.ru_utime + usage.ru_stime:.0f} s of"
            f" processor), peak {usage.ru_maxrss / 1e6:.2f} GB"
        )


if __name__ == "__main__":
    main()
