"""What happens to freed memory: an extraction returns it to the system, so that its peak does not grow with the corpus;
a training keeps it, since every step needs the same amount again.

glibc serves blocks below a threshold from heaps, which it returns only from their ends, and raises the threshold to
32 MB once a larger block is freed. The tensors of an encoder's batches (1 to 30 MB, another size each time) then leave
holes between longer-lived blocks. Measured with a tiny wav2vec 2.0 on 4,112 clips (``benchmarks/encode_volume.py``):
the peak fell from 2.4 GB, growing with every part, to 1.6 GB, constant from the second part on, without more CPU time.

In a training, blocks over 32 MB, such as the gradients of a wide model, would be mapped anew in every step, and the
system would clear them page by page. A step of ``sdt``, 70 million weights, had 74,000 page faults, a fifth of its CPU
time; now it has none, at the same peak.
"""

import ctypes

# Of <malloc.h>.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4
LARGE_BLOCK_BYTES = 1 << 20
KEPT_BYTES = 2**31 - 1  # the most that mallopt takes


def return_large_blocks() -> bool:
    """From now on, blocks of a megabyte and more are mapped one by one and unmapped when they are freed, in this
    process.

    Returns:
        False if the C library is not glibc; nothing is changed then.
    """
    glibc = _glibc()
    return glibc is not None and bool(glibc.mallopt(_M_MMAP_THRESHOLD, LARGE_BLOCK_BYTES))


def keep_freed_blocks() -> bool:
    """From now on, freed blocks of any size stay in this process to be used again, at most 2 GB at the end of its heap.

    Returns:
        False if the C library is not glibc; nothing is changed then.
    """
    glibc = _glibc()
    return (
        glibc is not None and bool(glibc.mallopt(_M_MMAP_MAX, 0)) and bool(glibc.mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES))
    )


def trim() -> None:
    """Returns the free memory in the heaps of all threads to the system; takes milliseconds. No effect without
    glibc.
    """
    if (glibc := _glibc()) is not None:
        glibc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL(None)
    except TypeError:  # on Windows, which has no such library
        return None
    return library if hasattr(library, "gnu_get_libc_version") else None
