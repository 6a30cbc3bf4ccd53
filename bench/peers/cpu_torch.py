"""bench/peers/install puts this into the virtual environment; a .pth file imports it before anything else.

It loads the empty libraries that stand in for CUDA's, and has extension modules bind each call when it is made: those into CUDA
never are.
"""
import ctypes
import glob
import os
import sys

for library in glob.glob(os.path.join(sys.prefix, "stand-ins", "*")):
    ctypes.CDLL(library)
sys.setdlopenflags(os.RTLD_LAZY)
