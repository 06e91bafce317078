"""Cases about names, directories and opening. How they run: casebook.py."""
import ctypes, fcntl, os, socket, stat, struct, subprocess, time
from casebook import *


@case
def errors_of_names():
    write('f')
    os.mkdir('d')
    write('d/x')
    os.symlink('loop', 'loop')
    fails('ENAMETOOLONG', os.mkdir, 'n' * 256)
    fails('ENAMETOOLONG', os.stat, 'n' * 256)
    fails('ENAMETOOLONG', os.stat, 'a/' * 2100)
    attempt(os.mkdir, 'n' * 255)
    fails('ENOENT', os.open, 'none', os.O_RDONLY)
    fails('ENOENT', os.open, 'none/x', os.O_CREAT | os.O_WRONLY)
    fails('ENOTDIR', os.open, 'f/x', os.O_RDONLY)
    fails('EEXIST', os.open, 'f', os.O_CREAT | os.O_EXCL)
    fails('EEXIST', os.mkdir, 'f')
    fails('EEXIST', os.symlink, 'x', 'f')
    fails('ELOOP', os.open, 'loop', os.O_RDONLY)
    fails('ELOOP', os.open, 'loop', os.O_RDONLY | os.O_NOFOLLOW)
    fails('ENOTEMPTY', os.rmdir, 'd')
    fails('EISDIR', os.unlink, 'd')
    fails('ENOTDIR', os.rmdir, 'f')
    fails('EINVAL', os.rmdir, 'd/.')
    fails('EISDIR', os.open, 'd', os.O_WRONLY)
    fails('ENOTDIR', os.open, 'f', os.O_RDONLY | os.O_DIRECTORY)
    fails('EPERM', os.link, 'd', 'hard')
    fails('EEXIST', os.link, 'f', 'd')
    fails('EINVAL', os.readlink, 'f')


@case
def renames():
    write('a', b'a')
    write('b', b'b')
    os.mkdir('d')
    os.mkdir('e')
    write('e/full')
    fails('EINVAL', os.rename, 'd', 'd/inside')
    fails('EISDIR', os.rename, 'a', 'd')
    fails('ENOTDIR', os.rename, 'd', 'a')
    fails('ENOTEMPTY', os.rename, 'd', 'e')
    fails('EEXIST', renameat2, 'a', 'b', NOREPLACE)
    fails('EINVAL', renameat2, 'a', 'b', NOREPLACE | EXCHANGE)
    fails('ENOENT', renameat2, 'a', 'none', EXCHANGE)
    ino = os.stat('a').st_ino
    attempt(renameat2, 'a', 'd', EXCHANGE)
    equal(os.stat('d').st_ino == ino, True)
    equal(os.path.isdir('a'), True)
    attempt(renameat2, 'a', 'd', EXCHANGE)
    attempt(renameat2, 'a', 'd/moved', NOREPLACE)
    equal(os.stat('d/moved').st_ino == ino, True)
    os.rename('d/moved', 'b')
    equal(read('b'), b'a')
    attempt(os.rename, 'd', 'e/sub')
    equal(sorted(os.listdir('e')), ['full', 'sub'])
    attempt(renameat2, 'b', 'c', WHITEOUT)
    hole = os.lstat('b')
    equal((stat.S_ISCHR(hole.st_mode), hole.st_rdev), (True, 0))
    write('h')
    os.link('h', 'i')
    attempt(os.rename, 'h', 'i')
    equal(sorted(os.listdir('.')), ['b', 'c', 'e', 'h', 'i'])


@case
def links():
    write('a', b'1')
    os.mkdir('d')
    for at in ('b', 'd/c'):
        os.link('a', at)
    equal([os.stat(p).st_nlink for p in ('a', 'b', 'd/c')], [3, 3, 3])
    equal(len({os.stat(p).st_ino for p in ('a', 'b', 'd/c')}), 1)
    os.unlink('a')
    equal(os.stat('b').st_nlink, 2)
    write('b', b'22')
    equal(read('d/c'), b'22')
    os.chmod('d/c', 0o600)
    equal(mode('b'), '0o600')
    os.rename('b', 'd/b')
    equal(os.stat('d/c').st_nlink, 2)
    os.symlink('/nowhere', 's')
    os.link('s', 's2', follow_symlinks=False)
    equal((os.readlink('s2'), os.lstat('s').st_nlink), ('/nowhere', 2))
    os.symlink('x' * 4000, 'long')
    equal(len(os.readlink('long')), 4000)
    fails('ENAMETOOLONG', os.symlink, 'x' * 4096, 'longer')
    equal(os.lstat('long').st_size, 4000)


@case
def names_as_bytes():
    names = [b'\xff\xfe', b'new\nline', b' ', b'\xf0\x9f\x90\xa2', b'tab\t', b'a\\b', b'-rf', b'"q"', b'...', bytes(range(128, 255))]
    for name in names:
        write(name, name)
    equal(sorted(os.listdir(b'.')), sorted(names))
    for name in names:
        check(read(name) == name, repr(name))


