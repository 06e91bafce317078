"""Performs a seeded sequence of file-system operations in a directory and prints, a line each, what came of them; then
the tree as it stands. Two directories of the same kind must give the same lines for the same seed.

    python3 random_operations.py DIR SEED COUNT
"""
import ctypes, errno, hashlib, mmap, os, random, stat, sys

libc = ctypes.CDLL(None, use_errno=True)
AT_FDCWD = -100
NAMES = [b'a', b'b', b'c', b'd\xff', b'e e', b'n' * 255]
USERS = [0, 0, 0, 1000, 1001]
LONG_AGO = 10**18  # set times lie before it; times that operations give lie after


class Exerciser:
    def __init__(self, seed):
        self.random = random.Random(seed)
        self.open = []
        self.directories = [b'.']

    def path(self):
        return os.path.join(self.random.choice(self.directories[:8]), self.random.choice(NAMES))

    def offset(self):
        return self.random.choice([0, 1, 511, 4096, 4097, 65536, 1 << 20]) + self.random.randrange(0, 3000)

    def bytes(self):
        return self.random.randbytes(self.random.choice([1, 10, 4096, 5000, 70000]))

    def fd(self):
        if not self.open:
            raise OSError(errno.EBADF, '')
        return self.random.choice(self.open)

    # Each operation returns what is worth comparing.

    def op_mkdir(self):
        path = self.path()
        os.mkdir(path, self.random.choice([0o777, 0o700, 0o2775, 0o1777]))
        self.directories.insert(self.random.randrange(len(self.directories) + 1), path)

    def op_rmdir(self):
        path = self.path()
        os.rmdir(path)
        if path in self.directories:
            self.directories.remove(path)

    def op_create(self):
        flags = os.O_CREAT | os.O_NONBLOCK | self.random.choice([os.O_RDWR, os.O_WRONLY, os.O_RDONLY])
        flags |= self.random.choice([0, 0, os.O_EXCL, os.O_TRUNC, os.O_APPEND, os.O_NOFOLLOW])
        fd = os.open(self.path(), flags, self.random.choice([0o666, 0o600, 0o4755, 0o2755, 0o444]))
        self.open.append(fd)

    def op_open(self):
        flags = self.random.choice([os.O_RDWR, os.O_WRONLY, os.O_RDONLY, os.O_RDONLY | os.O_DIRECTORY, os.O_PATH])
        flags |= self.random.choice([0, 0, 0, os.O_TRUNC, os.O_APPEND, os.O_NOFOLLOW])
        self.open.append(os.open(self.path(), flags | os.O_NONBLOCK))

    def op_tmpfile(self):
        self.open.append(os.open(self.random.choice(self.directories), os.O_TMPFILE | os.O_RDWR, 0o640))

    def op_close(self):
        fd = self.fd()
        os.close(fd)
        self.open.remove(fd)

    def op_write(self):
        return os.pwrite(self.fd(), self.bytes(), self.offset())

    op_write_more = op_write

    def op_append(self):
        return os.write(self.fd(), self.bytes())

    def op_read(self):
        return hashlib.md5(os.pread(self.fd(), 100_000, self.offset())).hexdigest()

    op_read_more = op_read

    def op_map(self):
        fd = self.fd()
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return 'not a file'
        size = os.fstat(fd).st_size
        if size == 0:
            return 'empty'
        with mmap.mmap(fd, size) as view:
            at = self.random.randrange(size)
            piece = self.bytes()[:size - at]
            view[at:at + len(piece)] = piece
        return hashlib.md5(os.pread(fd, 1 << 22, 0)).hexdigest()

    def op_truncate(self):
        os.truncate(self.path(), self.offset())

    def op_ftruncate(self):
        os.ftruncate(self.fd(), self.offset())

    def op_fallocate(self):
        mode = self.random.choice([0, 1, 3, 16, 17])
        if libc.fallocate(self.fd(), mode, ctypes.c_long(self.offset()), ctypes.c_long(1 + self.offset())) != 0:
            raise OSError(ctypes.get_errno(), '')

    def op_seek(self):
        # Where the holes of a file are is up to the cache and the file system; that nothing but zeros is in them is not.
        fd, at = self.fd(), self.offset()
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return 'not a file'
        try:
            data = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            data = os.fstat(fd).st_size
        return data < at or not any(os.pread(fd, data - at, at))

    def op_copy_range(self):
        return os.copy_file_range(self.fd(), self.fd(), self.offset(), self.offset(), self.offset())

    def op_sync(self):
        self.random.choice([os.fsync, os.fdatasync])(self.fd())

    def op_rename(self):
        old, new = self.path(), self.path()
        flags = self.random.choice([0, 0, 0, 1, 2, 2])
        if libc.renameat2(AT_FDCWD, old, AT_FDCWD, new, flags) != 0:
            raise OSError(ctypes.get_errno(), '')

    op_rename_more = op_rename

    def op_link(self):
        os.link(self.path(), self.path(), follow_symlinks=False)

    def op_symlink(self):
        os.symlink(self.random.choice([b'a', b'b/c', b'/proc/none', b'x' * 300]), self.path())

    def op_unlink(self):
        os.unlink(self.path())

    op_unlink_more = op_unlink

    def op_fifo(self):
        os.mkfifo(self.path(), 0o622)

    def op_chmod(self):
        os.chmod(self.path(), self.random.choice([0, 0o644, 0o755, 0o777, 0o4711, 0o6777, 0o1777, 0o2750]))

    def op_fchmod(self):
        os.fchmod(self.fd(), self.random.choice([0o600, 0o4777, 0o2755]))

    def op_chown(self):
        owner = self.random.choice([(-1, -1), (-1, 0), (-1, 1000), (-1, 55), (0, -1), (0, 55), (1000, -1), (1000, 1000)])
        os.chown(self.path(), *owner, follow_symlinks=False)

    def op_utime(self):
        ns = (self.random.randrange(LONG_AGO), self.random.randrange(LONG_AGO))
        os.utime(self.path(), ns=ns, follow_symlinks=False)

    def op_futime(self):
        os.utime(self.fd(), ns=(self.random.randrange(LONG_AGO), self.random.randrange(LONG_AGO)))

    def op_setxattr(self):
        name = self.random.choice(['user.a', 'user.b', 'trusted.c'])
        os.setxattr(self.path(), name, self.bytes()[:1000], self.random.choice([0, 0, 1, 2]), follow_symlinks=False)

    def op_removexattr(self):
        os.removexattr(self.path(), self.random.choice(['user.a', 'user.b', 'trusted.c']), follow_symlinks=False)

    def op_listxattr(self):
        return sorted(os.listxattr(self.path(), follow_symlinks=False))

    def op_list(self):
        return sorted(os.listdir(self.random.choice(self.directories)))

    def op_stat(self):
        return facts(os.lstat(self.path()))

    def op_fstat(self):
        return facts(os.fstat(self.fd()))

    def op_readlink(self):
        return os.readlink(self.path())

    def op_access(self):
        return os.access(self.path(), self.random.choice([os.R_OK, os.W_OK, os.X_OK]), effective_ids=True)

    def step(self, number):
        operations = [name for name in dir(self) if name.startswith('op_')]
        name = self.random.choice(operations)
        user = self.random.choice(USERS) if os.getuid() == 0 else os.getuid()
        os.setegid(user)
        os.seteuid(user)
        try:
            result = getattr(self, name)()
        except OSError as error:
            result = errno.errorcode.get(error.errno, error.errno)
        finally:
            os.seteuid(os.getuid())
            os.setegid(os.getgid())
        print(number, name, user, result)


