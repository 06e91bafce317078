"""forged_handles.py MOUNT CANARY KEPT

File handles as root may make them up: each byte of a right one changed, node ids from 0 to far beyond what was handed
out, handles of the file system beneath, and those that CANARY, a file beside MOUNT, and its directory would have. Each
must be refused, or lead to a file below MOUNT. KEPT holds the handles of an earlier mount: the same holds for them.
Writes those of this mount to it.
Prints how many were tried, and how many opened something.
"""
import ctypes, errno, json, os, random, struct, subprocess, sys

mount, canary, kept = sys.argv[1:]
libc = ctypes.CDLL(None, use_errno=True)
AT_FDCWD = -100


class Handle(ctypes.Structure):
    _fields_ = [('bytes', ctypes.c_uint32), ('type', ctypes.c_int32), ('data', ctypes.c_ubyte * 128)]


def handle_of(path):
    handle, mount_id = Handle(128, 0), ctypes.c_int()
    if libc.name_to_handle_at(AT_FDCWD, os.fsencode(path), ctypes.byref(handle), ctypes.byref(mount_id), 0) != 0:
        raise OSError(ctypes.get_errno(), path)
    return handle.type, bytes(handle.data[:handle.bytes])


def open_handle(kind, data):
    handle = Handle(len(data), kind)
    handle.data[:len(data)] = data
    fd = libc.open_by_handle_at(root, ctypes.byref(handle), os.O_RDONLY | os.O_NONBLOCK)
    return fd if fd >= 0 else -ctypes.get_errno()


root = os.open(mount, os.O_RDONLY | os.O_DIRECTORY)
within = {os.lstat(mount).st_ino}
for path, directories, files in os.walk(mount):
    within.update(os.lstat(os.path.join(path, name)).st_ino for name in directories + files)
outside = os.lstat(canary).st_ino
assert outside not in within
tried = opened = 0


def attempt(kind, data):
    global tried, opened
    tried += 1
    fd = open_handle(kind, data)
    if fd < 0:
        assert -fd in (errno.ESTALE, errno.EINVAL, errno.ELOOP, errno.ENXIO, errno.EOPNOTSUPP, errno.EAGAIN), os.strerror(-fd)
        return False
    opened += 1
    status = os.fstat(fd)
    assert status.st_ino != outside
    # One that was removed may live until the kernel has said that it is done with it.
    assert status.st_ino in within or status.st_nlink == 0 or '/.snapshots' in os.readlink(f'/proc/self/fd/{fd}')
    os.close(fd)
    return status.st_nlink > 0


kind, right = handle_of(mount + '/a/file')
assert attempt(kind, right), 'the right one opens'
for handle in json.load(open(kept)) if os.path.exists(kept) else []:
    attempt(handle[0], bytes.fromhex(handle[1]))
rng = random.Random(1)
for at in range(len(right)):
    for _ in range(40):
        forged = bytearray(right)
        forged[at] = rng.randrange(256)
        attempt(kind, bytes(forged))
generation = right[8:12]
for node in [*range(300), *(2**n for n in range(8, 64)), *(2**63 + n for n in range(5)), 2**64 - 1]:
    for tail in (generation, bytes(4), b'\xff' * 4):
        attempt(0x81, struct.pack('=II', node >> 32, node & 0xffffffff) + tail)
        attempt(0x82, struct.pack('=II', node >> 32, node & 0xffffffff) + tail + right[:12])


def as_if_of_the_mount(path):
    birth, inode = subprocess.check_output(['stat', '-c', '%.9W %i', path], text=True).split()
    mixed = int(birth.replace('.', '')) * 0x9e3779b97f4a7c15 % 2**64
    return struct.pack('=III', int(inode) >> 32, int(inode) & 0xffffffff, mixed >> 32)


for name in ('a/file', 'a/b', 'a/b/1', 'a/b/2', 'a/b/3', 'a/b/4', 'a/b/5', 'a/b/6', 'a/b/7', 'a/b/8', 'a/b/9'):
    assert attempt(0x81, as_if_of_the_mount(os.path.join(mount, name))), 'they are made like this'
for path in (canary, os.path.dirname(canary), os.path.dirname(mount), '/'):
    assert not attempt(0x81, as_if_of_the_mount(path)), path
beneath = handle_of(canary)
attempt(*beneath)
attempt(kind, beneath[1])
gone = mount + '/a/gone'
open(gone, 'w').close()
forgotten = handle_of(gone)
os.unlink(gone)
assert not attempt(*forgotten), 'a file that is gone'
with open(kept, 'w') as file:
    names = ['/a/file', '/a', '/a/b']
    json.dump([(k, data.hex()) for k, data in map(handle_of, (mount + name for name in names))], file)
print(tried, opened)
