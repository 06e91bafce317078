"""Every operation on every kind of file, as every kind of caller: what came of it, and how the files and directories
concerned look afterwards. Two directories of one kind of file system must give the same lines.

    python3 callers.py DIR
"""
import ctypes, errno, itertools, os, socket, stat, sys

libc = ctypes.CDLL(None, use_errno=True)
AT_FDCWD = -100
NOW, OMIT = (1 << 30) - 1, (1 << 30) - 2
LONG_AGO = 10**18  # set times lie before it; times that operations give lie after

# uid, gid, supplementary groups
ROOT = (0, 0, [])
OWNER = (65534, 65534, [])
STRANGER = (65533, 65533, [])
MEMBER = (65533, 65534, [65532])
JOINED = (65535, 65535, [65534])
CALLERS = [ROOT, OWNER, STRANGER, MEMBER, JOINED]
KINDS = ['file', 'directory', 'fifo', 'char', 'block', 'socket', 'symlink']


def untold(mode, caller):
    """A set-group-id bit without group execution survives a write by a member of the group. The kernel tells the server
    of a mount only the caller's own group, not the supplementary ones, so such a member loses the bit there."""
    return mode == 0o2766 and caller is JOINED


def name_of(code):
    return errno.errorcode.get(code, str(code))


def call(result):
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def make(kind, path, mode=0o644, owner=(65534, 65534)):
    if kind in ('file', 'full'):
        if kind == 'full':
            os.mkdir(path)
        fd = os.open(path + '/x' if kind == 'full' else path, os.O_CREAT | os.O_WRONLY, 0o600)
        os.write(fd, b'hello')
        os.close(fd)
    elif kind == 'directory':
        os.mkdir(path)
    elif kind == 'fifo':
        os.mkfifo(path)
    elif kind in ('char', 'block'):
        os.mknod(path, (stat.S_IFCHR if kind == 'char' else stat.S_IFBLK) | 0o600, os.makedev(1, 2))
    elif kind == 'socket':
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path)
    elif kind == 'symlink':
        os.symlink('target', path)
    elif kind == 'nothing':
        return
    os.lchown(path, *owner)
    if kind != 'symlink':
        os.chmod(path, mode)
    os.utime(path, ns=(1001, 1002), follow_symlinks=False)


def clear(path):
    about = os.lstat(path)
    if not stat.S_ISDIR(about.st_mode):
        return os.unlink(path)
    os.chmod(path, 0o700)
    for name in os.listdir(path):
        clear(os.path.join(path, name))
    os.rmdir(path)


def looks(path):
    try:
        about = os.lstat(path)
    except OSError as error:
        return name_of(error.errno)
    size = None if stat.S_ISDIR(about.st_mode) else about.st_size
    times = [ns if ns < LONG_AGO else 'now' for ns in (about.st_atime_ns, about.st_mtime_ns)]
    return oct(about.st_mode), about.st_nlink, about.st_uid, about.st_gid, size, about.st_rdev, *times


def told(what, operate, caller, paths):
    uid, gid, groups = caller
    os.setgroups(groups)
    os.setegid(gid)
    os.seteuid(uid)
    try:
        result = operate()
    except OSError as error:
        result = name_of(error.errno)
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups([])
    print(*what, caller, result, *map(looks, paths))


def opened(path, flags):
    os.close(os.open(path, flags | os.O_NONBLOCK, 0o644))


def written(path, flags=0):
    fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK | flags)
    try:
        os.write(fd, b'w')
    finally:
        os.close(fd)


def allocated(path, how):
    fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    try:
        call(libc.fallocate(fd, how, ctypes.c_long(0), ctypes.c_long(100)))
    finally:
        os.close(fd)


def timed(path, atime, mtime):
    call(libc.utimensat(AT_FDCWD, path.encode(), (ctypes.c_long * 4)(*atime, *mtime), 0x100))


def renamed(old, new, flags):
    call(libc.renameat2(AT_FDCWD, old.encode(), AT_FDCWD, new.encode(), flags))


def listed(path):
    return sorted(os.listdir(path))


def access(path, wanted):
    return os.access(path, wanted, effective_ids=True)


