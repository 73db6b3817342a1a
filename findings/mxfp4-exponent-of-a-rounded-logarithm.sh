#!/usr/bin/env bash
# ggml 0.13.1 and gguf 0.19.0: the exponent of an MXFP4 block is not that of its largest magnitude. It is the floor of a base-2
# logarithm that was rounded to f32 first, so that from a few floats below a power of two on it is one more, and the steps of
# the whole block are twice as wide. How many floats depends on the power: none at 1, 1 at 8, 5 at 2^9, 11 at 2^17. A quantiser
# that reads the exponent out of the float's bits writes other bytes.
# Seen on 2026-11-29 (exponent of a block whose largest magnitude is so many floats below a power of two):
#
#     below 2^0   1 float  124    2^0 itself 125
#     below 2^9   5 floats 134    6 floats 133
#     below 2^17 11 floats 142   12 floats 141
#     gguf.quants agrees with ggml_quantize_chunk at all of them
#
# Needs Python 3 with venv, PyPI, and Linux on x86-64 (the wheel of pywhispercpp has ggml as a library). Prints what it saw;
# fails if that changed.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q --disable-pip-version-check gguf==0.19.0 pywhispercpp==1.5.1
"$dir/venv/bin/python" - "$dir" <<'PYTHON'
import ctypes
import glob
import sys

import gguf
import numpy as np

ggml = ctypes.CDLL(glob.glob(sys.argv[1] + "/venv/lib/python3*/site-packages/libggml-base.so.0")[0])
ggml.ggml_version.restype = ctypes.c_char_p
assert ggml.ggml_version() == b"0.13.1", ggml.ggml_version()
chunk = ggml.ggml_quantize_chunk
chunk.restype = ctypes.c_size_t
chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p]
MXFP4 = gguf.GGMLQuantizationType.MXFP4


def exponents(power, below):
    block = np.zeros((1, 32), np.float32)
    block[0, 0] = (np.array([2.0**power], np.float32).view(np.uint32) - np.uint32(below)).view(np.float32)[0]
    out = np.zeros(17, np.uint8)
    assert chunk(int(MXFP4), block.ctypes.data, out.ctypes.data, 0, 1, 32, None) == 17
    return int(out[0]), int(gguf.quants.quantize(block, MXFP4)[0, 0])


for power, floats in [(0, 0), (3, 1), (9, 5), (17, 11)]:
    for below in [0, floats, floats + 1]:
        theirs, package = exponents(power, below)
        print(f"2^{power}, {below} floats below: {theirs} by ggml, {package} by gguf")
        assert theirs == package == power + 125 - (below > floats)
PYTHON
