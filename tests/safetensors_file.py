"""Safetensors files for the tests of the program, by Python's own library alone."""
import json
import struct
from pathlib import Path


def write_safetensors(path, tensors, metadata=None):
    """tensors: {name: (shape, its float32 numbers as bytes)}."""
    entries, data = {"__metadata__": metadata} if metadata else {}, b""
    for name, (shape, raw) in tensors.items():
        entries[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)
    Path(path).write_bytes(struct.pack("<Q", len(text)) + text + data)
