"""Prints what a Mach-O program requires: `cpu`, `minimum`, and `library` lines; and `signature`, after verifying it.

    mach_o.py PROGRAM

Fails if a page of the program differs from its hash in the signature.
"""

import hashlib
import struct
import sys

LIBRARIES = {0xC, 0x80000018, 0x8000001F}  # LC_LOAD_DYLIB, LC_LOAD_WEAK_DYLIB, LC_REEXPORT_DYLIB
CODE_SIGNATURE = 0x1D
BUILD_VERSION = 0x32
CPUS = {0x01000007: "x86_64", 0x0100000C: "arm64"}
MACOS = 1


def commands(program):
    """Yields each load command: its number, and its bytes."""
    magic, cpu, _, _, count, _, _, _ = struct.unpack_from("<8I", program)
    assert magic == 0xFEEDFACF, "no 64-bit Mach-O program"
    print("cpu", CPUS[cpu])
    offset = 32
    for _ in range(count):
        number, size = struct.unpack_from("<2I", program, offset)
        yield number, program[offset : offset + size]
        offset += size


def verify(program, start):
    """Verifies the hashes of the code directory, and returns the kind of the signature."""
    magic, _, count = struct.unpack_from(">3I", program, start)
    assert magic == 0xFADE0CC0, "no signature"
    slots = dict(struct.unpack_from(">2I", program, start + 12 + 8 * each) for each in range(count))
    directory = start + slots[0]
    magic, _, _, flags, hashes, _, _, pages, limit = struct.unpack_from(">9I", program, directory)
    hash_size, hash_type, _, page_bits = struct.unpack_from("4B", program, directory + 36)
    assert (magic, hash_size, hash_type) == (0xFADE0C02, 32, 2), "no code directory with SHA-256"
    page = 1 << page_bits
    assert limit == start and pages == -(-limit // page), "the signature does not cover the program"
    for each in range(pages):
        expected = program[directory + hashes + 32 * each :][:32]
        found = hashlib.sha256(program[each * page : min((each + 1) * page, limit)]).digest()
        assert expected == found, f"page {each} differs from its hash"
    return "ad-hoc" if flags & 2 else "of a developer"


def main():
    with open(sys.argv[1], "rb") as file:
        program = file.read()
    signature = "none"
    for number, command in commands(program):
        if number == BUILD_VERSION:
            platform, version = struct.unpack_from("<2I", command, 8)
            assert platform == MACOS, "not for macOS"
            print(f"minimum {version >> 16}.{version >> 8 & 255}")
        elif number in LIBRARIES:
            name = struct.unpack_from("<I", command, 8)[0]
            print("library", command[name:].split(b"\0")[0].decode())
        elif number == CODE_SIGNATURE:
            signature = verify(program, struct.unpack_from("<I", command, 8)[0])
    print("signature", signature)


main()
