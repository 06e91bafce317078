"""A peer of kith-passthrough that tries what it must not get. Usage: passthrough_peer.py SOCKET DIR

Mounts a FUSE file system of its own over DIR/own and agrees on passthrough, so that the kernel would take the files. Prints
one line for each attempt: what, and the errno of the refusal, 0 when it was registered, or `gone`.
"""
import array
import errno
import os
import socket
import struct
import subprocess
import sys

where, base = sys.argv[1:]
OPEN, CLOSE = 1, 2


def mounted():
    own = os.path.join(base, 'own')
    os.mkdir(own)
    ours, theirs = socket.socketpair()
    environment = dict(os.environ, _FUSE_COMMFD=str(theirs.fileno()))
    command = ['fusermount3', '-o', 'fsname=kith-test', '--', own]
    subprocess.run(command, env=environment, pass_fds=[theirs.fileno()], check=True)
    _, fds, _, _ = socket.recv_fds(ours, 1, 1)
    unique = struct.unpack_from('<Q', os.read(fds[0], 1 << 20), 8)[0]
    # INIT_EXT, MAX_PAGES; PASSTHROUGH is bit 37, 5 of the second word; a stack of one.
    out = struct.pack('<IIIIHHIIHHII6I', 7, 45, 1 << 20, 1 << 30 | 1 << 22, 8, 4, 1 << 20, 1, 256, 0, 1 << 5, 1, *[0] * 6)
    os.write(fds[0], struct.pack('<IiQ', 16 + len(out), 0, unique) + out)
    return own, fds[0]


def connect():
    peer = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    peer.connect(where)
    return peer


def ask(peer, operation, fds, number=0, length=8):
    """The reply to an open, or None when the peer hung up."""
    message = struct.pack('=Ii', operation, number)[:length].ljust(length, b'\0')
    try:
        peer.sendmsg([message], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', fds))] if fds else [])
        reply = peer.recv(4) if operation != CLOSE or length != 8 else b'\0' * 4
    except ConnectionError:
        return None
    return struct.unpack('=i', reply)[0] if reply else None


def say(what, reply):
    print(what, 'gone' if reply is None else 0 if reply > 0 else errno.errorcode.get(-reply, 0), flush=True)


own, device = mounted()
path = os.path.join(base, 'mine')
fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
os.mkfifo(os.path.join(base, 'fifo'))
peer = connect()
first = ask(peer, OPEN, [device, fd])
say('own file', first)
for what, name, flags in [
    ('for reading', path, os.O_RDONLY),
    ('for writing', path, os.O_WRONLY),
    ('a path only', path, os.O_PATH),
    ('a secret by its path', '/etc/shadow', os.O_PATH),
    ('for appending', path, os.O_RDWR | os.O_APPEND),
    ('a directory', base, os.O_RDONLY),
    ('a pipe', os.path.join(base, 'fifo'), os.O_RDWR),
    ('a file of proc', '/proc/self/oom_score_adj', os.O_RDWR),
    ('a device', '/dev/null', os.O_RDWR),
]:
    tried = os.open(name, flags)
    say(what, ask(peer, OPEN, [device, tried]))
    os.close(tried)
null = os.open('/dev/null', os.O_RDWR)
say('no fuse device', ask(peer, OPEN, [null, fd]))
say('a fuse device by its path', ask(peer, OPEN, [os.open('/dev/fuse', os.O_PATH), fd]))
say('a file as the device', ask(peer, OPEN, [fd, fd]))
for what, arguments in [
    ('no descriptors', (OPEN, [])),
    ('one descriptor', (OPEN, [device])),
    ('three descriptors', (OPEN, [device, fd, fd])),
    ('another operation', (9, [device, fd])),
    ('a short message', (OPEN, [device, fd], 0, 7)),
    ('a long message', (OPEN, [device, fd], 0, 900)),
]:
    say(what, ask(connect(), *arguments))

ids = [first]
while True:
    reply = ask(peer, OPEN, [device, fd])
    if reply < 0:
        break
    ids.append(reply)
say(f'{len(ids)} files', reply)
for number in ids[1:]:
    ask(peer, CLOSE, [device], number)
for number in ids[:100]:
    ask(peer, CLOSE, [device], -number)  # of none
say('after closing', ask(peer, OPEN, [device, fd]))
peers = []
while len(peers) < 100 and ask(connect_one := connect(), OPEN, [device, fd]) is not None:
    peers.append(connect_one)
print('more peers', len(peers))
for pid in map(int, sys.stdin.readline().split()):
    try:
        os.kill(pid, 9)
        print('killed', pid)
    except PermissionError:
        pass
subprocess.run(['fusermount3', '-u', '-z', '--', own], check=True)
