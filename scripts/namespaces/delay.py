#!/usr/bin/env python3
"""
delay.py MILLISECONDS ONE OTHER: a wire between two network interfaces that delivers each frame so many milliseconds later.

For kernels without netem. Frames keep the header that the kernel puts before them (PACKET_VNET_HDR), so that a check sum that
was left to the card, and a packet that was left to it to cut, are passed on as they are. While an interface is down, what is
sent over it is lost, as on a cable that was pulled. Ends with its parent.
"""
import collections
import ctypes
import errno
import select
import signal
import socket
import sys
import time

SOL_PACKET, PACKET_VNET_HDR, PACKET_IGNORE_OUTGOING = 263, 15, 23
PR_SET_PDEATHSIG = 1
ETH_P_ALL = 3
MOST_WAITING = 20000


def end_of_wire(name):
    end = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    end.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    end.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    end.setblocking(False)
    end.bind((name, ETH_P_ALL))
    return end


def take(end, waiting, due):
    while len(waiting) < MOST_WAITING:
        try:
            waiting.append((due, end.recv(70000)))
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.ENETDOWN:
                raise
            return


def give(end, waiting, now):
    while waiting and waiting[0][0] <= now:
        frame = waiting.popleft()[1]
        try:
            end.send(frame)
        except OSError as error:
            if error.errno not in (errno.ENETDOWN, errno.ENOBUFS, errno.EAGAIN, errno.ENXIO):
                raise


def main():
    delay = float(sys.argv[1]) / 1000
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    ends = [end_of_wire(name) for name in sys.argv[2:4]]
    queues = {ends[0]: collections.deque(), ends[1]: collections.deque()}
    other = {ends[0]: ends[1], ends[1]: ends[0]}
    print("ready", flush=True)
    while True:
        next_due = min((queue[0][0] for queue in queues.values() if queue), default=None)
        wait = None if next_due is None else max(0, next_due - time.monotonic())
        for end in select.select(ends, [], [], wait)[0]:
            take(end, queues[end], time.monotonic() + delay)
        for end, queue in queues.items():
            give(other[end], queue, time.monotonic())


main()
