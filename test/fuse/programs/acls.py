"""Cases about access control lists: what new files inherit, whom a list lets in, and how mode and mask go together. How
they run: casebook.py."""
import itertools, os, socket, stat, struct
from casebook import *

ACCESS, DEFAULT = 'system.posix_acl_access', 'system.posix_acl_default'
TAGS = {'owner': 1, 'user': 2, 'group of': 4, 'group': 8, 'mask': 16, 'other': 32}
NOBODY = 0xFFFFFFFF
CALLERS = [(65533, 1, []), (65534, 65534, []), (65535, 65533, []), (65535, 5, [65533]), (65535, 6, [65532, 65534])]


def acl(*entries):
    """Entries (tag, permissions) or (tag, permissions, id) in the order of TAGS. Layout: u32 version 2, then for each
    u16 tag, u16 permissions, u32 id."""
    rest = [struct.pack('<HHI', TAGS[tag], bits, id_of[0] if id_of else NOBODY) for tag, bits, *id_of in entries]
    return struct.pack('<I', 2) + b''.join(rest)


def shown(path, name=ACCESS):
    try:
        value = os.getxattr(path, name, follow_symlinks=False)
    except OSError as error:
        return errno.errorcode[error.errno]
    return [struct.unpack_from('<HHI', value, at) for at in range(4, len(value), 8)]


def unnamed(name):
    fd = os.open('d', os.O_TMPFILE | os.O_RDWR, 0o666)
    link_descriptor(fd, name)


def fill(umask):
    os.umask(umask)
    attempt(write, 'd/file', b'', 0o666)
    attempt(write, 'd/program', b'', 0o7777)
    attempt(os.mkdir, 'd/directory')
    attempt(os.mkdir, 'd/closed', 0o2750)
    attempt(os.mkfifo, 'd/fifo')
    attempt(os.mknod, 'd/node', stat.S_IFREG | 0o640)
    attempt(os.symlink, 'to', 'd/link')
    attempt(unnamed, 'd/unnamed')
    with socket.socket(socket.AF_UNIX) as made:
        attempt(made.bind, 'd/socket')


@case
def inheritance():
    os.chmod('.', 0o777)
    defaults = [
        None,
        acl(('owner', 7), ('group of', 5), ('other', 0)),
        acl(('owner', 7), ('user', 7, 65534), ('group of', 5), ('mask', 7), ('other', 4)),
        acl(('owner', 6), ('group of', 4), ('group', 2, 65533), ('mask', 4), ('other', 0)),
        acl(('owner', 0), ('user', 7, 65533), ('group of', 0), ('mask', 0), ('other', 0)),
    ]
    for default, umask, sgid in itertools.product(defaults, (0, 0o022, 0o077), (0, 0o2000)):
        for caller in ((0, 0, []), (65534, 65533, [65532])):
            os.mkdir('d')
            os.chown('d', 0, 65531)
            os.chmod('d', 0o777 | sgid)
            if default:
                os.setxattr('d', DEFAULT, default)
            as_user(*caller, lambda: fill(umask))
            for name in sorted(os.listdir('d')):
                path = f'd/{name}'
                about = os.lstat(path)
                say(name, oct(about.st_mode), about.st_uid, about.st_gid, shown(path), shown(path, DEFAULT))
                os.rmdir(path) if stat.S_ISDIR(about.st_mode) else os.unlink(path)
            os.rmdir('d')


def tries(path):
    for flags in (os.O_RDONLY, os.O_WRONLY):
        attempt(os.open, path, flags | os.O_NONBLOCK)
    attempt(os.access, path, os.X_OK)


def enters(path):
    for what in (os.listdir, lambda p: os.stat(p + '/in').st_mode, lambda p: write(p + '/new'), lambda p: os.unlink(p + '/new')):
        try:
            say(what(path))
        except OSError as error:
            say(errno.errorcode[error.errno])


@case
def who_is_let_in():
    os.chmod('.', 0o755)
    lists = [
        [('user', 7, 65534)],
        [('user', 0, 65534), ('group', 7, 65534)],
        [('user', 3, 65533), ('user', 1, 65534)],
        [('group', 4, 65532), ('group', 2, 65534)],
        [('group', 0, 65533)],
    ]
    places = []
    for named, owning, mask, other in itertools.product(lists, (0, 5), (7, 1), (0, 7)):
        users = [entry for entry in named if entry[0] == 'user']
        groups = [entry for entry in named if entry[0] == 'group']
        value = acl(('owner', 6), *users, ('group of', owning), *groups, ('mask', mask), ('other', other))
        file, directory = f'f{len(places)}', f'd{len(places)}'
        write(file)
        os.mkdir(directory)
        write(f'{directory}/in')
        for path in (file, directory):
            os.chown(path, 65533, 65533)
            os.setxattr(path, ACCESS, value)
            say(mode(path))
        places.append((file, directory))

    def all_of_them():
        for file, directory in places:
            tries(file)
            enters(directory)

    for caller in CALLERS:
        as_user(*caller, all_of_them)


@case
def mode_and_mask():
    write('f')
    named = acl(('owner', 6), ('user', 7, 65534), ('group of', 5), ('mask', 7), ('other', 1))
    os.setxattr('f', ACCESS, named)
    for bits in (0o600, 0o777, 0o070, 0o4711):
        os.chmod('f', bits)
        say(mode('f'), shown('f'))
    os.setxattr('f', ACCESS, acl(('owner', 4), ('group of', 2), ('other', 1)))
    equal((mode('f'), shown('f')), ('0o4421', 'ENODATA'))
    for wrong in (b'', b'\2\0\0\0', b'\3\0\0\0', named[:-1], acl(('user', 7, 1)), acl(('owner', 8), ('group of', 0), ('other', 0))):
        attempt(os.setxattr, 'f', ACCESS, wrong)
        say(mode('f'), shown('f'))
    attempt(os.setxattr, 'f', DEFAULT, named)
    os.symlink('f', 's')
    attempt(lambda: os.setxattr('s', ACCESS, named, follow_symlinks=False))
    os.chmod('.', 0o755)
    as_user(65534, 65534, [], lambda: fails('EPERM', os.setxattr, 'f', ACCESS, named))
    for owner, caller in itertools.product(((65534, 65534), (65534, 65533)), ((65534, 65534, []), (65533, 65534, []))):
        os.chown('f', *owner)
        os.chmod('f', 0o6775)
        as_user(*caller, lambda: attempt(os.setxattr, 'f', ACCESS, named))
        say(owner, caller, mode('f'))
        as_user(*caller, lambda: attempt(os.removexattr, 'f', ACCESS))
        say(mode('f'), shown('f'))


main()
