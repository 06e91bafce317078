"""yielding.py PID DIR LOADAVG

Which threads of the kith-fuse PID have SCHED_IDLE while programs call in DIR, and the file LOADAVG, which it reads in place
of /proc/loadavg, says how many threads run. It is looked every half millisecond, by real-time priority. Prints what was seen.
"""
import os
import signal
import sys
import time

pid, place, loadavg = int(sys.argv[1]), sys.argv[2], sys.argv[3]
patience = 60


def running(count):
    """In place, and of one length: what is open elsewhere is this file, and is never read half written."""
    fd = os.open(loadavg, os.O_WRONLY | os.O_CREAT)
    os.pwrite(fd, b"0.00 0.00 0.00 %02d/100 1\n" % count, 0)
    os.close(fd)


def storm():
    child = os.fork()
    if child == 0:
        path = os.path.join(place, "x")
        while True:
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
            os.unlink(path)
    return child


def policies():
    found = []
    for thread in os.listdir(f"/proc/{pid}/task"):
        try:
            found.append(os.sched_getscheduler(int(thread)))
        except ProcessLookupError:
            pass  # it has ended
    return found


def until(wanted, what):
    end = time.monotonic() + patience
    while not wanted(policies()):
        if time.monotonic() > end:
            print("never", what)
            return
        time.sleep(0.0005)
    print(what)


def yielding(found):
    return os.SCHED_IDLE in found


def usual(found):
    return os.SCHED_IDLE not in found


running(2)  # who looks is one of them
caller = storm()
os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
try:
    until(yielding, "yielding")
    running(99)
    until(usual, "usual when the processors are busy")
    print(sum(yielding(policies()) or time.sleep(0.0005) or 0 for _ in range(200)), "times after that")
    running(2)
    until(yielding, "yielding again")
finally:
    os.kill(caller, signal.SIGKILL)
    os.waitpid(caller, 0)
until(usual, "usual when nobody calls")
