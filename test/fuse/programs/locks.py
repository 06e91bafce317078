"""Cases about locks between processes: flock, fcntl and open file description locks. How they run: casebook.py."""
import errno, fcntl, os, struct
from casebook import *

F_OFD_GETLK, F_OFD_SETLK = 36, 37
READ, WRITE, NONE = fcntl.F_RDLCK, fcntl.F_WRLCK, fcntl.F_UNLCK


def record(kind, start=0, length=0, pid=0):
    return struct.pack('hhqqi4x', kind, os.SEEK_SET, start, length, pid)


def lock(fd, kind, start=0, length=0, how=fcntl.F_SETLK):
    fcntl.fcntl(fd, how, record(kind, start, length))


def holder(fd, kind, start=0, length=0, how=fcntl.F_GETLK):
    """What is in the way of such a lock: its kind, range and whether its owner is a process."""
    found, _, at, size, pid = struct.unpack('hhqqi4x', fcntl.fcntl(fd, how, record(kind, start, length)))
    return found, at, size, pid > 0


class Other:
    """Another process that does what it is told, and answers with the result's name."""

    def __init__(self, path, flags=os.O_RDWR):
        self.asks, self.answers = os.pipe(), os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            said.clear()
            fd = os.open(path, flags) if isinstance(path, str) else path
            while what := os.read(self.asks[0], 200):
                try:
                    result = repr(eval(what, globals(), {'fd': fd}))
                except OSError as error:
                    result = errno.errorcode[error.errno]
                os.write(self.answers[1], result.encode())

    def start(self, what):
        os.write(self.asks[1], what.encode())

    def answer(self):
        return os.read(self.answers[0], 1000).decode()

    def does(self, what):
        self.start(what)
        return self.answer()

    def end(self):
        os.kill(self.pid, 9)
        os.waitpid(self.pid, 0)


@case
def whole_file_locks():
    write('f')
    other = Other('f')
    fd = os.open('f', os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_SH)
    equal(other.does('fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)'), 'None')
    fails('EAGAIN', fcntl.flock, fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    equal(other.does('fcntl.flock(fd, fcntl.LOCK_UN)'), 'None')
    fcntl.flock(fd, fcntl.LOCK_EX)
    equal(other.does('fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)'), 'EAGAIN')
    # Shared by a duplicate and by a forked child, until all have closed it.
    copy = os.dup(fd)
    heir = Other(fd)
    os.close(copy)
    equal(other.does('fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)'), 'EAGAIN')
    os.close(fd)
    equal(other.does('fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)'), 'EAGAIN')
    other.start('fcntl.flock(fd, fcntl.LOCK_EX)')
    heir.end()
    equal(other.answer(), 'None')
    # Another descriptor of the same process is another owner; and the two kinds of locks do not meet.
    fd = os.open('f', os.O_RDWR)
    fails('EAGAIN', fcntl.flock, fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    attempt(lock, fd, WRITE)
    os.unlink('f')
    other.end()
    attempt(fcntl.flock, fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


@case
def record_locks():
    write('f', b'0123456789')
    fd = os.open('f', os.O_RDWR)
    other = Other('f')
    lock(fd, WRITE, 2, 4)
    equal(other.does('lock(fd, WRITE, 0, 2)'), 'None')
    equal(other.does('lock(fd, READ, 5, 1)'), 'EAGAIN')
    equal(other.does('holder(fd, WRITE)'), repr((WRITE, 2, 4, True)))
    equal(holder(fd, READ), (WRITE, 0, 2, True))
    lock(fd, READ, 3, 1)
    equal(other.does('lock(fd, READ, 3, 1)'), 'None')
    equal(other.does('lock(fd, READ, 2, 2)'), 'EAGAIN')
    fails('EAGAIN', lock, fd, WRITE, 3, 1)
    lock(fd, NONE, 2, 1)
    equal(other.does('lock(fd, WRITE, 2, 1)'), 'None')
    lock(fd, WRITE, 100)
    equal(other.does('lock(fd, WRITE, 1 << 40, 1)'), 'EAGAIN')
    # A close of any descriptor of the file gives up all the process holds.
    other.start('lock(fd, WRITE, 100, 1, fcntl.F_SETLKW)')
    os.close(os.open('f', os.O_RDONLY))
    equal(other.answer(), 'None')
    equal(holder(fd, WRITE, 100, 1), (WRITE, 100, 1, True))
    # Not inherited.
    lock(fd, WRITE, 50, 1)
    heir = Other(fd)
    equal(heir.does('lock(fd, WRITE, 50, 1)'), 'EAGAIN')
    fails('EBADF', lock, os.open('f', os.O_RDONLY), WRITE, 60, 1)
    fails('EBADF', lock, os.open('f', os.O_WRONLY), READ, 60, 1)
    fails('EINVAL', lock, fd, WRITE, -1, 1)
    for process in (other, heir):
        process.end()
    attempt(lock, fd, WRITE)


def waits(fd, wanted, own):
    """Waits for one byte while it has another, and lets go of its own when told that this would last for ever."""
    try:
        return lock(fd, WRITE, wanted, 1, fcntl.F_SETLKW)
    except OSError as error:
        lock(fd, NONE, own, 1)
        return errno.errorcode[error.errno]


@case
def deadlock():
    write('f', b'01')
    fd = os.open('f', os.O_RDWR)
    other = Other('f')
    lock(fd, WRITE, 0, 1)
    equal(other.does('lock(fd, WRITE, 1, 1)'), 'None')
    other.start('waits(fd, 0, 1)')
    mine = waits(fd, 1, 0)
    if mine is None:
        lock(fd, NONE)
    # Whoever waits last is told.
    equal(sorted([str(mine), other.answer().strip("'")]), ['EDEADLOCK', 'None'])
    other.end()


@case
def locks_of_open_files():
    write('f', b'0123456789')
    fd = os.open('f', os.O_RDWR)
    second = os.open('f', os.O_RDWR)
    lock(fd, WRITE, 0, 5, F_OFD_SETLK)
    fails('EAGAIN', lock, second, READ, 4, 1, F_OFD_SETLK)
    fails('EAGAIN', lock, second, READ, 4, 1)
    equal(holder(second, READ, 0, 0, F_OFD_GETLK), (WRITE, 0, 5, False))
    os.close(os.open('f', os.O_RDONLY))
    fails('EAGAIN', lock, second, READ, 4, 1, F_OFD_SETLK)
    heir = Other(fd)
    equal(heir.does('lock(fd, READ, 0, 5, F_OFD_SETLK)'), 'None')
    attempt(lock, second, READ, 4, 1, F_OFD_SETLK)
    os.close(fd)
    fails('EAGAIN', lock, second, WRITE, 4, 1, F_OFD_SETLK)
    heir.end()
    attempt(lock, second, WRITE, 4, 1, F_OFD_SETLK)


main()
