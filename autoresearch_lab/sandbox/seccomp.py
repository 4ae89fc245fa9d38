"""Linux seccomp: a small filter that keeps a process off the network, off other processes, in its process group, and
off what outlives it in the system's own memory.

Written out as classic BPF, so that no library is needed. On a processor that is not in the table nothing is filtered,
and the caller says so.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import socket
import sys
from dataclasses import dataclass

_PR_SET_SECCOMP, _MODE_FILTER = 22, 2
_ALLOW, _ERRNO, _TRAP, _KILL = 0x7FFF0000, 0x00050000, 0x00030000, 0x80000000
_LOAD, _AND, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x54, 0x15, 0x35, 0x06
# Offsets in struct seccomp_data; of the arguments the lower halves.
_NUMBER, _ARCHITECTURE, _FIRST, _SECOND = 0, 4, 16, 24
_X32_BIT = 0x40000000
_KIND_BITS = 0xF  # of a socket's type; above them lie flags such as SOCK_CLOEXEC

UNENFORCED = ("network", "memory of other processes", "one process group", "System V shared memory")


@dataclass(frozen=True)
class Processor:
    """Numbers of one architecture: its audit id and its system calls.

    shared: memory, semaphores and queues of System V, POSIX's queues, and the keyrings: what is left there can be found
    by a later process. denied: what changes or reads other processes, or leads around what confines this one."""

    audit: int
    socket: int
    connect: int
    accept: int
    accept4: int
    socketpair: int
    setsid: int
    setpgid: int
    ptrace: int
    vm_readv: int
    vm_writev: int
    prlimit: int
    shared: tuple[int, ...]
    denied: tuple[int, ...]


# The same everywhere: io_uring_setup, pidfd_getfd.
_NEW = (425, 438)
_PROCESSORS = {
    "x86_64": Processor(
        audit=0xC000003E, socket=41, connect=42, accept=43, accept4=288, socketpair=53,
        setsid=112, setpgid=109, ptrace=101, vm_readv=310, vm_writev=311, prlimit=302,
        # shmget, shmat, shmctl, semget, semop, semctl, msgget, msgsnd, msgrcv, msgctl, semtimedop, mq_open, mq_unlink,
        # add_key, request_key, keyctl
        shared=(29, 30, 31, 64, 65, 66, 68, 69, 70, 71, 220, 240, 241, 248, 249, 250),
        denied=(*_NEW, 304, 272, 308),  # open_by_handle_at, unshare, setns
    ),
    "aarch64": Processor(
        audit=0xC00000B7, socket=198, connect=203, accept=202, accept4=242, socketpair=199,
        setsid=157, setpgid=154, ptrace=117, vm_readv=270, vm_writev=271, prlimit=261,
        shared=(194, 196, 195, 190, 193, 191, 186, 189, 188, 187, 192, 180, 181, 217, 218, 219),
        denied=(*_NEW, 265, 97, 268),
    ),
}  # fmt: skip


def numbers() -> Processor | None:
    """Those of this machine; None where they are not known."""
    return _PROCESSORS.get(platform.machine()) if sys.platform == "linux" else None


class _Instruction(ctypes.Structure):
    _fields_ = [("code", ctypes.c_uint16), ("yes", ctypes.c_uint8), ("no", ctypes.c_uint8), ("k", ctypes.c_uint32)]


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_uint16), ("instructions", ctypes.POINTER(_Instruction))]


def install(gpu: bool = False) -> list[str]:
    """Filter this process and its children from now on; needs no_new_privs. Returns what could not be enforced.

    No socket can be made (a pipe to the parent is open already) but a pair that is connected to itself, and not one of
    datagrams, which could be sent elsewhere. io_uring could make others and is refused; other processes' memory cannot
    be reached, nor their limits. setsid and setpgid answer success and do nothing, so that whatever is started stays in
    the process group that the parent kills.

    Memory that is shared by name through the system ends the process (SIGSYS): no kernel needs it, and one that only
    had to do without would pass for honest.

    gpu: NVIDIA's driver binds a local socket of its own while it starts and gives up where it cannot. So such a socket
    (AF_UNIX, SOCK_SEQPACKET: it carries nothing until it is connected) can be made, and none can be connected or accept
    anything; to the driver's question for a server of several users the answer is the usual one, that there is none.
    Shared memory is refused with an error only, for NVIDIA's libraries may do without.
    """
    processor = numbers()
    if processor is None:
        return list(UNENFORCED)
    sockets = {processor.socket: errno.EACCES}
    if gpu:
        sockets = {processor.connect: errno.ENOENT, processor.accept: errno.EACCES, processor.accept4: errno.EACCES}
    denied = {
        **sockets,
        **dict.fromkeys(processor.denied, errno.EPERM),
        processor.ptrace: errno.EPERM,
        processor.vm_readv: errno.EPERM,
        processor.vm_writev: errno.EPERM,
        processor.setsid: 0,
        processor.setpgid: 0,
    }
    steps = [(_LOAD, 0, 0, _ARCHITECTURE), (_EQUAL, 1, 0, processor.audit), (_RETURN, 0, 0, _KILL)]
    steps += [(_LOAD, 0, 0, _NUMBER), (_AT_LEAST, 0, 1, _X32_BIT), (_RETURN, 0, 0, _KILL)]
    answers = {number: _ERRNO | code for number, code in denied.items()}
    answers |= dict.fromkeys(processor.shared, _ERRNO | errno.EPERM if gpu else _TRAP)
    for number, answer in answers.items():
        steps += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, answer)]
    # Limits of this process only: 0 stands for it.
    own = [(_LOAD, 0, 0, _FIRST), (_EQUAL, 0, 1, 0), (_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _ERRNO | errno.EPERM)]
    steps += [(_EQUAL, 0, len(own), processor.prlimit), *own]
    # (call, family, types that are allowed); any family will do for a pair.
    conditions: list[tuple[int, int | None, tuple[int, ...]]] = [
        (processor.socketpair, None, (socket.SOCK_STREAM, socket.SOCK_SEQPACKET)),
    ]
    if gpu:
        conditions.append((processor.socket, socket.AF_UNIX, (socket.SOCK_SEQPACKET,)))
    for number, family, kinds in conditions:
        checks = [(_LOAD, 0, 0, _SECOND), (_AND, 0, 0, _KIND_BITS)]
        for kind in kinds:
            checks += [(_EQUAL, 0, 1, int(kind)), (_RETURN, 0, 0, _ALLOW)]
        if family is not None:
            checks = [(_LOAD, 0, 0, _FIRST), (_EQUAL, 0, len(checks), int(family)), *checks]
        checks.append((_RETURN, 0, 0, _ERRNO | errno.EACCES))
        steps += [(_EQUAL, 0, len(checks), number), *checks]
    steps.append((_RETURN, 0, 0, _ALLOW))
    instructions = (_Instruction * len(steps))(*(_Instruction(*step) for step in steps))
    program = _Program(len(steps), instructions)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(program), 0, 0) != 0:
        return list(UNENFORCED)
    return []
