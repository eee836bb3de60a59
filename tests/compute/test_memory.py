import platform
import subprocess
import sys

import pytest

from merc.compute import memory

GLIBC = platform.libc_ver()[0] == "glibc"

# Blocks of 2 MB between small ones that stay: freed inside the heap they would only leave holes. The first large block
# raises glibc's own threshold.
HOLES = """
import ctypes, sys
from merc.compute import memory
if sys.argv[1] == "with":
    assert memory.return_large_blocks()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
libc.free(libc.malloc(30 << 20))
blocks, staying = [], []
for _ in range(100):
    blocks.append(libc.malloc(2 << 20))
    ctypes.memset(blocks[-1], 1, 2 << 20)
    staying.append(libc.malloc(1 << 10))
for block in blocks:
    libc.free(block)
if sys.argv[1] == "trimmed":
    memory.trim()
print(int(open("/proc/self/statm").read().split()[1]) * 4 // 1024)
"""

# A block as large as the gradient of a wide layer, allocated and freed repeatedly.
AGAIN = """
import ctypes, resource, sys
from merc.compute import memory
if sys.argv[1] == "with":
    assert memory.keep_freed_blocks()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
for _ in range(10):
    block = libc.malloc(40 << 20)
    ctypes.memset(block, 1, 40 << 20)
    libc.free(block)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


def _printed(script: str, how: str) -> int:
    done = subprocess.run([sys.executable, "-c", script, how], check=True, capture_output=True, text=True)
    return int(done.stdout)


def _megabytes(how: str) -> int:
    return _printed(HOLES, how)


@pytest.mark.skipif(not GLIBC, reason="only glibc keeps freed blocks in that way")
def test_large_blocks_go_back_to_the_system_when_they_are_freed() -> None:
    assert _megabytes("without") - _megabytes("with") > 150


@pytest.mark.skipif(not GLIBC, reason="only glibc keeps freed blocks in that way")
def test_trimming_gives_back_the_holes_in_the_heaps() -> None:
    assert _megabytes("without") - _megabytes("trimmed") > 150


@pytest.mark.skipif(not GLIBC, reason="only glibc maps large blocks anew in that way")
def test_kept_blocks_are_not_mapped_anew() -> None:
    """Ten times 40 MB is 102,400 pages of 4 KiB, once 10,240; an interpreter alone takes a few thousand."""
    faults = _printed(AGAIN, "with")
    assert faults < _printed(AGAIN, "without") / 3


def test_without_glibc_nothing_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_glibc", lambda: None)
    assert memory.return_large_blocks() is False
    assert memory.keep_freed_blocks() is False
    memory.trim()
