"""Small pictures as PNG, so that a page holds them by itself."""

from __future__ import annotations

import base64
import struct
import zlib

from onnxmi.typing import Array


def data_uri(image: Array) -> str:
    """Return a picture as a `data:` address.

    Parameters
    ----------
    image : (H, W) or (H, W, 3) uint8
        Gray or RGB.
    """
    height, width = image.shape[:2]
    color = 2 if image.ndim == 3 else 0
    rows = b"".join(b"\0" + row.tobytes() for row in image)  # no filter
    header = struct.pack(">IIBBBBB", width, height, 8, color, 0, 0, 0)
    chunks = (_chunk(b"IHDR", header), _chunk(b"IDAT", zlib.compress(rows, 9)), _chunk(b"IEND", b""))
    content = b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
