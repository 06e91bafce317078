"""What the case programs beside this file share.

A case is a function that works in an empty directory of its own and says what it saw. The test runs the cases once on
the mount and once on a bare directory beside it, and the two must say the same. Where the right answer is known it is
also checked (check, equal, fails), so that both being wrong does not pass.

    python3 names.py DIR [CASE ...]      one JSON line a case: [name, [what it said]]
"""
import ctypes, errno, json, os, stat, sys

libc = ctypes.CDLL(None, use_errno=True)
AT_FDCWD = -100
NOREPLACE, EXCHANGE, WHITEOUT = 1, 2, 4
KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE = 1, 2, 16

said = []
cases = {}


def case(run):
    cases[run.__name__] = run
    return run


def say(*words):
    said.append([repr(word) for word in words])


def attempt(what, *args, **kw):
    """Says and returns the name of the error, or the result's own words."""
    try:
        result = what(*args, **kw)
    except OSError as error:
        result = errno.errorcode.get(error.errno, error.errno)
    say(getattr(what, '__name__', 'call'), result)
    return result


def fails(code, what, *args, **kw):
    result = attempt(what, *args, **kw)
    check(result == code, f'{what.__name__} {args!r}: {result}, not {code}')


def check(right, why):
    if not right:
        say('WRONG', why)


def equal(got, wanted):
    say(got)
    check(got == wanted, f'{got!r} is not {wanted!r}')


def write(path, data=b'x', mode=0o644):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    os.write(fd, data)
    os.close(fd)


def read(path):
    with open(path, 'rb') as file:
        return file.read()


def mode(path):
    return oct(stat.S_IMODE(os.lstat(path).st_mode))


def call(result):
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def renameat2(old, new, flags):
    return call(libc.renameat2(AT_FDCWD, os.fsencode(old), AT_FDCWD, os.fsencode(new), flags))


def link_descriptor(fd, name):
    AT_SYMLINK_FOLLOW = 0x400
    return call(libc.linkat(AT_FDCWD, f'/proc/self/fd/{fd}'.encode(), AT_FDCWD, name.encode(), AT_SYMLINK_FOLLOW))


def fallocate(fd, how, offset, length):
    return call(libc.fallocate(fd, how, ctypes.c_long(offset), ctypes.c_long(length)))


def as_user(uid, gid, groups, run):
    """Runs in a child with that identity; what it says counts."""
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(out)
            said.clear()
            os.setgroups(groups)
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
            run()
        except BaseException as error:
            say('WRONG', f'{type(error).__name__}: {error}')
        os.write(into, json.dumps(said).encode())
        os._exit(0)
    os.close(into)
    with os.fdopen(out, 'rb') as file:
        said.extend(json.loads(file.read() or b'[]'))
    os.waitpid(child, 0)


def main():
    base = sys.argv[1]
    os.umask(0o022)
    only = sys.argv[2:]
    for name, run in cases.items():
        if only and name not in only:
            continue
        here = os.path.join(base, name)
        os.mkdir(here)
        sys.stdout.flush()
        child = os.fork()
        if child:
            os.waitpid(child, 0)
            continue
        os.chdir(here)
        try:
            run()
        except BaseException as error:
            say('WRONG', f'{type(error).__name__}: {error}')
        print(json.dumps([name, said]), flush=True)
        os._exit(0)

