# cython: freethreading_compatible=True, subinterpreters_compatible=own_gil
"""The instructions that reach a VMware host, and the guard that turns their faults into answers.

Thin: registers in, one instruction, registers out, the GIL released meanwhile.  Which instruction to use, and with
what privilege, is for :mod:`vmtools.gates`.  See gate.pyi for what a user needs to know.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.exc cimport PyErr_SetFromErrno
from libc.stdint cimport uint32_t, uint64_t

from gate cimport (
    VMT_ARCHITECTURE,
    vmt_cpuid,
    vmt_frame,
    vmt_guard,
    vmt_guard_enter,
    vmt_guard_init,
    vmt_guard_leave,
    vmt_high_in,
    vmt_high_out,
    vmt_insn,
    vmt_ioperm,
    vmt_low,
    vmt_rdpmc,
    vmt_vmcall,
    vmt_vmmcall,
)

ARCHITECTURE = VMT_ARCHITECTURE.decode()

if vmt_guard_init():
    raise OSError("pthread_atfork failed: no memory")


cdef class Frame:
    cdef public uint64_t ax, bx, cx, dx, si, di, bp

    def __init__(
        self,
        uint64_t ax=0,
        uint64_t bx=0,
        uint64_t cx=0,
        uint64_t dx=0,
        uint64_t si=0,
        uint64_t di=0,
        uint64_t bp=0,
    ):
        self.ax = ax
        self.bx = bx
        self.cx = cx
        self.dx = dx
        self.si = si
        self.di = di
        self.bp = bp

    def __repr__(self):
        names = ("ax", "bx", "cx", "dx", "si", "di", "bp")
        return f"Frame({', '.join([f'{name}=0x{getattr(self, name):08x}' for name in names])})"


# Pointers, where given, stand in for the frame's own SI and DI: an address is nobody's business but ours.
# No bytecode runs between the instruction and the frame's change, so no KeyboardInterrupt can lose an answer.
cdef uint32_t execute(vmt_insn insn, Frame frame, void *source, void *target, bint hold=False):
    cdef vmt_frame regs
    cdef vmt_guard guard
    cdef uint32_t fault
    regs.ax = frame.ax
    regs.bx = frame.bx
    regs.cx = frame.cx
    regs.dx = frame.dx
    regs.si = <uint64_t><size_t>source if source else frame.si
    regs.di = <uint64_t><size_t>target if target else frame.di
    regs.bp = frame.bp
    vmt_guard_enter(&guard)
    if hold:
        fault = insn(&regs)
    else:
        with nogil:
            fault = insn(&regs)
    vmt_guard_leave(&guard)
    frame.ax = regs.ax
    frame.bx = regs.bx
    frame.cx = regs.cx
    frame.dx = regs.dx
    if not source:
        frame.si = regs.si
    if not target:
        frame.di = regs.di
    frame.bp = regs.bp
    return fault


cdef uint32_t execute_out(vmt_insn insn, Frame frame, object data) except? 0xFFFFFFFF:
    cdef Py_buffer view
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        if frame.cx != <uint64_t>view.len or not view.len:
            raise ValueError(f"CX says {frame.cx} bytes, the buffer holds {view.len}")
        return execute(insn, frame, view.buf, NULL)
    finally:
        PyBuffer_Release(&view)


cdef uint32_t execute_in(vmt_insn insn, Frame frame, object buffer) except? 0xFFFFFFFF:
    cdef Py_buffer view
    PyObject_GetBuffer(buffer, &view, PyBUF_WRITABLE)
    try:
        if frame.cx != <uint64_t>view.len or not view.len:
            raise ValueError(f"CX says {frame.cx} bytes, the buffer holds {view.len}")
        return execute(insn, frame, NULL, view.buf)
    finally:
        PyBuffer_Release(&view)


def low(Frame frame not None, bint hold=False):
    return execute(vmt_low, frame, NULL, NULL, hold)


def high_out(Frame frame not None, data):
    return execute_out(vmt_high_out, frame, data)


def high_in(Frame frame not None, buffer):
    return execute_in(vmt_high_in, frame, buffer)


def vmcall(Frame frame not None, bint hold=False):
    return execute(vmt_vmcall, frame, NULL, NULL, hold)


def vmcall_out(Frame frame not None, data):
    return execute_out(vmt_vmcall, frame, data)


def vmcall_in(Frame frame not None, buffer):
    return execute_in(vmt_vmcall, frame, buffer)


def vmmcall(Frame frame not None, bint hold=False):
    return execute(vmt_vmmcall, frame, NULL, NULL, hold)


def vmmcall_out(Frame frame not None, data):
    return execute_out(vmt_vmmcall, frame, data)


def vmmcall_in(Frame frame not None, buffer):
    return execute_in(vmt_vmmcall, frame, buffer)


def rdpmc(Frame frame not None):
    return execute(vmt_rdpmc, frame, NULL, NULL)


def cpuid(Frame frame not None):
    return execute(vmt_cpuid, frame, NULL, NULL)


def ioperm(unsigned long first, unsigned long count, bint on):
    if vmt_ioperm(first, count, on):
        PyErr_SetFromErrno(OSError)
