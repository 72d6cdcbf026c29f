/* A guest program under load: load MODE [ARG…]. Every RPC's answer is compared; prints how many were wrong. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "trap.h"

DEFINE_TRAP(in_eax, "inl %%dx, %%eax")
DEFINE_TRAP(rep_outsb, "rep outsb")
DEFINE_TRAP(rep_insb, "rep insb")

extern char **environ;

/* ---- RPCI by high bandwidth: five exits each ---- */

typedef struct {
    uint64_t id, high, low;
} channel;

static uint32_t call(channel *c, uint64_t type, uint64_t argument, frame *f)
{
    *f = (frame){MAGIC, argument, type << 16 | 30, c->id | LOW, c->high, c->low, 0};
    in_eax(f);
    return (uint32_t)f->cx >> 16;
}

static int open_channel(channel *c)
{
    frame f;
    *c = (channel){0, 0, 0};
    int ok = call(c, 0, 0x49435052 | 0x80000000, &f) & 1;
    *c = (channel){f.dx & 0xffff0000, (uint32_t)f.si, (uint32_t)f.di};
    return ok;
}

/* Sends `request` and receives into `reply`; its length, or -1 where the host refused a step. */
static long rpc(channel *c, const char *request, char *reply, size_t room)
{
    frame f;
    size_t size = strlen(request);
    if (!(call(c, 1, size, &f) & 1)) {
        return -1;
    }
    f = (frame){MAGIC, 0x10000, size, c->id | HIGH, (uintptr_t)request, c->low, c->high};
    rep_outsb(&f);
    if ((uint32_t)f.bx != 0x10000 || (call(c, 3, 0, &f) & 3) != 3 || f.bx >= room) {
        return -1;
    }
    size = f.bx;
    f = (frame){MAGIC, 0x10000, size, c->id | HIGH, c->high, (uintptr_t)reply, c->low};
    rep_insb(&f);
    reply[size] = 0;
    return (uint32_t)f.bx == 0x10000 && (call(c, 5, 1, &f) & 1) ? (long)size : -1;
}

/* `count` RPCs, a value set and read in turns, no two values equal; how many answers were wrong. */
static long talk(const char *who, long count)
{
    channel c;
    char request[96], expected[96], reply[96];
    long wrong = !open_channel(&c);
    for (long i = 0; i < count; i += 2) {
        snprintf(request, sizeof request, "info-set guestinfo.%s %s-%ld", who, who, i);
        wrong += rpc(&c, request, reply, sizeof reply) != 2 || strcmp(reply, "1 ") != 0;
        snprintf(request, sizeof request, "info-get guestinfo.%s", who);
        snprintf(expected, sizeof expected, "1 %s-%ld", who, i);
        wrong += rpc(&c, request, reply, sizeof reply) < 0 || strcmp(reply, expected) != 0;
    }
    frame f;
    return wrong + !(call(&c, 6, 0, &f) & 1);
}

static int knock(void)
{
    frame f = {MAGIC, 0, 10, LOW, 0, 0, 0};
    in_eax(&f);
    return (uint32_t)f.bx == MAGIC;
}

/* ---- threads and forks ---- */

static long each;

static void *talk_in_thread(void *number)
{
    char who[32];
    snprintf(who, sizeof who, "p%d.t%ld", (int)getpid(), (long)number);
    return (void *)talk(who, each);
}

static long threads(int count)
{
    pthread_t ids[64];
    long wrong = 0;
    for (long i = 0; i < count; i++) {
        pthread_create(&ids[i], NULL, talk_in_thread, (void *)i);
    }
    for (int i = 0; i < count; i++) {
        void *result;
        pthread_join(ids[i], &result);
        wrong += (long)result;
    }
    return wrong;
}

/* Threads here, and processes that come and go beside them, each with threads of its own. */
static long forks(int processes, int count)
{
    long wrong = 0;
    pthread_t beside;
    pthread_create(&beside, NULL, talk_in_thread, (void *)99L);
    for (int i = 0; i < processes; i++) {
        if (fork() == 0) {
            _exit(threads(count) != 0);
        }
    }
    for (int i = 0; i < processes; i++) {
        int status;
        wrong += wait(&status) < 0 || status != 0;
    }
    void *result;
    pthread_join(beside, &result);
    return wrong + (long)result;
}

static __attribute__((noinline, noipa)) void raise_fault(volatile int *where)
{
    *where = 1;
}

/* While a thread talks, children crash, are killed in the middle of an exchange, and are stopped for a while. */
static long casualties(int rounds)
{
    long wrong = 0;
    pthread_t beside;
    pthread_create(&beside, NULL, talk_in_thread, (void *)0L);
    for (int i = 0; i < rounds; i++) {
        pid_t crashes = fork();
        if (crashes == 0) {
            knock();
            raise_fault(NULL);
        }
        pid_t killed = fork();
        if (killed == 0) {
            for (;;) {
                talk("killed", 1000);
            }
        }
        pid_t stopped = fork();
        if (stopped == 0) {
            raise(SIGSTOP);
            _exit(talk("stopped", 20) != 0);
        }
        int status;
        usleep(2000);
        kill(killed, SIGKILL);
        wrong += waitpid(crashes, &status, 0) < 0 || !WIFSIGNALED(status) || WTERMSIG(status) != SIGSEGV;
        wrong += waitpid(killed, &status, 0) < 0 || !WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL;
        wrong += waitpid(stopped, &status, WUNTRACED) < 0 || !WIFSTOPPED(status);
        kill(stopped, SIGCONT);
        wrong += waitpid(stopped, &status, 0) < 0 || status != 0;
    }
    void *result;
    pthread_join(beside, &result);
    return wrong + (long)result;
}

