"""Changes a directory in every way there is, by a seeded sequence, and stands still where it is told to.

    python3 random_changes.py DIR SEED

Reads the number of steps to make next, a line each time, and answers with a line when they are made. What it has open
and mapped stays so from one line to the next, until the end of its input.
"""
import ctypes, errno, os, random, stat, struct, sys

libc = ctypes.CDLL(None, use_errno=True)
AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
NAMES = [b'a', b'b', b'c', b'd\xff', b'e e', b'f', b'n' * 255]
ROOT = os.getuid() == 0
BITS = 0o7777 if ROOT else 0o777
SIZES = [0, 1, 511, 512, 513, 4096, 4097, 65536, 1 << 20, 2 << 20, 3 << 20]
TIMES = [1, 10**18, 1_700_000_000_123_456_789]
OPEN_FILES, MAPPINGS = 12, 6


def checked(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), '')


def acl(user):
    """user::rw- user:USER:r-- group::r-- mask::rw- other::---"""
    entries = [(1, 6, -1), (2, 4, user), (4, 4, -1), (16, 6, -1), (32, 0, -1)]
    return struct.pack('<I', 2) + b''.join(struct.pack('<HHi', *entry) for entry in entries)


class Changer:
    def __init__(self, seed):
        self.random = random.Random(seed)
        self.open = []
        self.mapped = []
        self.directories = [b'.']

    def path(self):
        return os.path.join(self.random.choice(self.directories), self.random.choice(NAMES))

    def offset(self):
        return self.random.choice(SIZES) + self.random.choice([0, 0, self.random.randrange(0, 3000)])

    def bytes(self):
        length = self.random.choice([1, 10, 4096, 5000, 70_000, 70_000, 1 << 20])
        return self.random.randbytes(length) if self.random.random() < 0.8 else bytes(length)

    def fd(self):
        if not self.open:
            raise OSError(errno.EBADF, '')
        return self.random.choice(self.open)

    def keep(self, fd):
        self.open.append(fd)
        if len(self.open) > OPEN_FILES:
            os.close(self.open.pop(self.random.randrange(len(self.open))))

    def op_mkdir(self):
        path = self.path()
        if path.count(b'/') > 4:
            return
        os.mkdir(path, self.random.choice([0o777, 0o700, 0o2775, 0o1777]) & BITS)
        self.directories.append(path)

    def op_rmdir(self):
        path = self.path()
        os.rmdir(path)

    def op_create(self):
        flags = os.O_CREAT | os.O_NONBLOCK | self.random.choice([os.O_RDWR, os.O_RDWR, os.O_WRONLY, os.O_RDONLY])
        flags |= self.random.choice([0, 0, os.O_EXCL, os.O_TRUNC, os.O_APPEND, os.O_DIRECT])
        self.keep(os.open(self.path(), flags, self.random.choice([0o666, 0o600, 0o4755]) & BITS))

    op_create_more = op_create

    def op_open(self):
        flags = self.random.choice([os.O_RDWR, os.O_RDWR, os.O_WRONLY, os.O_RDONLY]) | os.O_NONBLOCK
        self.keep(os.open(self.path(), flags | self.random.choice([0, 0, 0, os.O_TRUNC, os.O_APPEND])))

    op_open_more = op_open

    def op_close(self):
        fd = self.fd()
        os.close(fd)
        self.open.remove(fd)

    def op_put(self):
        """A whole file at once, as most programs write them."""
        how = self.random.choice([os.O_TRUNC, os.O_TRUNC, os.O_APPEND, os.O_EXCL, 0])
        fd = os.open(self.path(), os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK | how, 0o644)
        try:
            os.write(fd, self.bytes())
        finally:
            os.close(fd)

    op_put_more = op_put

    def op_pwrite(self):
        os.pwrite(self.fd(), self.bytes(), self.offset())

    op_pwrite_more = op_pwrite_again = op_pwrite

    def op_write(self):
        os.write(self.fd(), self.bytes())

    def op_map(self):
        fd = self.fd()
        size = os.fstat(fd).st_size
        if stat.S_ISREG(os.fstat(fd).st_mode) and size > 0:
            self.mapped.append(Mapping(fd, size))
        if len(self.mapped) > MAPPINGS:
            self.mapped.pop(self.random.randrange(len(self.mapped))).close()

    def op_map_and_close(self):
        """The mapping outlives every descriptor of the file."""
        fd = os.open(self.path(), os.O_RDWR | os.O_NONBLOCK)
        try:
            size = os.fstat(fd).st_size
            if size > 0:
                self.mapped.append(Mapping(fd, size))
        finally:
            os.close(fd)

    def op_write_mapped(self):
        if not self.mapped:
            return
        view = self.random.choice(self.mapped)
        piece = self.bytes()[: view.length]
        end = view.reachable()
        if end >= len(piece):
            at = self.random.randrange(end - len(piece) + 1)
            view.write(at, piece)

    op_write_mapped_more = op_write_mapped

    def op_unmap(self):
        if self.mapped:
            self.mapped.pop(self.random.randrange(len(self.mapped))).close()

    def op_copy(self):
        os.copy_file_range(self.fd(), self.fd(), self.random.choice([1, 5000, 1 << 20]), self.offset(), self.offset())

    def op_sendfile(self):
        os.sendfile(self.fd(), self.fd(), 0, self.random.choice([1, 5000, 1 << 20]))

    def op_truncate(self):
        os.truncate(self.path(), self.offset())

    def op_ftruncate(self):
        os.ftruncate(self.fd(), self.offset())

    def op_fallocate(self):
        mode = self.random.choice([0, 1, 3, 16, 17, 8, 32, 64])
        offset, length = self.offset(), 1 + self.offset()
        if mode in (8, 32):
            offset, length = offset & ~4095, (length & ~4095) or 4096
        checked(libc.fallocate(self.fd(), mode, ctypes.c_long(offset), ctypes.c_long(length)))

    def op_chmod(self):
        os.chmod(self.path(), self.random.choice([0o644, 0o755, 0o777, 0o4711, 0o6777, 0o1777, 0o2750]) & BITS)

    def op_fchmod(self):
        os.fchmod(self.fd(), self.random.choice([0o600, 0o4777, 0o2755]) & BITS)

    def op_chown(self):
        ids = [-1, 0, 1000, 55] if ROOT else [-1, os.getuid()]
        os.chown(self.path(), self.random.choice(ids), self.random.choice(ids), follow_symlinks=False)

    def op_utime(self):
        os.utime(self.path(), ns=(self.random.choice(TIMES), self.random.choice(TIMES)), follow_symlinks=False)

    op_utime_more = op_utime

    def op_futime(self):
        os.utime(self.fd(), ns=(self.random.choice(TIMES), self.random.choice(TIMES)))

    def op_setxattr(self):
        name = self.random.choice(['user.a', 'user.b'] + ['trusted.c', 'security.d'] * ROOT)
        os.setxattr(self.path(), name, self.bytes()[:1000], self.random.choice([0, 0, 1, 2]), follow_symlinks=False)

    def op_fsetxattr(self):
        os.setxattr(self.fd(), 'user.a', self.bytes()[:100])

    def op_removexattr(self):
        os.removexattr(self.path(), self.random.choice(['user.a', 'user.b', 'trusted.c']), follow_symlinks=False)

    def op_acl(self):
        name = self.random.choice(['system.posix_acl_access', 'system.posix_acl_default'])
        os.setxattr(self.path(), name, acl(self.random.choice([1000, 1001])), follow_symlinks=False)

    def op_remove_acl(self):
        name = self.random.choice(['system.posix_acl_access', 'system.posix_acl_default'])
        os.removexattr(self.path(), name, follow_symlinks=False)

    def op_rename(self):
        flags = self.random.choice([0, 0, 0, 0, 1, 2, 2, 4 if ROOT else 0])
        checked(libc.renameat2(AT_FDCWD, self.path(), AT_FDCWD, self.path(), flags))

    op_rename_more = op_rename_again = op_rename

    def op_link(self):
        os.link(self.path(), self.path(), follow_symlinks=False)

    op_link_more = op_link

    def op_link_open(self):
        checked(libc.linkat(self.fd(), b'', AT_FDCWD, self.path(), AT_EMPTY_PATH))

    def op_tmpfile(self):
        """Written without a name, and given one afterwards."""
        fd = os.open(self.random.choice(self.directories), os.O_TMPFILE | self.random.choice([os.O_RDWR, os.O_WRONLY]), 0o640)
        self.keep(fd)
        os.write(fd, self.bytes())
        if self.random.random() < 0.7:
            os.link(f'/proc/self/fd/{fd}', self.path(), follow_symlinks=True)

    def op_unlink(self):
        os.unlink(self.path())

    op_unlink_more = op_unlink

    def op_symlink(self):
        os.symlink(self.random.choice([b'a', b'b', b'b/c', b'c/d', b'x' * 300]), self.path())

    def op_make_again(self):
        """A new file, often with the number, the size and the time of the one before."""
        path = self.path()
        about = os.lstat(path)
        if stat.S_ISLNK(about.st_mode):
            os.unlink(path)
            os.symlink(self.random.choice([b'a', b'b', b'b/c', b'c/d']), path)
        elif stat.S_ISREG(about.st_mode):
            os.unlink(path)
            os.mknod(path, stat.S_IFREG | 0o644)
            os.truncate(path, about.st_size)
            if self.random.random() < 0.5:  # blocks beyond the end hide that it is one hole
                fd = os.open(path, os.O_WRONLY)
                libc.fallocate(fd, 1, ctypes.c_long(about.st_size), ctypes.c_long(about.st_size + 4096))
                os.close(fd)
        os.utime(path, ns=(1, about.st_mtime_ns), follow_symlinks=False)

    op_make_again_more = op_make_again

    def op_mknod(self):
        kinds = [stat.S_IFIFO, stat.S_IFREG, stat.S_IFSOCK] + [stat.S_IFCHR, stat.S_IFBLK] * ROOT
        os.mknod(self.path(), self.random.choice(kinds) | 0o622, os.makedev(1, self.random.choice([3, 5, 300])))

    def op_root(self):
        what = self.random.choice([0, 1, 2])
        if what == 0:
            os.chmod('.', self.random.choice([0o755, 0o711, 0o750]))
        elif what == 1:
            os.setxattr('.', 'user.root', self.random.randbytes(3))
        else:
            os.utime('.', ns=(1, self.random.choice(TIMES)))

    def op_sync(self):
        self.random.choice([os.fsync, os.fdatasync])(self.fd())

    def step(self, operations):
        try:
            getattr(self, self.random.choice(operations))()
        except OSError as error:
            if error.errno in (errno.EIO, errno.ENOTCONN, errno.EUCLEAN):
                raise


