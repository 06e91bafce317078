"""file_handles.py DIR

File handles of 500 files and of directories, opened again at once and after the kernel has let go of what it knew (as it
may at any time): with the files as they were, renamed, linked anew, half of them removed, and others in their place.
Prints what each of them led to.
"""
import ctypes, errno, os, sys
from collections import Counter

libc = ctypes.CDLL(None, use_errno=True)
AT_FDCWD, COUNT = -100, 500
os.chdir(sys.argv[1])
here = os.open('.', os.O_RDONLY)


class Handle(ctypes.Structure):
    _fields_ = [('bytes', ctypes.c_uint32), ('type', ctypes.c_int32), ('data', ctypes.c_ubyte * 128)]


def handle_of(path):
    handle, mount_id = Handle(128, 0), ctypes.c_int()
    if libc.name_to_handle_at(AT_FDCWD, os.fsencode(path), ctypes.byref(handle), ctypes.byref(mount_id), 0) != 0:
        raise OSError(ctypes.get_errno(), path)
    return handle


def open_handle(handle, flags):
    fd = libc.open_by_handle_at(here, ctypes.byref(handle), flags)
    if fd < 0:
        raise OSError(ctypes.get_errno(), '')
    return fd


def let_go():
    with open('/proc/sys/vm/drop_caches', 'w') as file:
        file.write('2')


def found(handle, is_dir):
    try:
        fd = open_handle(handle, os.O_DIRECTORY if is_dir else os.O_RDWR)
    except OSError as error:
        return errno.errorcode[error.errno]
    try:
        if is_dir:
            return os.path.relpath(os.readlink(f'/proc/self/fd/{fd}'), os.getcwd()), sorted(os.listdir(fd))[:3]
        return os.pread(fd, 100, 0).decode()
    finally:
        os.close(fd)


os.makedirs('d/a/b')
for i in range(COUNT):
    with open(f'd/{i}', 'w') as file:
        file.write(f'content {i}')
os.symlink('nowhere', 'd/link')
os.mkfifo('d/fifo')
files = [handle_of(f'd/{i}') for i in range(COUNT)]
directories = [handle_of(path) for path in ('.', 'd', 'd/a', 'd/a/b')]
others = [handle_of('d/link'), handle_of('d/fifo')]


def look(when):
    right = Counter()
    for i, handle in enumerate(files):
        what = found(handle, False)
        right['its own' if what == f'content {i}' else what] += 1
    print(when, sorted(right.items()), *(found(handle, True) for handle in directories))
    for handle in others:
        fd = open_handle(handle, os.O_PATH | os.O_NOFOLLOW)
        print(oct(os.fstat(fd).st_mode))
        os.close(fd)


look('known')
let_go()
look('forgotten')
for i in range(COUNT):
    os.rename(f'd/{i}', f'd/a/{i}')
let_go()
look('renamed')
for i in range(COUNT):
    os.link(f'd/a/{i}', f'd/a/b/{i}')
    os.unlink(f'd/a/{i}')
let_go()
look('linked anew')
for i in range(0, COUNT, 2):
    os.unlink(f'd/a/b/{i}')
look('half removed')
for i in range(COUNT):
    with open(f'd/a/other {i}', 'w') as file:
        file.write('other')
let_go()
look('others in their place')
os.rename('d/a', 'e')
let_go()
look('directory moved')
