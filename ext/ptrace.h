/* The few system calls of the tracer, one function each; all of them for the thread that spawned.
 *
 * Every function that can fail returns -errno.  On anything but x86-64 Linux all of them return -ENOSYS.
 */
#ifndef VMT_PTRACE_H
#define VMT_PTRACE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "decode.h"

#if defined(__linux__) && defined(__x86_64__) && defined(__LP64__)
#define VMT_TRACES 1
#include <sys/ptrace.h>
#include <sys/user.h>
/* glibc and musl do not agree on the type of the request. */
#define PTRACE(request, tid, address, data) \
    (ptrace(request, (pid_t)(tid), (void *)(uintptr_t)(address), (void *)(uintptr_t)(data)) < 0 ? -errno : 0)
#else
#define VMT_TRACES 0
#endif

/* How far the child came before it failed: what it writes, with errno, to the report pipe. */
enum { VMT_AT_STDIO = 1, VMT_AT_CHDIR, VMT_AT_SECCOMP, VMT_AT_EXEC };

typedef struct {
    int32_t step;
    int32_t error;
} vmt_report;

typedef struct {
    char **paths; /* tried one after the other, as execvp does; ends with NULL */
    char **argv;
    char **envp;
    const char *cwd; /* or NULL */
    int stdio[3];    /* file descriptors, -1: inherited */
    int watch;       /* stop where memory becomes executable */
} vmt_program;

/* What wait found. */
enum { VMT_EXIT, VMT_SIGNAL, VMT_EVENT, VMT_GONE, VMT_RETURN };

enum { VMT_QUEUE = 64 };

typedef struct {
    int32_t kind;
    int32_t tid;
    int32_t signal; /* EXIT, SIGNAL: to be delivered where nobody serves it; EVENT: see ptrace(2), PTRACE_EVENT_STOP;
                     * RETURN: vmt_finish_call's system call is done */
    int32_t event;  /* EVENT: PTRACE_EVENT_... */
    int32_t code;   /* GONE: exit status, or minus the signal */
    int32_t bits;   /* EXIT: 64 or 32 */
    vmt_decoded insn;
#if VMT_TRACES
    struct user_regs_struct regs;
#endif
} vmt_stop;

typedef struct {
    vmt_stop stop;
    int head, count;
    struct {
        pid_t tid;
        int status;
    } queue[VMT_QUEUE];
} vmt_trace;

/* The tags of our SECCOMP_RET_TRACE. What is due: a 32-bit program calls socketcall(SYS_SOCKET); memory is to be mapped
 * or made executable (mmap, mprotect; the 32-bit numbers of both); a program asks for ptrace of another or itself. */
enum {
    VMT_SECCOMP_SOCKETCALL = 0x5658,
    VMT_SECCOMP_MMAP,
    VMT_SECCOMP_MMAP_32,
    VMT_SECCOMP_PROTECT,
    VMT_SECCOMP_PROTECT_32,
    VMT_SECCOMP_PTRACE,
    VMT_SECCOMP_PTRACE_32,
};

/* A child that is traced by the calling thread and has the filter of spawn.c; it is about to exec. Returns its process
 * id. *report: a pipe's end that yields a vmt_report if it never gets there. */
int vmt_spawn(const vmt_program *program, int *report);

/* The next stop or end of a tracee, into trace->stop. -ECHILD: none is left. -EINTR: look for Python's signals. */
int vmt_wait(vmt_trace *trace);

/* ax, bx, cx, dx, si, di, bp of an EXIT. */
void vmt_get_frame(const vmt_stop *stop, uint64_t frame[7]);
/* Write them back, step over the instruction and go on without a signal. */
int vmt_answer(vmt_stop *stop, const uint64_t frame[7]);

int vmt_cont(int tid, int signal);
int vmt_listen(int tid);
/* What a PTRACE_EVENT_... has to say: after an exec the id that the thread had before. */
long vmt_message(int tid);
/* Decide on the socketcall that the tracee's filter left to us (PTRACE_EVENT_SECCOMP), refuse the unknown; the tracee
 * stays stopped. */
int vmt_judge(int tid);
/* The six arguments of the system call that it left to us. */
int vmt_arguments(int tid, int bits, uint64_t arguments[6]);
/* Go on until that system call is done: a VMT_RETURN; then its result: a value, or minus errno. */
int vmt_finish_call(int tid);
int vmt_result(int tid, int64_t *result);

/* Run a system call in a tracee that has just executed a program (PTRACE_EVENT_EXEC): its number in 64-bit
 * code, its number in 32-bit code, three arguments. 0 and its result, or -errno. */
int vmt_inject(int tid, const uint64_t call[5], int64_t *result);

/* ---- memory.c ---- */

/* Exactly `size` bytes, or -EFAULT. */
int vmt_read(int tid, uint64_t address, void *data, size_t size);
int vmt_write(int tid, uint64_t address, const void *data, size_t size);
/* Up to `size` bytes of code, fewer where the mapping ends: read anew at every exit, for programs rewrite code. */
size_t vmt_fetch(int tid, uint64_t address, uint8_t *code, size_t size);
/* Put the breakpoint on an instruction, if these bytes stand there: 1, else 0. */
int vmt_plant(int tid, uint64_t address, const uint8_t *code, size_t size);
/* ---- probe.c ---- */

/* Which of the hypercall instructions trap in user code here: bits 1 << VMT_VMCALL and 1 << VMT_VMMCALL. */
int vmt_hypercalls(void);
/* Whether CPUID can be made to fault here (arch_prctl(2), ARCH_CPUID_FAULT): 1 or 0. */
int vmt_cpuid_faults(void);
int vmt_cpuid(uint32_t leaf, uint32_t subleaf, uint32_t words[4]);
/* The calling thread and its future children get mounts of their own. */
int vmt_own_mounts(void);
int vmt_mount(const char *source, const char *target, const char *type, unsigned long flags, const char *options);

/* From now on this process leaves no core, whatever /proc/sys/kernel/core_pattern says (a pipe there heeds no limit). */
int vmt_no_core(void);

#endif