@case
def special_files():
    os.mkfifo('fifo', 0o640)
    os.mknod('char', stat.S_IFCHR | 0o600, os.makedev(300, 70000))
    os.mknod('block', stat.S_IFBLK | 0o600, os.makedev(7, 1))
    os.mknod('plain', stat.S_IFREG | 0o604)
    for name in ('fifo', 'char', 'block', 'plain'):
        about = os.lstat(name)
        say(name, oct(about.st_mode), about.st_rdev)
    child = os.fork()
    if child == 0:
        write('fifo', b'through')
        os._exit(0)
    equal(read('fifo'), b'through')
    os.waitpid(child, 0)
    server = socket.socket(socket.AF_UNIX)
    server.bind('sock')
    server.listen()
    client = socket.socket(socket.AF_UNIX)
    client.connect('sock')
    client.send(b'hello')
    equal(server.accept()[0].recv(10), b'hello')


@case
def deeper_than_a_path():
    start = os.open('.', os.O_RDONLY)
    for level in range(60):
        os.mkdir('n' * 200)
        os.chdir('n' * 200)
    write('bottom', b'deep')
    equal(read('bottom'), b'deep')
    os.rename('bottom', 'renamed')
    os.fchdir(start)
    os.rename('n' * 200, 'm')
    here = start
    for level in range(60):
        here = os.open('m' if level == 0 else 'n' * 200, os.O_RDONLY | os.O_DIRECTORY, dir_fd=here)
    equal(os.listdir(here), ['renamed'])
    equal(os.stat('renamed', dir_fd=here).st_size, 4)
    os.close(here)


@case
def removed_directory():
    os.mkdir('d')
    write('d/f')
    here = os.open('d', os.O_RDONLY)
    os.unlink('d/f')
    os.rmdir('d')
    fails('ENOENT', os.open, 'new', os.O_CREAT | os.O_WRONLY, dir_fd=here)
    fails('ENOENT', os.stat, 'f', dir_fd=here)
    equal(os.fstat(here).st_nlink, 0)
    equal(os.listdir(here), [])
    os.mkdir('d')
    equal(os.listdir('d'), [])


@case
def large_directory():
    os.mkdir('d')
    for i in range(5000):
        os.close(os.open(f'd/entry-{i}', os.O_CREAT | os.O_WRONLY))
    equal(len(os.listdir('d')), 5000)
    equal(sum(1 for e in os.scandir('d') if e.is_file(follow_symlinks=False) and e.inode() == e.stat().st_ino), 5000)
    seen = 0
    for entry in os.scandir('d'):
        os.unlink(entry.path)
        seen += 1
    equal(seen, 5000)
    equal(os.listdir('d'), [])
    os.rmdir('d')


@case
def directory_seeks():
    libc.opendir.restype = libc.readdir.restype = ctypes.c_void_p
    libc.telldir.restype = ctypes.c_long
    libc.telldir.argtypes = libc.readdir.argtypes = libc.rewinddir.argtypes = [ctypes.c_void_p]
    libc.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]
    for i in range(300):
        write(f'e{i}')
    stream = libc.opendir(b'.')

    def name():
        entry = libc.readdir(stream)
        return None if not entry else ctypes.string_at(entry + 19)

    for _ in range(100):
        name()
    place = libc.telldir(stream)
    after = []
    while (n := name()) is not None:
        after.append(n)
    libc.seekdir(stream, place)
    again = []
    while (n := name()) is not None:
        again.append(n)
    equal((after == again, len(after)), (True, 202))
    write('later')
    libc.rewinddir(stream)
    everything = set()
    while (n := name()) is not None:
        everything.add(n)
    equal((b'later' in everything, len(everything)), (True, 303))


@case
def directories_read_at_once():
    os.mkdir('d')
    for i in range(2000):
        write(f'd/{i}')

    def names(of, count):
        return [entry.name for _, entry in zip(range(count), of)]

    first, second, third = os.scandir('d'), os.scandir('d'), os.scandir('d')
    begun = names(first, 1), names(second, 700), names(third, 1500)
    for i in range(0, 2000, 2):
        os.unlink(f'd/{i}')
    write('d/new')
    for stream, early in zip((first, second, third), begun):
        all = early + names(stream, 3000)
        check(len(all) == len(set(all)), 'each once')
        check({str(i) for i in range(1, 2000, 2)} <= set(all), 'what stayed is listed')
    equal(sorted(os.listdir('d')), sorted(['new'] + [str(i) for i in range(1, 2000, 2)]))
    # Left in the middle; who begins later sees what is there then.
    for i in range(100):
        names(os.scandir('d'), 5)
        write(f'd/late{i}')
        check(f'late{i}' in os.listdir('d'), 'a new name is listed')


