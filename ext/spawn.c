#define _GNU_SOURCE
#include "ptrace.h"

#if VMT_TRACES

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <string.h>
#include <sys/io.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { X32_BIT = 0x40000000 };

/* Where the filter jumps to. A test either jumps to `target` or falls through: all offsets are computed from these. */
enum {
    I386 = 13,
    SOCKETCALL = 24, SOCKET = 27, MMAP = 30, PROTECT = 33, ATTACH = 36, MMAP_32 = 41, PROTECT_32 = 44, ATTACH_32 = 47,
    LOOK = 52, SEE_MMAP, SEE_MMAP_32, SEE_PROTECT, SEE_PROTECT_32, SEE_PTRACE, SEE_PTRACE_32,
    NOTHING, NO_FAMILY, NO_CALL, END
};

#define LOAD(at, field) [at] = BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)offsetof(struct seccomp_data, field))
#define IS(at, value, target) [at] = BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(value), (target) - (at) - 1, 0)
#define HAS(at, bits, target) [at] = BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, (uint32_t)(bits), (target) - (at) - 1, 0)
#define RETURN(at, value) [at] = BPF_STMT(BPF_RET | BPF_K, (uint32_t)(value))
#define TRACE(at, tag) RETURN(at, SECCOMP_RET_TRACE | (tag))
/* Memory that becomes executable, and a program that would trace. */
#define IF_EXECUTABLE(at, target) LOAD(at, args[2]), HAS((at) + 1, PROT_EXEC, target), RETURN((at) + 2, SECCOMP_RET_ALLOW)
#define IF_TRACING(at, target)                                                                        \
    LOAD(at, args[0]), IS((at) + 1, PTRACE_TRACEME, target), IS((at) + 2, PTRACE_ATTACH, target),     \
        IS((at) + 3, PTRACE_SEIZE, target), RETURN((at) + 4, SECCOMP_RET_ALLOW)

/* The filter is no prison: it keeps a guest program inside the simulation.
 *
 * - ioperm and iopl succeed and do nothing. Were they carried out, IN would reach the machine's real, empty port and
 *   not trap; were they refused, programs would take that for the end.
 * - AF_VSOCK is a family that this kernel does not have: on a real VMware or KVM guest the program would talk to the
 *   real host behind the simulated one's back. io_uring opens sockets where no filter looks, so it does not exist.
 * - Where memory becomes executable, and where a program wants to trace, it stops for the tracer to see.
 * - 32-bit programs have all of these under other numbers, and socketcall, whose arguments are in memory where only the
 *   tracer can look. x32 has the 64-bit numbers with one more bit. */
static const struct sock_filter FILTER[] = {
    LOAD(0, arch),
    IS(1, AUDIT_ARCH_I386, I386),
    LOAD(2, nr),
    [3] = BPF_STMT(BPF_ALU | BPF_AND | BPF_K, ~(uint32_t)X32_BIT),
    IS(4, 172, NOTHING), /* iopl */
    IS(5, 173, NOTHING), /* ioperm */
    IS(6, 41, SOCKET),   /* socket */
    IS(7, 425, NO_CALL), /* io_uring_setup */
    IS(8, 9, MMAP),       /* mmap */
    IS(9, 10, PROTECT),   /* mprotect */
    IS(10, 329, PROTECT), /* pkey_mprotect */
    IS(11, 101, ATTACH),  /* ptrace */
    RETURN(12, SECCOMP_RET_ALLOW),
    LOAD(I386, nr),
    IS(14, 110, NOTHING),    /* iopl */
    IS(15, 101, NOTHING),    /* ioperm */
    IS(16, 359, SOCKET),     /* socket */
    IS(17, 102, SOCKETCALL), /* socketcall */
    IS(18, 425, NO_CALL),    /* io_uring_setup */
    IS(19, 192, MMAP_32),    /* mmap2 */
    IS(20, 125, PROTECT_32), /* mprotect */
    IS(21, 380, PROTECT_32), /* pkey_mprotect */
    IS(22, 26, ATTACH_32),   /* ptrace */
    RETURN(23, SECCOMP_RET_ALLOW),
    LOAD(SOCKETCALL, args[0]),
    IS(25, 1, LOOK), /* SYS_SOCKET */
    RETURN(26, SECCOMP_RET_ALLOW),
    LOAD(SOCKET, args[0]),
    IS(28, AF_VSOCK, NO_FAMILY),
    RETURN(29, SECCOMP_RET_ALLOW),
    IF_EXECUTABLE(MMAP, SEE_MMAP),
    IF_EXECUTABLE(PROTECT, SEE_PROTECT),
    IF_TRACING(ATTACH, SEE_PTRACE),
    IF_EXECUTABLE(MMAP_32, SEE_MMAP_32),
    IF_EXECUTABLE(PROTECT_32, SEE_PROTECT_32),
    IF_TRACING(ATTACH_32, SEE_PTRACE_32),
    TRACE(LOOK, VMT_SECCOMP_SOCKETCALL),
    TRACE(SEE_MMAP, VMT_SECCOMP_MMAP),
    TRACE(SEE_MMAP_32, VMT_SECCOMP_MMAP_32),
    TRACE(SEE_PROTECT, VMT_SECCOMP_PROTECT),
    TRACE(SEE_PROTECT_32, VMT_SECCOMP_PROTECT_32),
    TRACE(SEE_PTRACE, VMT_SECCOMP_PTRACE),
    TRACE(SEE_PTRACE_32, VMT_SECCOMP_PTRACE_32),
    RETURN(NOTHING, SECCOMP_RET_ERRNO | 0),
    RETURN(NO_FAMILY, SECCOMP_RET_ERRNO | EAFNOSUPPORT),
    RETURN(NO_CALL, SECCOMP_RET_ERRNO | ENOSYS),
};

