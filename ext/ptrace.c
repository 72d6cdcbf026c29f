#define _GNU_SOURCE
#include "ptrace.h"

#include <errno.h>

#if VMT_TRACES

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CS_64 = 0x33, CS_32 = 0x23, PAGE = 4096, PORT = 0x5658, PORT_HIGH = 0x5659, DIRECTION_FLAG = 0x400 };

/* glibc and musl do not agree on the type of the request. */
#define PTRACE(request, tid, address, data) \
    (ptrace(request, (pid_t)(tid), (void *)(uintptr_t)(address), (void *)(uintptr_t)(data)) < 0 ? -errno : 0)

/* ---- memory ---- */

/* Where process_vm_* is not to be had (old kernels, seccomp profiles of containers), a tracer still has this.
 * It differs in one thing: it also writes to pages that the program could only read. */
static int through_proc(int tid, uint64_t address, void *data, size_t size, int writing)
{
    char path[32];
    snprintf(path, sizeof path, "/proc/%d/mem", tid);
    int fd = open(path, (writing ? O_WRONLY : O_RDONLY) | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    int result = 0;
    for (size_t done = 0; done < size;) {
        off_t where = (off_t)(address + done);
        ssize_t n = writing ? pwrite(fd, (char *)data + done, size - done, where)
                            : pread(fd, (char *)data + done, size - done, where);
        if (n <= 0) {
            result = -EFAULT;
            break;
        }
        done += (size_t)n;
    }
    close(fd);
    return result;
}

static int transfer(int tid, uint64_t address, void *data, size_t size, int writing)
{
    if (size == 0) {
        return 0;
    }
    struct iovec here = {data, size}, there = {(void *)(uintptr_t)address, size};
    ssize_t n = writing ? process_vm_writev(tid, &here, 1, &there, 1, 0)
                        : process_vm_readv(tid, &here, 1, &there, 1, 0);
    if (n == (ssize_t)size) {
        return 0;
    }
    if (n < 0 && (errno == ENOSYS || errno == EPERM)) {
        return through_proc(tid, address, data, size, writing);
    }
    return n < 0 ? -errno : -EFAULT;
}

int vmt_read(int tid, uint64_t address, void *data, size_t size)
{
    return transfer(tid, address, data, size, 0);
}

int vmt_write(int tid, uint64_t address, const void *data, size_t size)
{
    return transfer(tid, address, (void *)(uintptr_t)data, size, 1);
}

/* Up to `size` bytes of code, fewer where the mapping ends: read anew at every exit, for programs rewrite code. */
static size_t fetch(int tid, uint64_t address, uint8_t *code, size_t size)
{
    size_t first = PAGE - (address & (PAGE - 1));
    if (first > size) {
        first = size;
    }
    struct iovec here = {code, size};
    struct iovec there[2] = {{(void *)(uintptr_t)address, first}, {(void *)(uintptr_t)(address + first), size - first}};
    ssize_t n = process_vm_readv(tid, &here, 1, there, first < size ? 2 : 1, 0);
    if (n > 0) {
        return (size_t)n;
    }
    /* Pages that may be executed and not read, too, are open to PTRACE_PEEKTEXT. Aligned words cross no page. */
    size_t got = 0;
    while (got < size) {
        uint64_t word_at = (address + got) & ~(uint64_t)7;
        errno = 0;
        long word = ptrace(PTRACE_PEEKTEXT, tid, (void *)(uintptr_t)word_at, 0);
        if (errno) {
            break;
        }
        for (size_t i = (address + got) - word_at; i < 8 && got < size; i++) {
            code[got++] = (uint8_t)((unsigned long)word >> (8 * i));
        }
    }
    return got;
}

/* ---- stops ---- */

/* Is this SIGSEGV or SIGILL a backdoor instruction? Then the stop becomes a VMT_EXIT. */
static void inspect(vmt_stop *stop)
{
    siginfo_t info;
    if (PTRACE(PTRACE_GETSIGINFO, stop->tid, 0, &info) < 0) {
        return;
    }
    if (info.si_signo != stop->signal) {
        stop->signal = 0; /* the stop is over: another thread's exec took this id */
        return;
    }
    /* The processor's own: #GP is SIGSEGV with SI_KERNEL, #UD is SIGILL with a positive code; kill() has neither. */
    if (stop->signal == SIGSEGV ? info.si_code != SI_KERNEL : info.si_code <= 0 || info.si_code == SI_KERNEL) {
        return;
    }
    if (PTRACE(PTRACE_GETREGS, stop->tid, 0, &stop->regs) < 0) {
        return;
    }
    if (stop->regs.cs == CS_64) {
        stop->bits = 64;
    } else if (stop->regs.cs == CS_32) {
        stop->bits = 32;
    } else {
        return;
    }
    uint8_t code[VMT_LONGEST_INSN];
    size_t size = fetch(stop->tid, stop->regs.rip, code, sizeof code);
    if (!vmt_decode(code, size, stop->bits, &stop->insn)) {
        return;
    }
    if (stop->insn.insn <= VMT_PORT_IN) {
        uint16_t port = (uint16_t)stop->regs.rdx;
        if (port != PORT && port != PORT_HIGH) {
            return;
        }
        /* Backwards strings: the interface asks for CLD, and the frame has no flags. */
        if (stop->insn.insn != VMT_PORT_LOW && (stop->regs.eflags & DIRECTION_FLAG)) {
            return;
        }
    }
    stop->kind = VMT_EXIT;
}

static void classify(vmt_stop *stop, pid_t tid, int status)
{
    stop->tid = tid;
    stop->signal = stop->event = stop->code = 0;
    if (WIFEXITED(status)) {
        stop->kind = VMT_GONE;
        stop->code = WEXITSTATUS(status);
    } else if (WIFSIGNALED(status)) {
        stop->kind = VMT_GONE;
        stop->code = -WTERMSIG(status);
    } else {
        stop->signal = WSTOPSIG(status);
        stop->event = status >> 16;
        stop->kind = stop->event ? VMT_EVENT : VMT_SIGNAL;
        if (!stop->event && (stop->signal == SIGSEGV || stop->signal == SIGILL)) {
            inspect(stop);
        }
    }
}

static pid_t collect(vmt_trace *trace, int flags)
{
    /* __WNOTHREAD: tracees of this thread and nobody else's children. */
    int status;
    pid_t tid = waitpid(-1, &status, __WALL | __WNOTHREAD | flags);
    if (tid > 0) {
        trace->queue[trace->count].tid = tid;
        trace->queue[trace->count].status = status;
        trace->count++;
    }
    return tid;
}

int vmt_wait(vmt_trace *trace)
{
    if (trace->head == trace->count) {
        trace->head = trace->count = 0;
        if (collect(trace, 0) < 0) {
            return -errno;
        }
        /* waitpid always begins with the eldest: two threads that trap all the time would keep the others from ever
         * being served. So all that stand in line are taken before the first is let go. */
        while (trace->count < VMT_QUEUE && collect(trace, WNOHANG) > 0) {
        }
    }
    int at = trace->head++;
    classify(&trace->stop, trace->queue[at].tid, trace->queue[at].status);
    return 0;
}

/* ---- answers ---- */

void vmt_get_frame(const vmt_stop *stop, uint64_t frame[7])
{
    const struct user_regs_struct *r = &stop->regs;
    const uint64_t values[7] = {r->rax, r->rbx, r->rcx, r->rdx, r->rsi, r->rdi, r->rbp};
    memcpy(frame, values, sizeof values);
    if (stop->bits == 32) {
        for (int i = 0; i < 7; i++) {
            frame[i] = (uint32_t)frame[i];
        }
    } else if (stop->insn.addr32) {
        frame[2] = (uint32_t)frame[2];
        int pointer = stop->insn.insn == VMT_PORT_OUT ? 4 : 5;
        frame[pointer] = (uint32_t)frame[pointer];
    }
}

int vmt_answer(vmt_stop *stop, const uint64_t frame[7])
{
    struct user_regs_struct *r = &stop->regs;
    uint64_t ax = frame[0];
    if (stop->insn.insn == VMT_PORT_LOW && stop->insn.width < 4) {
        /* VMware leaves EAX alone on OUT and changes AL or AX on the narrow IN. */
        uint64_t mask = stop->insn.width == 0 ? 0 : stop->insn.width == 1 ? 0xff : 0xffff;
        ax = (r->rax & ~mask) | (ax & mask);
    }
    uint64_t keep = stop->bits == 32 ? 0xffffffff : ~(uint64_t)0;
    r->rax = ax & keep;
    r->rbx = frame[1] & keep;
    r->rcx = frame[2] & keep;
    r->rdx = frame[3] & keep;
    r->rsi = frame[4] & keep;
    r->rdi = frame[5] & keep;
    r->rbp = frame[6] & keep;
    r->rip = (r->rip + stop->insn.length) & keep;
    int result = PTRACE(PTRACE_SETREGS, stop->tid, 0, r);
    return result < 0 ? result : vmt_cont(stop->tid, 0);
}

int vmt_cont(int tid, int signal)
{
    return PTRACE(PTRACE_CONT, tid, 0, signal);
}

int vmt_listen(int tid)
{
    return PTRACE(PTRACE_LISTEN, tid, 0, 0);
}

long vmt_message(int tid)
{
    unsigned long message = 0;
    int result = PTRACE(PTRACE_GETEVENTMSG, tid, 0, &message);
    return result < 0 ? result : (long)message;
}

int vmt_judge(int tid)
{
    struct user_regs_struct regs;
    long tag = vmt_message(tid);
    int result = tag < 0 ? (int)tag : PTRACE(PTRACE_GETREGS, tid, 0, &regs);
    if (result < 0) {
        return result;
    }
    int refuse = ENOSYS; /* somebody else's SECCOMP_RET_TRACE: as if it had no tracer */
    if (tag == VMT_SECCOMP_SOCKETCALL) {
        uint32_t domain;
        if (vmt_read(tid, (uint32_t)regs.rcx, &domain, sizeof domain) < 0 || domain != AF_VSOCK) {
            return 0; /* the kernel finds a bad pointer itself */
        }
        refuse = EAFNOSUPPORT;
    }
    regs.orig_rax = ~0ULL; /* no system call */
    regs.rax = (unsigned long long)-refuse;
    return PTRACE(PTRACE_SETREGS, tid, 0, &regs);
}

int vmt_no_core(void)
{
    return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 ? -errno : 0;
}

#else

int vmt_spawn(const vmt_program *program, int *report)
{
    (void)program, (void)report;
    return -ENOSYS;
}

int vmt_wait(vmt_trace *trace)
{
    (void)trace;
    return -ENOSYS;
}

void vmt_get_frame(const vmt_stop *stop, uint64_t frame[7])
{
    (void)stop, (void)frame;
}

int vmt_answer(vmt_stop *stop, const uint64_t frame[7])
{
    (void)stop, (void)frame;
    return -ENOSYS;
}

int vmt_cont(int tid, int signal)
{
    (void)tid, (void)signal;
    return -ENOSYS;
}

int vmt_listen(int tid)
{
    (void)tid;
    return -ENOSYS;
}

long vmt_message(int tid)
{
    (void)tid;
    return -ENOSYS;
}

int vmt_judge(int tid)
{
    (void)tid;
    return -ENOSYS;
}

int vmt_no_core(void)
{
    return -ENOSYS;
}

int vmt_read(int tid, uint64_t address, void *data, size_t size)
{
    (void)tid, (void)address, (void)data, (void)size;
    return -ENOSYS;
}

int vmt_write(int tid, uint64_t address, const void *data, size_t size)
{
    (void)tid, (void)address, (void)data, (void)size;
    return -ENOSYS;
}

#endif