def facts(about):
    # Bytes through a fifo change its times on some systems of files, and not on others.
    fifo = stat.S_ISFIFO(about.st_mode)
    mtime = None if fifo else about.st_mtime_ns if about.st_mtime_ns < LONG_AGO else 'now'
    size = 0 if stat.S_ISDIR(about.st_mode) else about.st_size
    return oct(about.st_mode), about.st_nlink, about.st_uid, about.st_gid, size, mtime


def described(path, first):
    about = os.lstat(path)
    same_as = first.setdefault(about.st_ino, path)
    content = None
    if stat.S_ISREG(about.st_mode):
        with open(path, 'rb') as file:
            content = hashlib.md5(file.read()).hexdigest()
    elif stat.S_ISLNK(about.st_mode):
        content = os.readlink(path)
    names = sorted(os.listxattr(path, follow_symlinks=False))
    xattrs = [(name, os.getxattr(path, name, follow_symlinks=False)) for name in names]
    return facts(about), same_as, content, hashlib.md5(repr(xattrs).encode()).hexdigest()


def tree(top):
    first = {}
    for where, directories, files in os.walk(top):
        directories.sort()
        for name in sorted(directories + files):
            path = os.path.join(where, name)
            try:
                print(path, *described(path, first))
            except OSError as error:
                print(path, errno.errorcode.get(error.errno, error.errno))


def main(top, seed, count):
    if os.getuid() == 0:
        os.setgroups([])
    os.chdir(top)
    os.chmod('.', 0o777)
    os.umask(seed & 0o77)
    exerciser = Exerciser(seed)
    for number in range(count):
        exerciser.step(number)
    for fd in exerciser.open:
        os.close(fd)
    tree(b'.')


main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