static int confine(int watch)
{
    struct sock_filter filter[END];
    struct sock_fprog program = {END, filter};
    memcpy(filter, FILTER, sizeof filter);
    for (int i = 0; i < END && !watch; i++) {
        if (filter[i].code == (BPF_JMP | BPF_JSET | BPF_K)) {
            filter[i].k = 0; /* nobody asks about executable memory */
        }
    }
    /* SPEC_ALLOW: before Linux 5.16 a filter otherwise switched speculation off, which slows the program down. */
    unsigned flags = SECCOMP_FILTER_FLAG_SPEC_ALLOW;
    for (;;) {
        if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program) == 0) {
            return 0;
        }
        if (errno == EINVAL && flags) {
            flags = 0;
        } else if (errno != EACCES || prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 ||
                   prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) {
            return -1; /* EACCES asked for no_new_privs; whoever has CAP_SYS_ADMIN keeps setuid programs working */
        }
    }
}

static void report_and_exit(int fd, int step)
{
    vmt_report report = {step, errno};
    ssize_t n = write(fd, &report, sizeof report);
    _exit(n == (ssize_t)sizeof report ? 127 : 126);
}

/* Between fork and exec of a process that may have had threads: system calls only. */
static void child(const vmt_program *program, int go, int report, const sigset_t *mask)
{
    char byte;
    while (read(go, &byte, 1) != 1) {
        if (errno != EINTR) {
            _exit(126); /* the tracer died */
        }
    }

    /* What Python ignores is its own business. What it catches exec would reset anyway; until then a handler would
     * write to the parent's wake-up pipe. What was ignored when it started (nohup) stays so. */
    struct sigaction by_default = {.sa_handler = SIG_DFL}, now;
    for (int signal = 1; signal < NSIG; signal++) {
        if (signal == SIGPIPE || signal == SIGXFSZ ||
            (sigaction(signal, NULL, &now) == 0 && now.sa_handler != SIG_IGN && now.sa_handler != SIG_DFL)) {
            sigaction(signal, &by_default, NULL);
        }
    }
    sigprocmask(SIG_SETMASK, mask, NULL);

    int above[3];
    for (int i = 0; i < 3; i++) {
        above[i] = program->stdio[i] < 0 ? -1 : fcntl(program->stdio[i], F_DUPFD_CLOEXEC, 3);
        if (program->stdio[i] >= 0 && above[i] < 0) {
            report_and_exit(report, VMT_AT_STDIO);
        }
    }
    for (int i = 0; i < 3; i++) {
        if (above[i] >= 0 && dup2(above[i], i) < 0) {
            report_and_exit(report, VMT_AT_STDIO);
        }
    }
    if (program->cwd && chdir(program->cwd) < 0) {
        report_and_exit(report, VMT_AT_CHDIR);
    }
    /* What was granted before would pass through exec, and the program would reach the machine's real device. */
    ioperm(0, 65536, 0);
    iopl(0);
    if (confine(program->watch) < 0) {
        report_and_exit(report, VMT_AT_SECCOMP);
    }
    int error = ENOENT;
    for (char **path = program->paths; *path; path++) {
        execve(*path, program->argv, program->envp);
        if (!program->paths[1] || (errno != ENOENT && errno != ENOTDIR)) {
            error = errno; /* "permission denied" says more than that the last folder has no such file */
        }
    }
    errno = error;
    report_and_exit(report, VMT_AT_EXEC);
}

/* Pipes of descriptors above 2, so that the dup2 in the child can't run them over. */
static int pipe_above(int ends[2])
{
    int low[2];
    if (pipe2(low, O_CLOEXEC) < 0) {
        return -errno;
    }
    for (int i = 0; i < 2; i++) {
        ends[i] = fcntl(low[i], F_DUPFD_CLOEXEC, 3);
    }
    int error = errno;
    close(low[0]);
    close(low[1]);
    if (ends[0] >= 0 && ends[1] >= 0) {
        return 0;
    }
    close(ends[0]);
    close(ends[1]);
    return -error;
}

int vmt_spawn(const vmt_program *program, int *report)
{
    static const long OPTIONS = PTRACE_O_EXITKILL | PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK |
                                PTRACE_O_TRACEEXEC | PTRACE_O_TRACESECCOMP | PTRACE_O_TRACESYSGOOD;
    int go[2], told[2], result;
    if ((result = pipe_above(go)) < 0) {
        return result;
    }
    if ((result = pipe_above(told)) < 0) {
        close(go[0]);
        close(go[1]);
        return result;
    }
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pid_t pid = fork();
    if (pid == 0) {
        close(go[1]);
        child(program, go[0], told[1], &before);
    }
    result = pid < 0 ? -errno : pid;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    close(go[0]);
    close(told[1]);

    if (pid > 0 && (ptrace(PTRACE_SEIZE, pid, NULL, (void *)OPTIONS) < 0 || write(go[1], "", 1) != 1)) {
        result = -errno;
        kill(pid, SIGKILL);
        while (waitpid(pid, NULL, __WALL) < 0 && errno == EINTR) {
        }
    }
    close(go[1]);
    if (result < 0) {
        close(told[0]);
    } else {
        *report = told[0];
    }
    return result;
}

#endif
