"""Cases about attributes, permissions, extended attributes and access control lists. How they run: casebook.py."""
import ctypes, os, stat, struct, subprocess, time
from casebook import *


@case
def times():
    write('f')
    os.symlink('f', 's')
    os.utime('f', ns=(1_234_567_890_123_456_789, 987_654_321_012_345_678))
    about = os.stat('f')
    equal((about.st_atime_ns, about.st_mtime_ns), (1_234_567_890_123_456_789, 987_654_321_012_345_678))
    os.utime('s', ns=(5, 6), follow_symlinks=False)
    equal((os.lstat('s').st_mtime_ns, os.stat('f').st_mtime_ns), (6, 987_654_321_012_345_678))
    os.utime('f', ns=(-1_500_000_000, -2_000_000_001))
    equal((os.stat('f').st_atime_ns, os.stat('f').st_mtime_ns), (-1_500_000_000, -2_000_000_001))
    NOW, OMIT = (1 << 30) - 1, (1 << 30) - 2

    def utimensat(atime, mtime):
        value = (ctypes.c_long * 4)(*atime, *mtime)
        return call(libc.utimensat(AT_FDCWD, b'f', value, 0))

    utimensat((77, 7), (0, OMIT))
    equal((os.stat('f').st_atime_ns, os.stat('f').st_mtime_ns), (77_000_000_007, -2_000_000_001))
    before = time.time_ns()
    utimensat((0, OMIT), (0, NOW))
    about = os.stat('f')
    equal((about.st_atime_ns, abs(about.st_mtime_ns - before) < 2_000_000_000), (77_000_000_007, True))
    utimensat((1, 1), (1, 1))
    utimensat((0, OMIT), (0, OMIT))
    equal(os.stat('f').st_mtime_ns, 1_000_000_001)
    fails('EINVAL', utimensat, (0, 1_000_000_000), (0, 0))


@case
def times_that_follow_operations():
    def old(*paths):
        for path in paths:
            os.utime(path, ns=(1_000, 1_000), follow_symlinks=False)
        time.sleep(0.011)
        return {path: os.lstat(path) for path in paths}

    def moved(before, path):
        now = os.lstat(path)
        return (now.st_mtime_ns != before.st_mtime_ns, now.st_ctime_ns != before.st_ctime_ns)

    os.mkdir('d')
    write('f')
    then = old('d', 'f')
    write('d/x')
    equal(moved(then['d'], 'd'), (True, True))
    fd = os.open('f', os.O_WRONLY)
    os.write(fd, b'more')
    equal(moved(then['f'], 'f'), (True, True))
    then = old('d', 'f')
    os.chmod('f', 0o600)
    equal(moved(then['f'], 'f'), (False, True))
    then = old('f')
    os.setxattr('f', 'user.a', b'b')
    equal(moved(then['f'], 'f'), (False, True))
    then = old('f')
    os.link('f', 'd/link')
    equal(moved(then['f'], 'f'), (False, True))
    then = old('d', 'f')
    os.rename('f', 'd/g')
    equal(moved(then['d'], 'd'), (True, True))
    equal(moved(then['f'], 'd/g'), (False, True))
    then = old('d', 'd/g')
    os.unlink('d/link')
    equal((moved(then['d'], 'd'), moved(then['d/g'], 'd/g')), ((True, True), (False, True)))
    then = old('d/g')
    os.truncate('d/g', 100)
    equal(moved(then['d/g'], 'd/g'), (True, True))
    os.mkdir('d/sub')
    equal(os.stat('d').st_nlink, 3)
    os.rename('d/sub', 'sub')
    equal(os.stat('d').st_nlink, 2)


