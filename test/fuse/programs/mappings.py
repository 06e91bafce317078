"""Mappings that outlive their descriptors, beside all other ways to change and to look at a file, through the mount.

    mappings.py DIR UNDER SEED STEPS

After each step every file, opened and read anew through the mount, and its size and times of change, must be those of the
file beneath (UNDER, the same directory not through the mount), and every mapping must show the same bytes. Prints what
differs, and ends with 1.
Python's mmap keeps a descriptor of its own, so the C library is called.
"""
import ctypes
import os
import random
import sys
import time

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
REALTIME_COARSE = 5
READ, READ_WRITE, SHARED, FAILED = 1, 3, 1, ctypes.c_void_p(-1).value
FILES, SIZE = 3, 5000


def mapped(path, writable):
    fd = os.open(path, os.O_RDWR if writable else os.O_RDONLY)
    try:
        at = libc.mmap(None, SIZE, READ_WRITE if writable else READ, SHARED, fd, 0)
        if at == FAILED:
            raise OSError(ctypes.get_errno(), "mmap")
        return at
    finally:
        os.close(fd)


def tick():
    """Lets the coarse clock, by which files get their times, go on."""
    before = time.clock_gettime_ns(REALTIME_COARSE)
    while time.clock_gettime_ns(REALTIME_COARSE) == before:
        pass


def step(rng, path, mappings, held):
    kind = rng.choice(["map", "unmap", "write", "both", "hold", "let go", "later", "later"] + ["change"] * 6)
    writable = [at for at, is_writable in mappings if is_writable]
    if kind == "later":
        tick()
    elif kind == "map":
        is_writable = rng.random() < 0.6
        mappings.append((mapped(path, is_writable), is_writable))
    elif kind == "unmap" and mappings:
        libc.munmap(mappings.pop(rng.randrange(len(mappings)))[0], SIZE)
    elif kind == "hold":
        held.append(open(path, "rb", buffering=0))
    elif kind == "let go":
        while held:
            held.pop().close()
    elif kind == "change" and writable:
        ctypes.memset(rng.choice(writable) + rng.randrange(SIZE), rng.randrange(256), 1)
    elif kind in ("write", "both"):
        fd = os.open(path, os.O_WRONLY if kind == "write" else os.O_RDWR)
        os.pwrite(fd, rng.randbytes(9), rng.randrange(SIZE - 9))
        os.close(fd)
    return kind


def seen(path):
    with open(path, "rb", buffering=0) as file:
        data = file.read()
    about = os.stat(path)
    return {"data": data, "size": about.st_size, "mtime": about.st_mtime_ns, "ctime": about.st_ctime_ns}


def main(directory, under, seed, steps):
    rng = random.Random(int(seed))
    mappings = [[] for _ in range(FILES)]
    held = [[] for _ in range(FILES)]
    for i in range(FILES):
        with open(f"{directory}/{i}", "wb") as file:
            file.write(bytes(SIZE))
    for n in range(int(steps)):
        i = rng.randrange(FILES)
        kind = step(rng, f"{directory}/{i}", mappings[i], held[i])
        for k in range(FILES):
            there, here = seen(f"{directory}/{k}"), seen(f"{under}/{k}")
            for what, value in here.items():
                if there[what] != value:
                    print(f"step {n}, {kind} of {i}: file {k} has another {what}")
                    return 1
            for at, is_writable in mappings[k]:
                if ctypes.string_at(at, SIZE) != here["data"]:
                    print(f"step {n}, {kind} of {i}: file {k} is another in a mapping, writable: {is_writable}")
                    return 1
    return 0


sys.exit(main(*sys.argv[1:]))