/* ---- ways to start and to end ---- */

static int ended_well(pid_t child)
{
    int status;
    return child > 0 && waitpid(child, &status, 0) == child && status == 0;
}

static int starts(char *self)
{
    char *words[] = {self, "knock", NULL};
    pid_t child = vfork();
    if (child == 0) {
        execv(self, words);
        _exit(1);
    }
    printf("vfork %d", ended_well(child));
    child = vfork();
    if (child == 0) {
        _exit(!knock());
    }
    printf(" in vfork %d", ended_well(child));
    int failed = posix_spawn(&child, self, NULL, NULL, words, environ);
    printf(" posix_spawn %d", !failed && ended_well(child));
    failed = posix_spawn(&child, "/no/such/program", NULL, NULL, words, environ);
    printf(" missing %d", failed == ENOENT);
    printf(" here %d\n", knock());
    return 0;
}

static void *after_main(void *nothing)
{
    (void)nothing;
    usleep(50000);
    printf("%ld\n", talk("after.main", 200));
    fflush(stdout);
    exit(7);
}

static void main_thread_ends(void)
{
    pthread_t id;
    knock();
    pthread_create(&id, NULL, after_main, NULL);
    pthread_exit(NULL);
}

/* ---- a tracer of its own, filters of its own ---- */

static long raw(long result)
{
    return result < 0 ? -errno : result;
}

static int own_ptrace(void)
{
    pid_t child = fork();
    if (child == 0) {
        long me = raw(ptrace(PTRACE_TRACEME, 0, 0, 0));
        _exit(me == -EPERM && knock() ? 0 : 1);
    }
    printf("traceme %d", ended_well(child));
    child = fork();
    if (child == 0) {
        pause();
    }
    printf(" attach %ld", raw(ptrace(PTRACE_ATTACH, child, 0, 0)));
    printf(" seize %ld", raw(ptrace(PTRACE_SEIZE, child, 0, 0)));
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    printf(" here %d\n", knock());
    return 0;
}

static void filter(uint32_t number, uint32_t action)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, action),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {4, code};
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) < 0) {
        exit(3);
    }
}

static volatile sig_atomic_t trapped;

static void on_sigsys(int signum, siginfo_t *info, void *context)
{
    (void)signum, (void)context;
    trapped = info->si_syscall;
}

static void *getppid_in_thread(void *nothing)
{
    (void)nothing;
    syscall(SYS_getppid);
    return (void *)1;
}

static int own_seccomp(const char *action)
{
    struct sigaction sigsys = {.sa_sigaction = on_sigsys, .sa_flags = SA_SIGINFO};
    sigaction(SIGSYS, &sigsys, NULL);
    if (!strcmp(action, "errno")) {
        filter(SYS_getppid, SECCOMP_RET_ERRNO | 71);
        printf("%ld", raw(syscall(SYS_getppid)));
    } else if (!strcmp(action, "trap")) {
        filter(SYS_getppid, SECCOMP_RET_TRAP);
        syscall(SYS_getppid);
        printf("%d", trapped == SYS_getppid);
    } else if (!strcmp(action, "kill")) {
        filter(SYS_getppid, SECCOMP_RET_KILL_PROCESS);
        knock();
        syscall(SYS_getppid);
    } else if (!strcmp(action, "kill-thread")) {
        pthread_t id;
        filter(SYS_getppid, SECCOMP_RET_KILL_THREAD);
        pthread_create(&id, NULL, getppid_in_thread, NULL);
        usleep(100000); /* it can't be joined: it died without a word */
        printf("%d", 1);
    } else if (!strcmp(action, "ioperm")) { /* ours lets ioperm succeed, theirs is stricter */
        filter(SYS_ioperm, SECCOMP_RET_TRAP);
        syscall(SYS_ioperm, LOW, 4, 1);
        printf("%d", trapped == SYS_ioperm);
    } else { /* strict */
        printf("%ld", raw(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT, 0, 0, 0)));
    }
    printf(" in %d rpcs %ld\n", knock(), talk("seccomp", 20));
    return 0;
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "", *arg = argc > 2 ? argv[2] : "";
    setvbuf(stdout, NULL, _IOLBF, 0);
    each = argc > 3 ? atol(argv[3]) : 0;
    if (!strcmp(mode, "threads")) {
        printf("%ld\n", threads(atoi(arg)));
    } else if (!strcmp(mode, "forks")) {
        printf("%ld\n", forks(atoi(arg), 4));
    } else if (!strcmp(mode, "casualties")) {
        printf("%ld\n", casualties(atoi(arg)));
    } else if (!strcmp(mode, "knock")) {
        return !knock();
    } else if (!strcmp(mode, "who")) {
        printf("uid %d euid %d in %d rpcs %ld\n", (int)getuid(), (int)geteuid(), knock(), talk("who", 20));
    } else if (!strcmp(mode, "starts")) {
        return starts(argv[0]);
    } else if (!strcmp(mode, "main-ends")) {
        main_thread_ends();
    } else if (!strcmp(mode, "ptrace")) {
        return own_ptrace();
    } else if (!strcmp(mode, "seccomp")) {
        return own_seccomp(arg);
    } else {
        fprintf(stderr, "load: no mode '%s'\n", mode);
        return 2;
    }
    return 0;
}
