"""Cases about the bytes of files, maps, locks, and facts of the system. How they run: casebook.py."""
import fcntl, mmap, os, struct, subprocess, time
from casebook import *


@case
def holes():
    fd = os.open('f', os.O_RDWR | os.O_CREAT)
    os.pwrite(fd, b'a' * 4096, 1 << 20)
    os.pwrite(fd, b'b' * 4096, 5 << 20)
    os.fsync(fd)
    say([os.lseek(fd, at, os.SEEK_DATA) for at in (0, (1 << 20) + 5)])
    say([os.lseek(fd, at, os.SEEK_HOLE) for at in (0, 1 << 20)])
    fails('ENXIO', os.lseek, fd, 6 << 20, os.SEEK_DATA)
    equal(os.fstat(fd).st_blocks <= 32, True)
    attempt(fallocate, fd, KEEP_SIZE, 8 << 20, 4096)
    equal(os.fstat(fd).st_size, (5 << 20) + 4096)
    attempt(fallocate, fd, 0, 0, 8 << 20)
    equal(os.fstat(fd).st_size, 8 << 20)
    attempt(fallocate, fd, PUNCH_HOLE | KEEP_SIZE, 1 << 20, 2048)
    equal(os.pread(fd, 4096, 1 << 20), bytes(2048) + b'a' * 2048)
    attempt(fallocate, fd, ZERO_RANGE, 5 << 20, 100)
    equal(os.pread(fd, 4096, 5 << 20), bytes(100) + b'b' * 3996)
    os.ftruncate(fd, 3 << 40)
    equal(os.fstat(fd).st_size, 3 << 40)
    os.pwrite(fd, b'far', (3 << 40) - 3)
    equal(os.pread(fd, 10, (3 << 40) - 4), b'\0far')
    fails('EFBIG', os.ftruncate, fd, 1 << 60)
    fails('EINVAL', os.truncate, 'f', -1)


@case
def copying_ranges():
    write('a', bytes(range(256)) * 4096)
    source = os.open('a', os.O_RDONLY)
    target = os.open('b', os.O_RDWR | os.O_CREAT)
    equal(os.copy_file_range(source, target, 300_000, 1000, 5), 300_000)
    equal(os.pread(target, 300_000, 5) == read('a')[1000:301_000], True)
    equal(os.fstat(target).st_size, 300_005)
    same = os.open('a', os.O_RDWR)
    attempt(os.copy_file_range, same, same, 4096, 0, 500_000)
    attempt(os.copy_file_range, same, same, 4096, 0, 100)
    equal(read('a')[500_000:500_010], bytes(range(10)))
    equal(os.copy_file_range(source, target, 100, 2 << 20, 0), 0)
    pipe_out, pipe_in = os.pipe()
    equal(os.splice(source, pipe_in, 1000, offset_src=256), 1000)
    equal(os.read(pipe_out, 1000) == read('a')[256:1256], True)
    equal(os.sendfile(target, source, 0, 5000), 5000)


@case
def mapped_files():
    write('f', b'-' * 10_000)
    fd = os.open('f', os.O_RDWR)
    shared = mmap.mmap(fd, 10_000)
    shared[100:105] = b'apple'
    equal(read('f')[100:105], b'apple')
    os.pwrite(fd, b'plum', 200)
    equal(shared[200:204], b'plum')
    shared.flush()
    private = mmap.mmap(fd, 10_000, flags=mmap.MAP_PRIVATE)
    private[0:3] = b'own'
    equal(read('f')[:3], b'---')
    os.close(fd)
    shared[9_990:9_995] = b'after'
    shared.close()
    equal(read('f')[9_990:9_995], b'after')
    reader = os.open('f', os.O_RDONLY)
    view = mmap.mmap(reader, 0, prot=mmap.PROT_READ)
    write_fd = os.open('f', os.O_WRONLY)
    os.pwrite(write_fd, b'fresh', 0)
    equal(view[:5], b'fresh')
    both = mmap.mmap(os.open('f', os.O_RDWR), 0)
    os.unlink('f')
    both[5:9] = b'gone'
    equal(view[:9], b'freshgone')


