"""Reads an lmdb file in a process of its own, which a damaged file may end or hold up without harm to another.

lmdb trusts the file that it maps into memory: a page number in it that is wrong is an address that is wrong. This file
is run by its path, and imports nothing of oodbench.

It is told the folder of the file, and by JSON on standard input the keys of which the contents are wanted, in
hexadecimal; null for all keys. On standard output it writes each answer after its length in eight bytes: keys, or
contents; a length of -1 is a key that is not there.
"""

import json
import os
import struct
import sys


def main() -> None:
    folder, wanted = sys.argv[1], json.load(sys.stdin)
    import lmdb

    try:
        database = lmdb.open(folder, readonly=True, lock=False, create=False, readahead=False)
        # lmdb maps the file into memory: a read behind the end of one that is cut short would kill the process.
        announced = (database.info()["last_pgno"] + 1) * database.stat()["psize"]
        actual = os.stat(os.path.join(folder, "data.mdb")).st_size
        if actual < announced:
            sys.exit(f"is cut short: {actual:,} of {announced:,} bytes")
        with database.begin(buffers=True) as transaction:
            if wanted is None:
                entries = database.stat()["entries"]
                for number, key in enumerate(transaction.cursor().iternext(values=False)):
                    if number >= entries:
                        sys.exit("is damaged: it has more keys than it says")
                    _answer(key)
            else:
                for key in wanted:
                    _answer(transaction.get(bytes.fromhex(key)))
    except lmdb.Error as error:
        sys.exit(f"cannot be read as an lmdb file ({error})")


def _answer(content: memoryview | None) -> None:
    sys.stdout.buffer.write(struct.pack("<q", -1 if content is None else len(content)))
    sys.stdout.buffer.write(content or b"")


if __name__ == "__main__":
    main()