@case
def set_id_bits():
    def file(bits):
        write('f')
        os.chown('f', 0, 0)
        os.chmod('f', bits)

    def append():
        os.write(os.open('f', os.O_WRONLY | os.O_APPEND), b'more')

    for bits in (0o4777, 0o2777, 0o6777, 0o2767):
        file(bits)
        append()
        equal(mode('f'), oct(bits))
        as_user(1000, 1000, [], append)
        say('after a write by another', mode('f'))
    check(mode('f') != oct(0o4777), 'kept')
    file(0o6777)
    as_user(1000, 1000, [], lambda: os.truncate('f', 0))
    equal(mode('f'), '0o777')
    file(0o6777)
    as_user(1000, 1000, [], lambda: os.open('f', os.O_WRONLY | os.O_TRUNC))
    equal(mode('f'), '0o777')
    file(0o6755)
    os.chown('f', 1000, 1000)
    equal(mode('f'), '0o755')
    os.chmod('f', 0o4755)
    as_user(1000, 1000, [], lambda: os.chown('f', -1, 1000))
    equal(mode('f'), '0o755')
    os.chown('f', 1000, 55)
    as_user(1000, 1000, [], lambda: os.chmod('f', 0o2755))
    equal(mode('f'), '0o755')
    as_user(1000, 1000, [55], lambda: os.chmod('f', 0o2755))
    equal(mode('f'), '0o2755')
    os.mknod('strange', stat.S_IFREG | 0o777)
    os.chmod('strange', 0o6777)
    as_user(1000, 1000, [], lambda: fails('EPERM', os.chown, 'strange', -1, -1))
    equal(mode('strange'), '0o6777')
    os.chown('strange', -1, -1)
    equal(mode('strange'), '0o777')
    file(0o6777)
    as_user(1000, 1000, [], lambda: os.pwrite(os.open('f', os.O_RDWR), b'x', 0))
    equal(mode('f'), '0o777')
    file(0o6777)
    fd = os.open('f', os.O_RDWR)
    as_user(1000, 1000, [], lambda: fallocate(os.open('f', os.O_RDWR), 0, 0, 4096))
    equal(mode('f'), '0o777')
    os.setxattr('f', 'security.capability', struct.pack('<IIIII', 0x02000001, 1 << 10, 0, 0, 0))
    os.write(fd, b'x')
    fails('ENODATA', os.getxattr, 'f', 'security.capability')


@case
def set_group_id_directories():
    os.chmod('.', 0o777)
    os.mkdir('d')
    os.chown('d', 0, 55)
    os.chmod('d', 0o2777)

    def fill():
        os.umask(0o022)
        write('d/plain')
        os.mkdir('d/sub')
        os.close(os.open('d/sgid', os.O_CREAT | os.O_WRONLY, 0o2775))
        os.symlink('x', 'd/link')
        os.mkfifo('d/fifo')

    as_user(1000, 1000, [], fill)
    for name in sorted(os.listdir('d')):
        about = os.lstat(f'd/{name}')
        say(name, oct(about.st_mode), about.st_uid, about.st_gid)
    equal((os.stat('d/sub').st_gid, mode('d/sub')), (55, '0o2755'))
    equal((os.stat('d/sgid').st_gid, mode('d/sgid')), (55, '0o755'))
    os.mkdir('e')
    os.chown('e', 0, 55)
    os.chmod('e', 0o2777)
    as_user(1000, 1000, [55, 56], lambda: (os.umask(0), os.close(os.open('e/f', os.O_CREAT | os.O_WRONLY, 0o2775))))
    equal((os.stat('e/f').st_gid, mode('e/f'), os.stat('e/f').st_uid), (55, '0o2775', 1000))


@case
def permissions_of_callers():
    os.chmod('.', 0o755)
    os.mkdir('open', 0o777)
    os.chmod('open', 0o777)
    write('secret', b's', 0o600)
    write('shown', b's', 0o644)
    os.mkdir('closed', 0o700)
    write('closed/f')
    os.mkdir('group')
    os.chown('group', 0, 55)
    os.chmod('group', 0o770)
    os.mkdir('sticky')
    os.chmod('sticky', 0o1777)
    write('sticky/roots')

    def stranger():
        fails('EACCES', os.open, 'secret', os.O_RDONLY)
        fails('EACCES', os.open, 'shown', os.O_WRONLY)
        fails('EACCES', os.open, 'new', os.O_CREAT | os.O_WRONLY)
        fails('EACCES', os.stat, 'closed/f')
        fails('EACCES', os.mkdir, 'group/d')
        fails('EACCES', os.unlink, 'shown')
        fails('EPERM', os.chmod, 'shown', 0o777)
        fails('EPERM', os.chown, 'shown', 1000, 1000)
        fails('EPERM', os.utime, 'shown', ns=(1, 1))
        fails('EACCES', os.setxattr, 'shown', 'user.x', b'')
        fails('EPERM', os.unlink, 'sticky/roots')
        fails('EPERM', os.rename, 'sticky/roots', 'sticky/mine')
        fails('EPERM', os.mknod, 'open/c', stat.S_IFCHR | 0o600, 1)
        fails('EPERM', os.open, 'shown', os.O_RDONLY | os.O_NOATIME)
        write('open/mine')
        write('sticky/mine')
        attempt(os.unlink, 'sticky/mine')
        attempt(os.access, 'shown', os.W_OK)

    def member():
        os.umask(0o007)
        attempt(os.mkdir, 'group/d')
        write('group/f')
        attempt(os.listdir, 'group')

    as_user(1000, 1000, [], stranger)
    as_user(1000, 1000, [55], member)
    about = os.stat('open/mine')
    equal((about.st_uid, about.st_gid), (1000, 1000))
    about = os.stat('group/d')
    equal((about.st_uid, about.st_gid, oct(about.st_mode)), (1000, 1000, '0o40770'))
    os.mkdir('none')
    os.chown('none', 1000, 1000)
    os.chmod('none', 0)
    as_user(1000, 1000, [], lambda: fails('EACCES', os.listdir, 'none'))
    as_user(1000, 1000, [], lambda: (os.chmod('none', 0o400), attempt(os.listdir, 'none')))
    as_user(1000, 1000, [], lambda: (os.umask(0o777), os.mkdir('open/blind'), say(mode('open/blind'))))