@case
def direct_io():
    fd = os.open('f', os.O_RDWR | os.O_CREAT | os.O_DIRECT)
    block = mmap.mmap(-1, 1 << 20)
    block[:] = bytes(range(256)) * 4096
    equal(os.pwrite(fd, block, 0), 1 << 20)
    equal(os.pwrite(fd, block, 3 << 20), 1 << 20)
    cached = os.open('f', os.O_RDWR)
    equal(os.pread(cached, 256, 4096), bytes(range(256)))
    os.pwrite(cached, b'cached', 8192)
    into = mmap.mmap(-1, 4096)
    equal(os.preadv(fd, [into], 8192), 4096)
    equal(into[:6], b'cached')
    block[:6] = b'direct'
    os.pwrite(fd, memoryview(block)[:4096], 4096)
    equal(os.pread(cached, 6, 4096), b'direct')
    equal(os.fstat(cached).st_size, 4 << 20)


@case
def flags_changed_by_fcntl():
    for flags in (os.O_RDWR, os.O_WRONLY, os.O_RDWR | os.O_TRUNC, os.O_WRONLY | os.O_TRUNC):
        write('f', b'0123456789')
        fd = os.open('f', flags | os.O_APPEND)
        os.write(fd, b'A')
        fcntl.fcntl(fd, fcntl.F_SETFL, 0)
        os.pwrite(fd, b'B', 1)  # appends no more
        fcntl.fcntl(fd, fcntl.F_SETFL, os.O_APPEND)
        os.lseek(fd, 0, os.SEEK_SET)
        os.write(fd, b'C')
        equal(read('f'), b'ABC' if flags & os.O_TRUNC else b'0B23456789AC')
        if flags & os.O_RDWR:
            equal(os.pread(fd, 100, 0), read('f'))
            with mmap.mmap(fd, 2) as view:
                view[0:1] = b'M'
            equal(read('f')[:1], b'M')
        os.close(fd)


@case
def direct_io_up_to_a_last_piece():
    """As dd(1) does: all whole blocks directly, then the rest, which is none, without."""
    blocks = mmap.mmap(-1, 3 << 20)
    blocks[:] = os.urandom(1 << 16) * 48
    for flags in (os.O_CREAT | os.O_EXCL, 0, os.O_TRUNC, os.O_APPEND):
        fd = os.open('f', os.O_WRONLY | os.O_DIRECT | flags)
        os.lseek(fd, 0, os.SEEK_END)
        begin = os.fstat(fd).st_size
        equal(os.write(fd, blocks), 3 << 20)
        if flags != os.O_APPEND:
            attempt(os.write, fd, memoryview(blocks)[:100])
            attempt(os.pwrite, fd, memoryview(blocks)[:4096], begin + 4097)
        fcntl.fcntl(fd, fcntl.F_SETFL, flags & os.O_APPEND)
        equal(os.write(fd, memoryview(blocks)[:100]), 100)
        fcntl.fcntl(fd, fcntl.F_SETFL, flags & os.O_APPEND | os.O_DIRECT)
        attempt(os.pwrite, fd, memoryview(blocks)[4096:12288], 0)
        os.close(fd)
        now = read('f')
        if flags != os.O_APPEND:
            equal(now[:8192] == blocks[4096:12288], True)
            equal(now[begin:] == (b'' if begin else now[:8192]) + blocks[0 if begin else 8192 :] + blocks[:100], True)
        os.truncate('f', 4 << 20)


@case
def attributes_of_an_unreadable_file():
    FS_IOC_GETFLAGS, FS_IOC_SETFLAGS, NODUMP = 0x80086601, 0x40086602, 0x40
    fd = os.open('f', os.O_WRONLY | os.O_CREAT, 0)
    plain = struct.unpack('l', fcntl.ioctl(fd, FS_IOC_GETFLAGS, bytes(8)))[0]
    fcntl.ioctl(fd, FS_IOC_SETFLAGS, struct.pack('l', plain | NODUMP))
    equal(struct.unpack('l', fcntl.ioctl(fd, FS_IOC_GETFLAGS, bytes(8)))[0] & NODUMP, NODUMP)


