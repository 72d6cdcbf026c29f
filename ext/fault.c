/* The fault guard.
 *
 * Our handler is installed only while some thread is inside a guard: a few microseconds around each instruction.
 * Whoever handled these signals before (Python's faulthandler, a crash reporter, nobody) is put back afterwards, so a
 * handler that was installed after ours last ran is simply the one that we meet, and put back, next time.
 *
 * A fault that is not at one of our instructions, in whatever thread, is handed to the handler that was there, called
 * as the kernel would have called it.
 *
 * What is left is the moment between enter and the instruction, where it runs without the interpreter lock. A handler
 * that some other thread installs just then sees the instruction's fault first: faulthandler prints a dump, puts us back
 * and raises the signal; we let that pass, the instruction faults again, and the call reports it as ever. One that is
 * taken away just then takes us with it, and the fault kills: so what is likely to fault runs with the lock (`hold`).
 * And where a process crashes while another thread is inside, the handler that ends it may have put SIG_DFL back first:
 * the process then ends by the other's fault, of the same signal and perhaps with half of the last words.
 */
#define _GNU_SOURCE
#include "fault.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#if defined(__x86_64__) || defined(__i386__)
#include <sys/io.h>
#endif

#if defined(__x86_64__)
#define CONTEXT_PC(context) ((context)->uc_mcontext.gregs[REG_RIP])
#define CONTEXT_SP(context) ((context)->uc_mcontext.gregs[REG_RSP])
#elif defined(__i386__)
#define CONTEXT_PC(context) ((context)->uc_mcontext.gregs[REG_EIP])
#define CONTEXT_SP(context) ((context)->uc_mcontext.gregs[REG_ESP])
#elif defined(__aarch64__)
#define CONTEXT_PC(context) ((context)->uc_mcontext.pc)
#define CONTEXT_SP(context) ((context)->uc_mcontext.sp)
#endif

/* SIGBUS: a high-bandwidth buffer may be a mapped file that somebody cut short. */
static const int guarded[] = {SIGSEGV, SIGILL, SIGBUS};
#define GUARDED (sizeof guarded / sizeof guarded[0])

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned inside;                  /* threads between enter and leave; under lock */
static struct sigaction before[GUARDED]; /* whom we displaced; written under lock, read by the handler */
static atomic_int members[64];           /* threads inside, for the handler: who finds no place does without */
static atomic_int faulted[GUARDED];      /* the thread whose fault was handed on last since enter, or 0 */

static size_t index_of(int signo) {
    size_t i = 0;
    while (i + 1 < GUARDED && guarded[i] != signo)
        i++;
    return i;
}

static void on_fault(int signo, siginfo_t *info, void *context);

static pid_t this_thread(void) {
    return (pid_t)syscall(SYS_gettid);
}

static int is_inside(pid_t thread) {
    for (size_t i = 0; i < sizeof members / sizeof members[0]; i++)
        if (atomic_load(&members[i]) == thread)
            return 1;
    return 0;
}

static int is_ours(const struct sigaction *action) {
    return (action->sa_flags & SA_SIGINFO) && action->sa_sigaction == on_fault;
}

/* Default action: for a real fault the instruction runs and faults again; what was sent is sent again. */
static void fall_to_default(int signo, siginfo_t *info) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = SIG_DFL;
    sigaction(signo, &action, NULL);
    if (info->si_code <= 0)
        syscall(SYS_rt_tgsigqueueinfo, getpid(), this_thread(), signo, info);
}

static void hand_on(int signo, siginfo_t *info, void *context) {
    const size_t i = index_of(signo);
    const struct sigaction next = before[i];
    const int is_fault = info->si_code > 0;

    const pid_t thread = this_thread();
    if (next.sa_handler == SIG_IGN && !is_fault)
        return;
    if (info->si_code == SI_TKILL && info->si_pid == getpid() && is_inside(thread))
        return; /* somebody saw the instruction's fault before us, and passes it on: it comes again */
    /* A handler that puts its predecessor back and raises the signal again, as faulthandler does, comes back to us
     * if it was installed over us; to hand it on to that same handler would never end. */
    const int again = info->si_code == SI_TKILL && atomic_load(&faulted[i]) == thread;
    if (is_fault)
        atomic_store(&faulted[i], thread);
    if (again || next.sa_handler == SIG_DFL || next.sa_handler == SIG_IGN) {
        fall_to_default(signo, info);
        return;
    }
    if (next.sa_flags & SA_RESETHAND)
        before[i].sa_handler = SIG_DFL;

    sigset_t mask = ((ucontext_t *)context)->uc_sigmask, ours;
    for (int s = 1; s < NSIG; s++)
        if (sigismember(&next.sa_mask, s) == 1)
            sigaddset(&mask, s);
    if (!(next.sa_flags & SA_NODEFER))
        sigaddset(&mask, signo);
    pthread_sigmask(SIG_SETMASK, &mask, &ours);
    if (next.sa_flags & SA_SIGINFO)
        next.sa_sigaction(signo, info, context);
    else
        next.sa_handler(signo);
    pthread_sigmask(SIG_SETMASK, &ours, NULL);
}

