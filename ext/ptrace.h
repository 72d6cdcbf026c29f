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
#include <sys/user.h>
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
} vmt_program;

/* What wait found. */
enum { VMT_EXIT, VMT_SIGNAL, VMT_EVENT, VMT_GONE };

enum { VMT_QUEUE = 64 };

typedef struct {
    int32_t kind;
    int32_t tid;
    int32_t signal; /* EXIT, SIGNAL: to be delivered where nobody serves it; EVENT: see ptrace(2), PTRACE_EVENT_STOP */
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

/* The tag of our SECCOMP_RET_TRACE: a 32-bit program called socketcall(SYS_SOCKET). */
enum { VMT_SECCOMP_SOCKETCALL = 0x5658 };

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
/* Decide what the tracee's filter left to us (PTRACE_EVENT_SECCOMP); the tracee stays stopped. */
int vmt_judge(int tid);

/* Exactly `size` bytes, or -EFAULT. */
int vmt_read(int tid, uint64_t address, void *data, size_t size);
int vmt_write(int tid, uint64_t address, const void *data, size_t size);

/* From now on this process leaves no core, whatever /proc/sys/kernel/core_pattern says (a pipe there heeds no limit). */
int vmt_no_core(void);

#endif