class Mapping:
    """Shared and writable. Unlike Python's own it keeps no descriptor of the file."""

    def __init__(self, fd, size):
        self.length = size
        libc.mmap.restype = ctypes.c_void_p
        libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
        self.address = libc.mmap(None, size, 3, 1, fd, 0)
        if self.address == ctypes.c_void_p(-1).value:
            raise OSError(ctypes.get_errno(), '')

    def reachable(self):
        """Beyond the end of a file that was cut, a system call gets EFAULT where the program itself would be killed."""
        here, there = os.pipe()
        try:
            for at in range(0, self.length, 4096):
                if libc.write(there, ctypes.c_void_p(self.address + at), ctypes.c_size_t(1)) != 1:
                    return at
                os.read(here, 1)
            return self.length
        finally:
            os.close(here)
            os.close(there)

    def write(self, at, piece):
        ctypes.memmove(self.address + at, piece, len(piece))

    def close(self):
        libc.munmap(ctypes.c_void_p(self.address), ctypes.c_size_t(self.length))


def main(top, seed):
    os.chdir(top)
    os.umask(0)
    changer = Changer(seed)
    operations = sorted(name for name in dir(changer) if name.startswith('op_'))
    for line in sys.stdin:
        for _ in range(int(line)):
            changer.step(operations)
        print('done', flush=True)


main(sys.argv[1], int(sys.argv[2]))
