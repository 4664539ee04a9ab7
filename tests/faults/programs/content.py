"""What bodies hold: bytes that follow from the request's id, so that whoever gets a body can tell whether it is his own and whole.

Owns that rule alone. Both programs of the bench stand on it.
"""

import random
import zlib

# Long enough that no two places in it look alike, and longer than any body.
BLOB = random.Random(1).randbytes(1 << 20)
LONGEST = 1 << 19


def content(ident, length):
    """The body of this length for the request with this id (bytes)."""
    begin = zlib.crc32(ident) % (len(BLOB) - LONGEST)
    return BLOB[begin:begin + length]


def chunked(data, size=16_000):
    """The same bytes in chunks."""
    pieces = (data[begin:begin + size] for begin in range(0, len(data), size))
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
