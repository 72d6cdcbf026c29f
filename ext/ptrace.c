#define _GNU_SOURCE
#include "ptrace.h"

#include <errno.h>

#if VMT_TRACES

#include <signal.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/wait.h>

enum { CS_64 = 0x33, CS_32 = 0x23, PORT = 0x5658, PORT_HIGH = 0x5659, DIRECTION_FLAG = 0x400 };
enum { CALL_STOP = SIGTRAP | 0x80, KERNEL_SIGNALS = 8 }; /* PTRACE_O_TRACESYSGOOD; bytes of the kernel's signal mask */

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
    size_t size = vmt_fetch(stop->tid, stop->regs.rip, code, sizeof code);
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
    } else if (WSTOPSIG(status) == CALL_STOP) {
        stop->kind = VMT_RETURN;
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

int vmt_arguments(int tid, int bits, uint64_t arguments[6])
{
    struct user_regs_struct r;
    int result = PTRACE(PTRACE_GETREGS, tid, 0, &r);
    if (result < 0) {
        return result;
    }
    const uint64_t wide[6] = {r.rdi, r.rsi, r.rdx, r.r10, r.r8, r.r9};
    const uint64_t narrow[6] = {(uint32_t)r.rbx, (uint32_t)r.rcx, (uint32_t)r.rdx,
                                (uint32_t)r.rsi, (uint32_t)r.rdi, (uint32_t)r.rbp};
    memcpy(arguments, bits == 64 ? wide : narrow, sizeof wide);
    return 0;
}

int vmt_finish_call(int tid)
{
    return PTRACE(PTRACE_SYSCALL, tid, 0, 0);
}

int vmt_result(int tid, int64_t *value)
{
    struct user_regs_struct regs;
    int result = PTRACE(PTRACE_GETREGS, tid, 0, &regs);
    *value = (int64_t)regs.rax;
    return result;
}

/* ---- code that is not the program's ---- */

/* To the next stop at a system call's beginning or end. With all signals blocked only SIGSTOP can come between. */
static int to_call_stop(int tid, int *stopped)
{
    for (int status;;) {
        int result = vmt_finish_call(tid);
        if (result < 0) {
            return result;
        }
        if (waitpid(tid, &status, __WALL | __WNOTHREAD) < 0) {
            return -errno;
        }
        if (!WIFSTOPPED(status)) {
            return -ESRCH; /* killed */
        }
        if (WSTOPSIG(status) == CALL_STOP) {
            return 0;
        }
        *stopped |= WSTOPSIG(status) == SIGSTOP && status >> 16 == 0;
    }
}

int vmt_inject(int tid, const uint64_t call[5], int64_t *value)
{
    struct user_regs_struct before, regs;
    uint64_t mask, all = ~0ULL;
    unsigned long code, word;
    int stopped = 0, result;
    if ((result = PTRACE(PTRACE_GETSIGMASK, tid, KERNEL_SIGNALS, &mask)) < 0 ||
        (result = PTRACE(PTRACE_SETSIGMASK, tid, KERNEL_SIGNALS, &all)) < 0) {
        return result;
    }
    /* Out of execve first: its return would write RAX. */
    if ((result = to_call_stop(tid, &stopped)) < 0 || (result = PTRACE(PTRACE_GETREGS, tid, 0, &before)) < 0) {
        return result;
    }
    errno = 0;
    code = (unsigned long)ptrace(PTRACE_PEEKTEXT, tid, (void *)(uintptr_t)before.rip, 0);
    if (errno) {
        return -errno;
    }
    regs = before;
    if (before.cs == CS_64) {
        word = 0x050f; /* SYSCALL */
        regs.rax = call[0], regs.rdi = call[2], regs.rsi = call[3], regs.rdx = call[4];
    } else {
        word = 0x80cd; /* INT 0x80 */
        regs.rax = call[1], regs.rbx = call[2], regs.rcx = call[3], regs.rdx = call[4];
    }
    word |= code & ~0xffffUL;
    if ((result = PTRACE(PTRACE_POKETEXT, tid, before.rip, word)) < 0 ||
        (result = PTRACE(PTRACE_SETREGS, tid, 0, &regs)) < 0 || (result = to_call_stop(tid, &stopped)) < 0 ||
        (result = to_call_stop(tid, &stopped)) < 0 || (result = vmt_result(tid, value)) < 0 ||
        (result = PTRACE(PTRACE_POKETEXT, tid, before.rip, code)) < 0 ||
        (result = PTRACE(PTRACE_SETREGS, tid, 0, &before)) < 0 ||
        (result = PTRACE(PTRACE_SETSIGMASK, tid, KERNEL_SIGNALS, &mask)) < 0) {
        return result;
    }
    if (stopped) {
        kill(tid, SIGSTOP);
    }
    return 0;
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

int vmt_arguments(int tid, int bits, uint64_t arguments[6])
{
    (void)tid, (void)bits, (void)arguments;
    return -ENOSYS;
}

int vmt_finish_call(int tid)
{
    (void)tid;
    return -ENOSYS;
}

int vmt_result(int tid, int64_t *value)
{
    (void)tid, (void)value;
    return -ENOSYS;
}

int vmt_inject(int tid, const uint64_t call[5], int64_t *value)
{
    (void)tid, (void)call, (void)value;
    return -ENOSYS;
}

#endif
