"""Table of contents of the tracer's C side: decode.h (which instruction is it?) and ptrace.h (the
system calls, and what can be found out about this machine)."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t


cdef extern from "ptrace.h" nogil:
    enum:
        VMT_TRACES
        VMT_AT_STDIO, VMT_AT_CHDIR, VMT_AT_SECCOMP, VMT_AT_EXEC
        VMT_EXIT, VMT_SIGNAL, VMT_EVENT, VMT_GONE, VMT_RETURN
        VMT_CPUID
        VMT_SECCOMP_MMAP, VMT_SECCOMP_MMAP_32, VMT_SECCOMP_PROTECT, VMT_SECCOMP_PROTECT_32
        VMT_SECCOMP_PTRACE, VMT_SECCOMP_PTRACE_32

    ctypedef struct vmt_decoded:
        uint8_t insn, length, width, addr32

    int vmt_decode(const uint8_t *code, size_t size, int bits, vmt_decoded *out)

    ctypedef struct vmt_program:
        char **paths
        char **argv
        char **envp
        const char *cwd
        int stdio[3]
        int watch

    ctypedef struct vmt_stop:
        int32_t kind, tid, signal, event, code, bits
        vmt_decoded insn

    ctypedef struct vmt_trace:
        vmt_stop stop

    int vmt_spawn(const vmt_program *program, int *report)
    int vmt_wait(vmt_trace *trace)
    void vmt_get_frame(const vmt_stop *stop, uint64_t *frame)
    int vmt_answer(vmt_stop *stop, const uint64_t *frame)
    int vmt_cont(int tid, int signal)
    int vmt_listen(int tid)
    long vmt_message(int tid)
    int vmt_judge(int tid)
    int vmt_arguments(int tid, int bits, uint64_t *arguments)
    int vmt_finish_call(int tid)
    int vmt_result(int tid, int64_t *result)
    int vmt_plant(int tid, uint64_t address, const uint8_t *code, size_t size)
    int vmt_inject(int tid, const uint64_t *call, int64_t *result)
    int vmt_hypercalls()
    int vmt_cpuid_faults()
    int vmt_cpuid(uint32_t leaf, uint32_t subleaf, uint32_t *words)
    int vmt_own_mounts()
    int vmt_mount(const char *source, const char *target, const char *type, unsigned long flags, const char *options)
    int vmt_no_core()
    int vmt_read(int tid, uint64_t address, void *data, size_t size)
    int vmt_write(int tid, uint64_t address, const void *data, size_t size)