static void on_fault(int signo, siginfo_t *info, void *context) {
    const int saved_errno = errno;
    ucontext_t *const c = context;
    const uintptr_t pc = (uintptr_t)CONTEXT_PC(c);

    if (info->si_code > 0) { /* the processor's doing, nobody's kill() */
        for (uint32_t i = 0; i < vmt_fixups_count; i++) {
            const vmt_fixup *const fixup = &vmt_fixups[i];
            if (pc != (uintptr_t)&fixup->insn + (uintptr_t)(intptr_t)fixup->insn)
                continue;
            *(volatile uint32_t *)(uintptr_t)CONTEXT_SP(c) = VMT_FAULT(signo, info->si_code);
            CONTEXT_PC(c) = (__typeof__(CONTEXT_PC(c)))((uintptr_t)&fixup->resume + (uintptr_t)(intptr_t)fixup->resume);
            errno = saved_errno;
            return;
        }
    }
    hand_on(signo, info, context);
    errno = saved_errno;
}

static void install(size_t i) {
    struct sigaction action, old;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = on_fault;
    sigemptyset(&action.sa_mask);
    sigaction(guarded[i], NULL, &old);
    if (is_ours(&old))
        return;
    /* Run on the stack that the displaced handler would have had. */
    const int on_stack = old.sa_handler == SIG_DFL || old.sa_handler == SIG_IGN ? SA_ONSTACK : old.sa_flags & SA_ONSTACK;
    action.sa_flags = SA_SIGINFO | on_stack;
    before[i] = old;
    sigaction(guarded[i], &action, NULL);
}

static void uninstall(size_t i) {
    struct sigaction current;
    sigaction(guarded[i], NULL, &current);
    if (is_ours(&current)) /* else somebody came after us, and stays */
        sigaction(guarded[i], &before[i], NULL);
}

void vmt_guard_enter(vmt_guard *guard) {
    sigset_t unblocked;
    sigemptyset(&unblocked);
    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < GUARDED; i++) {
        sigaddset(&unblocked, guarded[i]);
        if (inside == 0)
            atomic_store(&faulted[i], 0);
        install(i);
    }
    inside++;
    guard->place = -1;
    for (int i = 0; i < (int)(sizeof members / sizeof members[0]) && guard->place < 0; i++)
        if (atomic_load(&members[i]) == 0)
            atomic_store(&members[guard->place = i], this_thread());
    pthread_mutex_unlock(&lock);
    /* A fault whose signal is blocked kills the process without asking anybody. */
    pthread_sigmask(SIG_UNBLOCK, &unblocked, &guard->mask);
}

void vmt_guard_leave(const vmt_guard *guard) {
    pthread_sigmask(SIG_SETMASK, &guard->mask, NULL);
    pthread_mutex_lock(&lock);
    if (guard->place >= 0)
        atomic_store(&members[guard->place], 0);
    if (--inside == 0)
        for (size_t i = 0; i < GUARDED; i++)
            uninstall(i);
    pthread_mutex_unlock(&lock);
}

/* A child has only the thread that forked, which is inside no guard. */
static void before_fork(void) {
    pthread_mutex_lock(&lock);
}

static void after_fork_in_parent(void) {
    pthread_mutex_unlock(&lock);
}

static void after_fork_in_child(void) {
    if (inside)
        for (size_t i = 0; i < GUARDED; i++)
            uninstall(i);
    inside = 0;
    for (size_t i = 0; i < sizeof members / sizeof members[0]; i++)
        atomic_store(&members[i], 0);
    pthread_mutex_unlock(&lock);
}

int vmt_guard_init(void) {
    static pthread_mutex_t once = PTHREAD_MUTEX_INITIALIZER;
    static int done;
    int error = 0;
    pthread_mutex_lock(&once); /* several interpreters may load us at the same time */
    if (!done && !(error = pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child)))
        done = 1;
    pthread_mutex_unlock(&once);
    return error;
}

int vmt_ioperm(unsigned long first, unsigned long count, int on) {
#if defined(__x86_64__) || defined(__i386__)
    return ioperm(first, count, on);
#else
    (void)first, (void)count, (void)on;
    errno = ENOSYS;
    return -1;
#endif
}