ATTRIBUTES = {
    'chmod': lambda p: os.chmod(p, 0o111),
    'chmod +st': lambda p: os.chmod(p, 0o7777),
    'chmod g+s': lambda p: os.chmod(p, 0o2755),
    'chown to others': lambda p: os.lchown(p, 65533, 65533),
    'chown uid': lambda p: os.lchown(p, 65533, -1),
    'chown to the same': lambda p: os.lchown(p, 65534, 65534),
    'chown to a group': lambda p: os.lchown(p, -1, 65532),
    'chown to nobody': lambda p: os.lchown(p, -1, -1),
    'truncate 0': lambda p: os.truncate(p, 0),
    'truncate 9': lambda p: os.truncate(p, 9),
    'truncate -1': lambda p: os.truncate(p, -1),
    'utimensat': lambda p: timed(p, (5, 6), (7, 8)),
    'utimensat now': lambda p: timed(p, (0, NOW), (0, NOW)),
    'utimensat now, omit': lambda p: timed(p, (0, NOW), (0, OMIT)),
    'utimensat omit': lambda p: timed(p, (0, OMIT), (0, OMIT)),
    'utimensat wrong': lambda p: timed(p, (0, 1_000_000_000), (0, -1)),
    'user xattr': lambda p: os.setxattr(p, 'user.a', b'1', follow_symlinks=False),
    'trusted xattr': lambda p: os.setxattr(p, 'trusted.a', b'1', follow_symlinks=False),
    'security xattr': lambda p: os.setxattr(p, 'security.a', b'1', follow_symlinks=False),
    'no xattr': lambda p: os.getxattr(p, 'user.none', follow_symlinks=False),
    'may read': lambda p: access(p, os.R_OK),
    'may write': lambda p: access(p, os.W_OK),
    'may execute': lambda p: access(p, os.X_OK),
}

DATA = {
    'fallocate': lambda p: allocated(p, 0),
    'punch': lambda p: allocated(p, 3),
    'write': written,
    'append': lambda p: written(p, os.O_APPEND),
}

OPENS = {
    'read': os.O_RDONLY,
    'write': os.O_WRONLY,
    'read, write': os.O_RDWR,
    'truncate': os.O_WRONLY | os.O_TRUNC,
    'read, truncate': os.O_RDONLY | os.O_TRUNC,
    'create': os.O_RDWR | os.O_CREAT,
    'exclusive': os.O_RDONLY | os.O_CREAT | os.O_EXCL,
    'no follow': os.O_RDONLY | os.O_NOFOLLOW,
    'directory': os.O_RDONLY | os.O_DIRECTORY,
    'no atime': os.O_RDONLY | os.O_NOATIME,
    'unnamed': os.O_TMPFILE | os.O_RDWR,
    'all modes': 3,
}

NAMES = {
    'unlink': os.unlink,
    'rmdir': os.rmdir,
    'list': listed,
    'readlink': os.readlink,
    'link': lambda p: os.link(p, p + '.new', follow_symlinks=False),
    'rename': lambda p: os.rename(p, p + '.new'),
    'mkdir over': os.mkdir,
    'mkfifo over': os.mkfifo,
    'symlink over': lambda p: os.symlink('to', p),
    'mkdir below': lambda p: os.mkdir(p + '/below', 0o6777),
    'create below': lambda p: opened(p + '/below', os.O_CREAT | os.O_WRONLY),
    'symlink below': lambda p: os.symlink('to', p + '/below'),
    'mkdir with a slash': lambda p: os.mkdir(p + '.new/'),
    'create with a slash': lambda p: opened(p + '.new/', os.O_CREAT | os.O_WRONLY),
    'unlink with a slash': lambda p: os.unlink(p + '/'),
    'rename to a slash': lambda p: os.rename(p, p + '.new/'),
    'rmdir .': lambda p: os.rmdir(p + '/.'),
    'rmdir ..': lambda p: os.rmdir(p + '/..'),
    'stat below': lambda p: os.stat(p + '/below').st_mode,
}