@case
def locks():
    write('f', b'0' * 100)
    fd = os.open('f', os.O_RDWR)

    def other(take):
        result = []
        out, into = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                take(os.open('f', os.O_RDWR))
                os.write(into, b'taken')
            except OSError as error:
                os.write(into, errno.errorcode[error.errno].encode())
            os._exit(0)
        os.waitpid(child, 0)
        os.close(into)
        return os.read(out, 20).decode()

    fcntl.flock(fd, fcntl.LOCK_EX)
    equal(other(lambda f: fcntl.flock(f, fcntl.LOCK_SH | fcntl.LOCK_NB)), 'EAGAIN')
    fcntl.flock(fd, fcntl.LOCK_UN)
    equal(other(lambda f: fcntl.flock(f, fcntl.LOCK_SH | fcntl.LOCK_NB)), 'taken')
    fcntl.lockf(fd, fcntl.LOCK_EX, 10, 20)
    equal(other(lambda f: fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB, 5, 25)), 'EAGAIN')
    equal(other(lambda f: fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB, 5, 30)), 'taken')
    F_OFD_SETLK = 37
    lock = struct.pack('hhqqi4x', fcntl.F_WRLCK, 0, 50, 10, 0)
    fcntl.fcntl(fd, F_OFD_SETLK, lock)
    equal(other(lambda f: fcntl.fcntl(f, F_OFD_SETLK, lock)), 'EAGAIN')
    os.close(os.open('f', os.O_RDONLY))
    equal(other(lambda f: fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB, 5, 25)), 'taken')


@case
def a_big_file():
    size, piece = 300 << 20, os.urandom(1 << 20)
    fd = os.open('big', os.O_RDWR | os.O_CREAT)
    for at in range(0, size, 1 << 20):
        os.write(fd, piece[at >> 20:] + piece[:at >> 20])
    equal(os.fstat(fd).st_size, size)
    for at in (0, 7 << 20, 299 << 20):
        equal(os.pread(fd, 1 << 20, at) == piece[at >> 20:] + piece[:at >> 20], True)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    equal(os.pread(fd, 1 << 20, 150 << 20) == piece[150:] + piece[:150], True)


@case
def facts_of_the_system():
    of = os.statvfs('.')
    say(of.f_bsize, of.f_frsize, of.f_namemax)
    write('f')
    born = subprocess.run(['stat', '-c', '%W', 'f'], capture_output=True, text=True).stdout
    equal(abs(int(born) - time.time()) < 100, True)
    FS_IOC_GETFLAGS, FS_IOC_SETFLAGS, APPEND, IMMUTABLE = 0x80086601, 0x40086602, 0x20, 0x10

    def flags(value=None):
        fd = os.open('f', os.O_RDONLY)
        if value is not None:
            fcntl.ioctl(fd, FS_IOC_SETFLAGS, struct.pack('l', value))
        got = struct.unpack('l', fcntl.ioctl(fd, FS_IOC_GETFLAGS, bytes(8)))[0]
        os.close(fd)
        return got

    plain = flags()
    before = os.stat('f').st_ctime_ns
    time.sleep(0.02)  # the system's clock may tick in 10 ms
    equal(flags(plain | APPEND) & APPEND, APPEND)
    equal(os.stat('f').st_ctime_ns > before, True)
    fails('EPERM', os.open, 'f', os.O_WRONLY)
    end = os.open('f', os.O_WRONLY | os.O_APPEND)
    os.write(end, b'appended')
    os.close(end)
    flags(plain | IMMUTABLE)
    fails('EPERM', os.unlink, 'f')
    flags(plain)
    equal(read('f'), b'xappended')
    fails('ENOTTY', fcntl.ioctl, os.open('f', os.O_RDONLY), 0x5401, bytes(60))
    attempt(os.fsync, os.open('.', os.O_RDONLY))


main()
