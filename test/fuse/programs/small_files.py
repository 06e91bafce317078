"""Small files read, written, truncated and made anew by several processes at once, through the mount.

    small_files.py DIR UNDER SEED ROUNDS

In each round the files are first made such that the kernel is given their bytes when they are opened; then all workers read
them, and change each now and then. Byte i of each file is only ever pattern(i), or 0 where a file was made longer. After each round, with nobody at work, every
file read through the mount must be what lies beneath (UNDER, the same directory not through the mount), each time it is
read. Prints what differs, and ends with 1.
"""
import mmap
import multiprocessing
import os
import random
import sys
import threading

WORKERS, FILES, STEPS, LONGEST = 4, 3, 12, 20000
READING = ["read"] * 9 + ["hold", "mapped"] + ["let go"] * 5
CHANGING = ["cut"] * 3 + ["write", "both", "anew", "over"]
PATTERN = bytes(1 + (i * 7 + i // 251) % 255 for i in range(LONGEST))


def read_all(path):
    fd = os.open(path, os.O_RDONLY)
    try:
        parts = []
        while part := os.read(fd, 1 << 16):
            parts.append(part)
        return b"".join(parts)
    finally:
        os.close(fd)


def check(data, what):
    if len(data) > LONGEST:
        raise SystemExit(f"{what}: {len(data)} bytes")
    for i, byte in enumerate(data):
        if byte not in (0, PATTERN[i]):
            raise SystemExit(f"{what}: byte {i} is {byte}, not {PATTERN[i]}")


def put(fd, rng):
    at = rng.randrange(LONGEST - 1)
    os.pwrite(fd, PATTERN[at : at + rng.randrange(1, 6000)], at)


def settle(directory):
    """Reads the files at a later time than they were changed, as the file system's coarse clock has it."""
    clock = f"{directory}/clock"
    for i in range(FILES):
        put_all(f"{directory}/{i}", PATTERN[:9000])
    put_all(clock, b"")
    before = os.stat(clock).st_ctime_ns
    while os.stat(clock).st_ctime_ns == before:
        put_all(clock, b"")
    for i in range(FILES):
        read_all(f"{directory}/{i}")


def put_all(path, data):
    with open(path, "wb") as file:
        file.write(data)


def step(kind, rng, path, held):
    if kind == "read":
        check(read_all(path), path)
    elif kind == "hold":
        held.append(open(path, "rb"))
    elif kind == "let go":
        while held:
            held.pop().close()
    elif kind == "mapped":
        fd = os.open(path, os.O_RDONLY)
        try:
            held.append(mmap.mmap(fd, 1, prot=mmap.PROT_READ))
        except ValueError:
            pass  # the file is empty now
        os.close(fd)
    elif kind == "cut":
        os.truncate(path, rng.randrange(LONGEST))
    elif kind == "over":
        put_all(f"{path}.{os.getpid()}", PATTERN[: rng.randrange(LONGEST)])
        os.rename(f"{path}.{os.getpid()}", path)
    else:
        flags = {"write": os.O_WRONLY, "both": os.O_RDWR, "anew": os.O_WRONLY | os.O_TRUNC}[kind]
        fd = os.open(path, flags)
        put(fd, rng)
        os.close(fd)


def work(number, directory, under, seed, rounds, barrier):
    try:
        take_part(number, directory, under, seed, rounds, barrier)
    except threading.BrokenBarrierError:
        sys.exit(1)  # another has said why
    except BaseException:
        barrier.abort()  # the others must not wait for this one
        raise


def take_part(number, directory, under, seed, rounds, barrier):
    rng = random.Random(seed * 1000 + number)
    held = []
    for turn in range(rounds):
        if number == 0:
            settle(directory)
        barrier.wait()
        for nth in range(STEPS):
            likely = 0.3 if nth < 3 else 0.05  # the bytes are given at the first opening
            kind = rng.choice(CHANGING if rng.random() < likely else READING)
            step(kind, rng, f"{directory}/{rng.randrange(FILES)}", held)
        while held:
            held.pop().close()
        barrier.wait()
        if number == 0:
            for i in range(FILES):
                beneath = read_all(f"{under}/{i}")
                size = os.stat(f"{directory}/{i}").st_size
                if size != len(beneath):
                    print(f"round {turn}, file {i}: size {size}, not {len(beneath)}")
                    sys.exit(1)
                for again in range(4):
                    seen = read_all(f"{directory}/{i}")
                    size = os.stat(f"{directory}/{i}").st_size
                    if seen != beneath or size != len(beneath):
                        print(f"round {turn}, file {i}, reading {again}: {len(seen)} bytes (size {size}), not {len(beneath)}")
                        sys.exit(1)
        barrier.wait()


def main():
    directory, under = sys.argv[1:3]
    seed, rounds = map(int, sys.argv[3:])
    barrier = multiprocessing.Barrier(WORKERS)
    workers = [
        multiprocessing.Process(target=work, args=(i, directory, under, seed, rounds, barrier)) for i in range(WORKERS)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    sys.exit(any(worker.exitcode != 0 for worker in workers))


main()
