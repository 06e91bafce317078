"""exchange_race.py MOUNT UNDER OUTSIDE ROUNDS

Two processes exchange a directory with a symbolic link to OUTSIDE, one through the mount, one beneath it (UNDER), while
three work below that directory. These refuse symbolic links at every step, so that nothing of theirs is resolved outside
by the kernel: whatever they reach or change there, the server reached for them. Each works until ROUNDS of its operations
succeeded. Prints how many; fails when one ended outside.
"""
import ctypes, os, random, sys

mount, under, outside, rounds = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
libc = ctypes.CDLL(None, use_errno=True)
SYS_openat2, SYS_renameat2, EXCHANGE = 437, 316, 2
if os.uname().machine != 'x86_64':
    SYS_renameat2 = 276
NO_SYMLINKS, BENEATH = 0x04, 0x08
limit = 1_000_000  # attempts of each


class How(ctypes.Structure):
    _fields_ = [('flags', ctypes.c_uint64), ('mode', ctypes.c_uint64), ('resolve', ctypes.c_uint64)]


def openat2(directory, path, flags, mode=0):
    how = How(flags | os.O_CLOEXEC, mode, NO_SYMLINKS | BENEATH)
    fd = libc.syscall(SYS_openat2, directory, path.encode(), ctypes.byref(how), ctypes.sizeof(how))
    if fd < 0:
        raise OSError(ctypes.get_errno(), path)
    return fd


def exchange(where, a, b):
    libc.syscall(SYS_renameat2, -100, os.fsencode(f'{where}/{a}'), -100, os.fsencode(f'{where}/{b}'), EXCHANGE)


canaries = {os.lstat(outside).st_ino}
for path, directories, files in os.walk(outside):
    canaries.update(os.lstat(os.path.join(path, name)).st_ino for name in directories + files)


def check(fd):
    if os.fstat(fd).st_ino in canaries:
        print('reached outside', file=sys.stderr)
        os._exit(3)


def work(number):
    """One round after the other; every operation may fail, none may end outside."""
    rng, done = random.Random(number), 0
    root = os.open(mount, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(limit):
        if done == rounds:
            break
        top = rng.choice('ds')  # either may be the directory now
        name = rng.choice(['canary', 'sub/canary', f'own{number}'])
        try:
            what = rng.randrange(7)
            if what == 0:
                fd = openat2(root, f'{top}/{name}', os.O_RDONLY)
                check(fd)
                os.read(fd, 10)
            elif what == 1:
                fd = openat2(root, f'{top}/{name}', os.O_RDWR | os.O_CREAT, 0o600)
                check(fd)
                os.write(fd, b'changed')
                os.fchmod(fd, rng.choice([0o600, 0o640]))
            elif what == 2:
                fd = openat2(root, f'{top}/{name}', os.O_WRONLY | os.O_TRUNC)
                check(fd)
            else:
                fd = openat2(root, rng.choice([top, top + '/sub']), os.O_PATH | os.O_DIRECTORY)
                check(fd)
                at = rng.choice(['canary', f'own{number}', f'new{number}'])
                if what == 3:
                    os.unlink(at, dir_fd=fd)
                elif what == 4:
                    os.mkdir(at + '.d', dir_fd=fd)
                    os.rmdir(at + '.d', dir_fd=fd)
                elif what == 5:
                    os.rename(at, at + '.r', src_dir_fd=fd, dst_dir_fd=fd)
                else:
                    os.chown(at, 1000, 1000, dir_fd=fd, follow_symlinks=False)
                    os.utime(at, (1, 1), dir_fd=fd, follow_symlinks=False)
            os.close(fd)
            done += 1
        except OSError:
            pass
    os.write(results, b'%d\n' % done)


def swap(where):
    while not os.path.exists(stop):
        # Both ways: the kernel asks anew about the second name only, and may take both for links by now.
        exchange(where, 'd', 's')
        exchange(where, 's', 'd')
        exchange(where, 'd', 's')


source, results = os.pipe()
stop = os.path.join(mount, 'stop')
workers, swappers = [], []
for number in range(5):
    pid = os.fork()
    if pid == 0:
        swap(mount if number == 3 else under) if number > 2 else work(number)
        os._exit(0)
    (swappers if number > 2 else workers).append(pid)
status = [os.waitpid(pid, 0)[1] for pid in workers]
os.close(os.open(stop, os.O_CREAT | os.O_WRONLY))
status += [os.waitpid(pid, 0)[1] for pid in swappers]
os.close(results)
print(sum(int(line) for line in os.fdopen(source).read().split()))
sys.exit(max(status) != 0)