def one_file():
    def tell(names, kind, mode, parent_mode):
        for (name, operate), caller in itertools.product(names.items(), CALLERS):
            if untold(mode, caller):
                continue
            os.mkdir('d')
            os.chown('d', 65533, 65533)
            make(kind, 'd/f', mode)
            if kind == 'symlink':
                make('file', 'd/target', mode)
            os.chmod('d', parent_mode)
            os.utime('d', ns=(1003, 1004))
            paths = ['d', 'd/f', 'd/f.new', 'd/f/below', 'd/target']
            told([kind, oct(mode), oct(parent_mode), name], lambda: operate('d/f'), caller, paths)
            clear('d')

    opens = {f'open to {name}': (lambda p, flags=flags: opened(p, flags)) for name, flags in OPENS.items()} | DATA
    for kind in KINDS:
        for mode in (0o644, 0o6777, 0o2766) if kind in ('file', 'directory') else (0o664,):
            tell(ATTRIBUTES, kind, mode, 0o777)
            # The mount gives no access to devices, the bare directory may.
            if kind not in ('char', 'block'):
                tell(opens, kind, mode, 0o777)
        for parent_mode in (0o777, 0o1777, 0o766, 0o733) if kind in ('file', 'directory') else (0o1777,):
            tell(NAMES, kind, 0o755, parent_mode)


MOVES = {
    'rename': lambda a, b: renamed(a, b, 0),
    'no replace': lambda a, b: renamed(a, b, 1),
    'exchange': lambda a, b: renamed(a, b, 2),
    'wrong flags': lambda a, b: renamed(a, b, 3),
    'whiteout': lambda a, b: renamed(a, b, 4),
    'link': lambda a, b: os.link(a, b, follow_symlinks=False),
}
WORLDS = (0o777, (65533, 65533))
GROUPS = (0o2775, (65533, 65532))
STICKY = [(0o1777, (65533, 65533)), (0o1777, (65534, 65534)), (0o1777, (0, 0))]


def two_files():
    def tell(name, kinds, dirs, owners, caller):
        other = 'a' if dirs[1] is None else 'b'
        os.mkdir('a')
        os.mkdir('b')
        make(kinds[0], 'a/f', 0o755, owners[0])
        make(kinds[1], f'{other}/g', 0o755, owners[1])
        for path, looks_like in zip('ab', dirs):
            if looks_like:
                os.chown(path, *looks_like[1])
                os.chmod(path, looks_like[0])
            os.utime(path, ns=(1003, 1004))
        paths = ['a', 'b', 'a/f', f'{other}/g', 'a/f/x', f'{other}/g/x']
        told([name, kinds, dirs, owners], lambda: MOVES[name]('a/f', f'{other}/g'), caller, paths)
        clear('a')
        clear('b')

    mine, others = (65534, 65534), (65533, 65533)
    kinds = ['file', 'directory', 'full', 'symlink', 'fifo']
    for name, old, new in itertools.product(MOVES, kinds, kinds + ['nothing']):
        for dirs in ((WORLDS, None), (WORLDS, WORLDS), (GROUPS, WORLDS)):
            tell(name, (old, new), dirs, (mine, mine), OWNER)
    sticky = [('rename', 'file'), ('rename', 'directory'), ('exchange', 'file'), ('link', 'file')]
    for name, both in ((name, (kind, kind)) for name, kind in sticky):
        for dirs in itertools.product([WORLDS, GROUPS, *STICKY], [None, GROUPS, *STICKY]):
            for owners in itertools.product((mine, others), repeat=2):
                tell(name, both, dirs, owners, OWNER)
                tell(name, both, dirs, owners, STRANGER)


def written_while_open():
    for mode, owner, caller in itertools.product((0o4777, 0o2777, 0o2766), ((65534, 65534), (65533, 65534)), CALLERS):
        for name in ('write', 'chown to nobody', 'truncate 0', 'punch'):
            make('file', 'f', mode, owner)
            other = os.open('f', os.O_RDWR)
            if not untold(mode, caller):
                told([oct(mode), owner, name, 'while open'], lambda: (ATTRIBUTES | DATA)[name]('f'), caller, ['f'])
            os.close(other)
            os.unlink('f')


os.umask(0)
os.chdir(sys.argv[1])
os.chmod('.', 0o777)
one_file()
two_files()
written_while_open()
