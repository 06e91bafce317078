"""full_disk.py DIR

Fills the file system of DIR with bytes, then with names, and prints what each operation says meanwhile; then makes room,
and prints what works again.
"""
import errno, os, sys

os.chdir(sys.argv[1])
PIECE = b'x' * 65536


def told(what, call):
    try:
        result = call()
    except OSError as error:
        result = errno.errorcode[error.errno]
    print(what, result, flush=True)


def written(name, count, flags=os.O_CREAT | os.O_WRONLY):
    fd = os.open(name, flags, 0o644)
    try:
        while count > 0:
            count -= os.write(fd, PIECE)
        os.fsync(fd)
        return os.fstat(fd).st_size
    finally:
        os.close(fd)


def allocated(name):
    fd = os.open(name, os.O_RDWR)
    try:
        os.posix_fallocate(fd, 0, 1 << 26)
    finally:
        os.close(fd)


def many_names():
    for i in range(1000):
        os.close(os.open(f'names/{i}', os.O_CREAT | os.O_EXCL, 0o600))


def unnamed():
    os.close(os.open('.', os.O_TMPFILE | os.O_RDWR))


def told_of_everything():
    told('append', lambda: written('small', 1 << 20, os.O_WRONLY | os.O_APPEND))
    told('overwrite', lambda: written('small', 1, os.O_WRONLY))
    told('allocate', lambda: allocated('small'))
    told('mkdir', lambda: os.mkdir('names/directory'))
    told('symlink', lambda: os.symlink('target', 'names/link'))
    told('mkfifo', lambda: os.mkfifo('names/fifo'))
    told('link', lambda: os.link('small', 'names/other'))
    told('rename', lambda: os.rename('small', 'small'))
    told('unnamed', unnamed)


os.mkdir('names')
written('small', 1)
told('fill', lambda: written('big', 1 << 30))
told_of_everything()
told('names', many_names)
told_of_everything()
os.unlink('big')
for name in os.listdir('names'):
    path = f'names/{name}'
    os.rmdir(path) if os.path.isdir(path) else os.unlink(path)
told_of_everything()
