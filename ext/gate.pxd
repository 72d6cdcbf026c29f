"""Table of contents of the gate's C side: the frame, the instructions (insn.h), the guard (fault.h)."""

from libc.stdint cimport uint32_t, uint64_t


cdef extern from "insn.h" nogil:
    ctypedef struct vmt_frame:
        uint64_t ax, bx, cx, dx, si, di, bp

    ctypedef uint32_t (*vmt_insn)(vmt_frame *)

    uint32_t vmt_low(vmt_frame *)
    uint32_t vmt_high_out(vmt_frame *)
    uint32_t vmt_high_in(vmt_frame *)


cdef extern from "fault.h" nogil:
    const char *VMT_ARCHITECTURE

    # on architectures without them, functions that answer as an illegal instruction would
    uint32_t vmt_vmcall(vmt_frame *)
    uint32_t vmt_vmmcall(vmt_frame *)
    uint32_t vmt_rdpmc(vmt_frame *)
    uint32_t vmt_cpuid(vmt_frame *)

    ctypedef struct vmt_guard:
        pass

    int vmt_guard_init()
    void vmt_guard_enter(vmt_guard *)
    void vmt_guard_leave(const vmt_guard *)
    int vmt_ioperm(unsigned long first, unsigned long count, int on)