@case
def owners():
    write('f')
    os.symlink('f', 's')
    os.chown('f', 4_000_000_000, 3_999_999_999)
    os.lchown('s', 12, 13)
    equal((os.stat('f').st_uid, os.stat('f').st_gid), (4_000_000_000, 3_999_999_999))
    equal((os.lstat('s').st_uid, os.lstat('s').st_gid), (12, 13))
    os.chown('f', -1, 7)
    equal((os.stat('f').st_uid, os.stat('f').st_gid), (4_000_000_000, 7))
    for bits in (0, 0o111, 0o777, 0o7777, 0o1000):
        os.chmod('f', bits)
        equal(mode('f'), oct(bits))


@case
def xattrs():
    write('f')
    os.mkdir('d')
    os.symlink('f', 's')
    for path in ('f', 'd'):
        os.setxattr(path, 'user.one', b'1')
        os.setxattr(path, 'user.bytes', bytes(range(256)))
        os.setxattr(path, 'user.empty', b'')
        os.setxattr(path, 'trusted.t', b'root only')
        say(sorted(os.listxattr(path)))
        equal(os.getxattr(path, 'user.bytes'), bytes(range(256)))
        equal(os.getxattr(path, 'user.empty'), b'')
        fails('EEXIST', os.setxattr, path, 'user.one', b'2', os.XATTR_CREATE)
        fails('ENODATA', os.setxattr, path, 'user.none', b'2', os.XATTR_REPLACE)
        fails('ENODATA', os.getxattr, path, 'user.none')
        fails('ENODATA', os.removexattr, path, 'user.none')
        os.removexattr(path, 'user.one')
        fails('ENODATA', os.getxattr, path, 'user.one')
        fails('ENOTSUP', os.setxattr, path, 'nonsense.x', b'')
        attempt(os.setxattr, path, 'user.' + 'n' * 250, b'long name')
        attempt(os.setxattr, path, 'user.' + 'n' * 251, b'too long')
    attempt(os.setxattr, 'f', 'user.big', b'b' * 60_000)
    os.setxattr('s', 'trusted.link', b'on the link', follow_symlinks=False)
    equal(os.getxattr('s', 'trusted.link', follow_symlinks=False), b'on the link')
    fails('EPERM', os.setxattr, 's', 'user.link', b'', follow_symlinks=False)
    small = ctypes.create_string_buffer(4)
    say(libc.getxattr(b'f', b'user.bytes', small, 4), ctypes.get_errno())
    say(libc.listxattr(b'f', small, 4), ctypes.get_errno())
    os.chmod('.', 0o755)
    os.chmod('f', 0o666)
    as_user(1000, 1000, [], lambda: (say(sorted(os.listxattr('f'))), fails('ENODATA', os.getxattr, 'f', 'trusted.t')))


@case
def access_control_lists():
    os.chmod('.', 0o755)
    write('f', b'x', 0o640)
    os.mkdir('d')
    os.chmod('d', 0o777)

    def acl(path):
        return subprocess.run(['getfacl', '-cn', path], capture_output=True, text=True).stdout.split()

    def setfacl(*args):
        say(subprocess.run(['setfacl', *args], capture_output=True, text=True).returncode)

    as_user(1000, 1000, [], lambda: fails('EACCES', os.open, 'f', os.O_RDONLY))
    setfacl('-m', 'u:1000:rw', 'f')
    say(acl('f'), mode('f'))
    as_user(1000, 1000, [], lambda: equal(read('f'), b'x'))
    os.chmod('f', 0o600)
    say(acl('f'))
    as_user(1000, 1000, [], lambda: fails('EACCES', os.open, 'f', os.O_RDONLY))
    setfacl('-d', '-m', 'u:1000:rwx,g::rx,o::-', 'd')
    os.umask(0o077)
    write('d/f', b'x', 0o666)
    os.mkdir('d/sub')
    as_user(1001, 1001, [], lambda: (os.umask(0o022), os.mkdir('d/others'), write('d/by', b'', 0o666)))
    for path in ('d', 'd/f', 'd/sub', 'd/others', 'd/by'):
        say(path, acl(path), mode(path))
    setfacl('-b', 'f')
    say(acl('f'))
    os.chown('f', 1000, 55)
    os.chmod('f', 0o2755)
    as_user(1000, 1000, [], lambda: setfacl('-m', 'u:7:r', 'f'))
    say(mode('f'), acl('f'))


main()