@case
def directories_that_are_gone():
    os.mkdir('d')
    write('d/f')
    fd = os.open('d', os.O_RDONLY)
    equal(os.listdir(fd), ['f'])
    os.rename('d', 'e')
    write('e/g')
    equal(sorted(os.listdir(fd)), ['f', 'g'])
    os.fsync(fd)
    equal(struct.unpack('i', fcntl.ioctl(fd, 0x80086601, bytes(8))[:4])[0] >= 0, True)
    os.unlink('e/f')
    os.unlink('e/g')
    os.mkdir('other')
    attempt(os.rename, 'other', 'e')
    write('e/new')
    equal(os.listdir(fd), [])
    fails('ENOENT', os.stat, 'f', dir_fd=fd)
    equal(os.listdir('e'), ['new'])
    os.close(fd)
    fd = os.open('e', os.O_RDONLY)
    os.unlink('e/new')
    os.rmdir('e')
    os.mkdir('e')
    write('e/newer')
    equal(os.listdir(fd), [])
    os.fsync(fd)
    equal(os.listdir('e'), ['newer'])


@case
def open_flags():
    umask = os.umask(0o027)
    fd = os.open('a', os.O_RDWR | os.O_CREAT, 0o7777)
    os.umask(umask)
    equal(mode('a'), '0o7750')
    os.write(fd, b'0123456789')
    end = os.open('a', os.O_WRONLY | os.O_APPEND)
    os.pwrite(end, b'END', 0)
    os.lseek(end, 0, os.SEEK_SET)
    os.write(end, b'!')
    equal(read('a'), b'0123456789END!')
    fcntl.fcntl(end, fcntl.F_SETFL, 0)
    os.pwrite(end, b'#', 0)
    equal(read('a'), b'#123456789END!')
    fcntl.fcntl(fd, fcntl.F_SETFL, os.O_APPEND)
    os.write(fd, b'?')
    equal(read('a'), b'#123456789END!?')
    os.close(os.open('a', os.O_WRONLY | os.O_TRUNC))
    equal(os.fstat(fd).st_size, 0)
    only = os.open('a', os.O_RDONLY)
    fails('EBADF', os.write, only, b'x')
    fails('EINVAL', os.ftruncate, only, 1)
    writer = os.open('a', os.O_WRONLY)
    fails('EBADF', os.read, writer, 1)
    path = os.open('a', os.O_PATH)
    fails('EBADF', os.read, path, 1)
    equal(os.fstat(path).st_size, 0)
    sync = os.open('a', os.O_WRONLY | os.O_SYNC)
    attempt(os.write, sync, b'synced')
    closed = os.open('locked', os.O_RDWR | os.O_CREAT | os.O_EXCL, 0)
    attempt(os.write, closed, b'mode 0')
    equal(mode('locked'), '0o0')


@case
def files_without_a_name():
    fd = os.open('.', os.O_TMPFILE | os.O_RDWR, 0o640)
    os.write(fd, b'unnamed')
    equal(os.fstat(fd).st_nlink, 0)
    os.fchmod(fd, 0o604)
    equal(os.listdir('.'), [])
    attempt(link_descriptor, fd, 'named')
    equal(read('named'), b'unnamed')
    equal((mode('named'), os.fstat(fd).st_nlink), ('0o604', 1))
    os.write(fd, b', now named')
    equal(read('named'), b'unnamed, now named')
    kept = os.open('.', os.O_TMPFILE | os.O_WRONLY | os.O_EXCL)
    fails('ENOENT', link_descriptor, kept, 'never')


@case
def unlinked_but_open():
    fd = os.open('f', os.O_RDWR | os.O_CREAT, 0o644)
    os.write(fd, b'content')
    os.unlink('f')
    write('f', b'another')
    equal(os.fstat(fd).st_nlink, 0)
    os.fchmod(fd, 0o600)
    os.fchown(fd, 1000, 1001)
    os.utime(fd, ns=(1_000_000_001, 2_000_000_002))
    os.setxattr(fd, 'user.k', b'v')
    os.ftruncate(fd, 3)
    about = os.fstat(fd)
    equal((oct(about.st_mode), about.st_uid, about.st_gid, about.st_size), ('0o100600', 1000, 1001, 3))
    equal(about.st_atime_ns, 1_000_000_001)
    equal(os.getxattr(fd, 'user.k'), b'v')
    equal(os.pread(fd, 10, 0), b'con')
    equal(os.pread(os.open(f'/proc/self/fd/{fd}', os.O_RDONLY), 10, 0), b'con')
    equal(read('f'), b'another')
    victim = os.open('f', os.O_RDONLY)
    write('g', b'over')
    os.rename('g', 'f')
    equal((os.read(victim, 10), os.fstat(victim).st_nlink), (b'another', 0))


@case
def running_program():
    subprocess.run(['cp', '/bin/sleep', 'prog'], check=True)
    running = subprocess.Popen(['./prog', '30'])
    deadline = time.monotonic() + 10
    while os.readlink(f'/proc/{running.pid}/exe').endswith('python3') or b'prog' not in read(f'/proc/{running.pid}/cmdline'):
        check(time.monotonic() < deadline, 'did not start')
    fails('ETXTBSY', os.open, 'prog', os.O_WRONLY)
    fails('ETXTBSY', os.truncate, 'prog', 0)
    running.kill()
    running.wait()
    attempt(os.truncate, 'prog', 10)
    os.truncate('prog', 0)
    fd = os.open('prog', os.O_WRONLY)
    fails('ETXTBSY', os.execv, './prog', ['prog'])
    os.close(fd)


main()
