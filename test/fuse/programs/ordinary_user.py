"""What an ordinary user may do with files of all kinds of owners and modes. Prints a line for each step.

Usage: ordinary_user.py DIR GROUP; DIR holds what the test laid there as root; GROUP is one the user is a member of.
"""
import errno
import os
import stat
import sys

os.chdir(sys.argv[1])
group = int(sys.argv[2])
os.umask(0o022)


def step(name, call):
    try:
        result = call()
    except OSError as error:
        result = errno.errorcode[error.errno]
    print(name, result, flush=True)


def facts(path):
    about = os.lstat(path)
    return f'{stat.filemode(about.st_mode)} {about.st_uid} {about.st_gid} {about.st_size} {about.st_nlink}'


def content(path, flags, data=None):
    fd = os.open(path, flags)
    try:
        return os.read(fd, 100) if data is None else os.write(fd, data)
    finally:
        os.close(fd)


# Files of root's in a directory of the user's, and in one of root's.
for where in ('own', 'roots', 'sticky'):
    for name in ('open', 'closed', 'link', 'dir'):
        path = f'{where}/{name}'
        step(f'{path} stat', lambda: facts(path))
        step(f'{path} read', lambda: content(path, os.O_RDONLY))
        step(f'{path} write', lambda: content(path, os.O_WRONLY, b'!'))
        step(f'{path} both', lambda: content(path, os.O_RDWR, b'!'))
        step(f'{path} truncate', lambda: os.truncate(path, 1))
        step(f'{path} chmod', lambda: os.chmod(path, 0o777))
        step(f'{path} chown', lambda: os.chown(path, os.getuid(), -1))
        step(f'{path} utime', lambda: os.utime(path))
        step(f'{path} utime set', lambda: os.utime(path, (1, 1)))
        step(f'{path} setxattr', lambda: os.setxattr(path, 'user.a', b'b'))
        step(f'{path} link', lambda: os.link(path, f'{where}/linked', follow_symlinks=False))
        step(f'{path} rename', lambda: os.rename(path, f'{path}.moved'))
        step(f'{path} unlink', lambda: os.unlink(f'{path}.moved'))
        step(f'{path} rmdir', lambda: os.rmdir(f'{path}.moved'))
        step(f'{path} list', lambda: sorted(os.listdir(f'{path}')))
        step(f'{path} inside', lambda: content(f'{path}/inside', os.O_RDONLY))

# Modes that shut out the owner.
for mode in (0, 0o200, 0o400, 0o444, 0o077):
    path = f'own/mode{mode:o}'
    held = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)
    step(f'{path} held write', lambda: os.write(held, b'held'))
    step(f'{path} stat', lambda: facts(path))
    step(f'{path} read', lambda: content(path, os.O_RDONLY))
    step(f'{path} write', lambda: content(path, os.O_WRONLY, b'!'))
    step(f'{path} held read', lambda: os.pread(held, 9, 0))
    step(f'{path} held truncate', lambda: os.ftruncate(held, 2))
    step(f'{path} held utime', lambda: os.utime(held, (1, 1)))
    step(f'{path} getxattr', lambda: os.getxattr(path, 'user.a'))
    step(f'{path} setxattr', lambda: os.setxattr(path, 'user.a', b'b'))
    step(f'{path} truncate', lambda: os.truncate(path, 1))
    step(f'{path} chmod', lambda: os.chmod(path, 0o600))
    step(f'{path} after', lambda: content(path, os.O_RDONLY))
    os.close(held)

for mode in (0, 0o100, 0o200, 0o400, 0o500, 0o600):
    path = f'own/dir{mode:o}'
    os.mkdir(path)
    content(f'{path}/f', os.O_WRONLY | os.O_CREAT, b'text')
    held = os.open(f'{path}/f', os.O_RDWR)
    opened, again = os.open(path, os.O_RDONLY), os.scandir(path)
    os.chmod(path, mode)
    step(f'{path} list open', lambda: os.listdir(opened))
    step(f'{path} list on', lambda: ([entry.name for entry in again], os.listdir(opened)))
    step(f'{path} sync', lambda: os.fsync(opened))
    os.close(opened)
    step(f'{path} list', lambda: os.listdir(path))
    step(f'{path} stat', lambda: facts(f'{path}/f'))
    step(f'{path} read', lambda: content(f'{path}/f', os.O_RDONLY))
    step(f'{path} create', lambda: content(f'{path}/g', os.O_WRONLY | os.O_CREAT, b'text'))
    step(f'{path} unlink', lambda: os.unlink(f'{path}/g'))
    step(f'{path} held', lambda: (os.fchmod(held, 0o640), os.ftruncate(held, 3), os.fstat(held).st_size, os.pread(held, 9, 0)))
    step(f'{path} chdir', lambda: (os.chdir(path), os.chdir('../..')))
    step(f'{path} move', lambda: os.rename(path, f'{path}.moved'))
    step(f'{path} back', lambda: os.rename(f'{path}.moved', path))
    os.chmod(path, 0o700)
    step(f'{path} after', lambda: (facts(f'{path}/f'), os.listdir(path)))
    os.close(held)

# Owners and groups.
content('own/mine', os.O_WRONLY | os.O_CREAT, b'text')
for uid, gid in ((-1, group), (os.getuid(), os.getgid()), (0, -1), (-1, 0), (os.getuid(), -1)):
    step(f'chown {uid} {gid}', lambda: (os.chown('own/mine', uid, gid), facts('own/mine')))
os.mkdir('own/shared')
os.chown('own/shared', -1, group)
os.chmod('own/shared', 0o2775)
step('setgid directory', lambda: (content('own/shared/f', os.O_WRONLY | os.O_CREAT, b''), facts('own/shared/f')))
step('setgid below', lambda: (os.mkdir('own/shared/d'), facts('own/shared/d')))
step('a device', lambda: os.mknod('own/null', stat.S_IFCHR | 0o666, os.makedev(1, 3)))

# Set-id bits: every write clears them.
for gid in (os.getgid(), group):
    for mode in (0o4755, 0o2755, 0o6777, 0o2745):
        os.chown('own/mine', -1, gid)
        for way in ('write', 'append', 'truncate', 'ftruncate', 'open', 'fallocate', 'both', 'chown', 'link'):
            os.chmod('own/mine', mode)
            fd = os.open('own/mine', os.O_RDWR if way == 'both' else os.O_WRONLY)
            {
                'write': lambda: os.pwrite(fd, b'bytes', 0),
                'append': lambda: content('own/mine', os.O_WRONLY | os.O_APPEND, b'more'),
                'truncate': lambda: os.truncate('own/mine', 3),
                'ftruncate': lambda: os.ftruncate(fd, 4),
                'open': lambda: os.close(os.open('own/mine', os.O_WRONLY | os.O_TRUNC)),
                'fallocate': lambda: os.posix_fallocate(fd, 0, 5000),
                'both': lambda: os.pwrite(fd, b'bytes', 3),
                'chown': lambda: os.chown('own/mine', -1, gid),
                'link': lambda: (os.link('own/mine', 'own/second'), os.unlink('own/second')),
            }[way]()
            os.close(fd)
            print(f'{mode:o} {gid} {way}', facts('own/mine'), flush=True)
