/* A guest program of many trades: guest MODE [ARG]. Prints registers in hexadecimal, or what the mode is about. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include "trap.h"

DEFINE_TRAP(in_eax, "inl %%dx, %%eax")
DEFINE_TRAP(in_ax, "inw %%dx, %%ax")
DEFINE_TRAP(in_al, "inb %%dx, %%al")
DEFINE_TRAP(out_eax, "outl %%eax, %%dx")
DEFINE_TRAP(rep_outsb, "rep outsb")
DEFINE_TRAP(rep_insb, "rep insb")
DEFINE_TRAP(addr32_rep_outsb, "addr32 rep outsb")
DEFINE_TRAP(backward_outsb, "std\n\trep outsb\n\tcld")
DEFINE_TRAP(plain_outsb, "outsb")
DEFINE_TRAP(vmcall, "vmcall")
DEFINE_TRAP(vmmcall, "vmmcall")
DEFINE_TRAP(rdpmc, "rdpmc")

static const struct {
    const char *name;
    void (*run)(frame *);
} TRAPS[] = {{"in", in_eax},       {"in16", in_ax},      {"in8", in_al},   {"out", out_eax}, {"vmcall", vmcall},
             {"vmmcall", vmmcall}, {"plain", plain_outsb}, {"rdpmc", rdpmc}};

static void show(const frame *f)
{
    printf("%llx %llx %llx %llx %llx %llx %llx\n", (unsigned long long)f->ax, (unsigned long long)f->bx,
           (unsigned long long)f->cx, (unsigned long long)f->dx, (unsigned long long)f->si, (unsigned long long)f->di,
           (unsigned long long)f->bp);
    fflush(stdout);
}

static frame pattern(uint16_t port)
{
    return (frame){0x1111111100000000 | MAGIC,           0x2222222222222222, 0x333333333333000a,
                   (0x4444444444440000ULL | port), 0x5555555555555555, 0x6666666666666666, 0x7777777777777777};
}

static uint64_t knock(uint64_t tag)
{
    frame f = {MAGIC, tag, 10, LOW, 0, 0, 0};
    in_eax(&f);
    return f.bx;
}

/* ---- high bandwidth ---- */

static int string_out(const char *how, char *data, size_t size)
{
    frame f = {MAGIC, 0x10000, size, HIGH, (uintptr_t)data, 2, 3};
    if (!strcmp(how, "addr32")) {
        char *low = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
        memcpy(low, data, size);
        f.si = (uintptr_t)low | 0xdead00000000;
        f.cx |= 0xbeef00000000;
        addr32_rep_outsb(&f);
        f.si -= (uintptr_t)low;
    } else if (!strcmp(how, "backward")) {
        backward_outsb(&f);
    } else if (!strcmp(how, "plain")) {
        plain_outsb(&f);
    } else {
        rep_outsb(&f);
        f.si -= (uintptr_t)data;
    }
    show(&f);
    return 0;
}

static int string_in(size_t size)
{
    char *data = calloc(1, size + 1);
    frame f = {MAGIC, 0x10000, size, HIGH, 1, (uintptr_t)data, 3};
    rep_insb(&f);
    f.di -= (uintptr_t)data;
    show(&f);
    puts(data);
    return 0;
}

static int bad_pointer(const char *how)
{
    char *page = mmap(NULL, 8192, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(page + 4096, 4096);
    frame f = {MAGIC, 0x10000, 16, HIGH, 0, 0, 0};
    if (!strcmp(how, "out")) { /* runs over the end of the mapping */
        f.si = (uintptr_t)page + 4088;
        rep_outsb(&f);
    } else { /* into a page that is read only */
        f.di = (uintptr_t)page;
        rep_insb(&f);
    }
    return 0;
}

/* ---- signals ---- */

static volatile sig_atomic_t faults;
static void *volatile fault_at;

static void on_fault(int signum, siginfo_t *info, void *context)
{
    (void)signum;
    faults++;
    fault_at = info->si_addr;
    ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP] += 2; /* movl (%rax), %eax */
}

static int own_handler(void)
{
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &action, NULL);
    for (int i = 0; i < 100; i++) {
        if (knock(i) != (uint64_t)i + 1) {
            return 1;
        }
        __asm__ volatile("movl (%%rax), %%eax" ::"a"(0x18L) : "memory");
    }
    printf("%d %p %d\n", (int)faults, fault_at, (int)(knock(41) == 42));
    return 0;
}

static void count(int signum)
{
    (void)signum;
    faults++;
}

/* A SIGSEGV that somebody sends while the program stands at the very instruction is that signal, and not a trap. */
static int sent_segv(void)
{
    signal(SIGSEGV, count);
    pid_t parent = getpid(), child = fork();
    if (child == 0) {
        for (int i = 0; i < 200; i++) {
            kill(parent, SIGSEGV);
            usleep(200);
        }
        _exit(0);
    }
    int wrong = 0, status;
    long traps = 0;
    while (waitpid(child, &status, WNOHANG) == 0) {
        wrong |= knock(traps) != (uint64_t)traps + 1;
        traps++;
    }
    printf("%d %d\n", faults > 0, wrong);
    return 0;
}

/* ---- code ---- */

static int rewritten(void)
{
    uint8_t *code = mmap(NULL, 8192, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(code + 4096, 4096);
    code += 4096 - 3; /* the last bytes before nothing */
    for (int i = 0; i < 50; i++) {
        memcpy(code, i & 1 ? "\xed\x90\xc3" : "\x66\xed\xc3", 3);
        uint64_t ax = 0xabcd00000000 | MAGIC, bx = 7;
        __asm__ volatile("subq $128, %%rsp\n\tcall *%[code]\n\taddq $128, %%rsp"
                         : "+a"(ax), "+b"(bx)
                         : "c"(10), "d"(LOW), [code] "r"(code)
                         : "memory");
        if (bx != 8 || ax != (i & 1 ? 0xabcd00000099 : (0xabcd00000000 | (MAGIC & 0xffff0000) | 0x99))) {
            printf("%d %llx %llx\n", i, (unsigned long long)ax, (unsigned long long)bx);
            return 1;
        }
    }
    mprotect((void *)((uintptr_t)code & ~4095UL), 4096, PROT_EXEC);
    uint64_t ax = MAGIC, bx = 7;
    __asm__ volatile("subq $128, %%rsp\n\tcall *%[code]\n\taddq $128, %%rsp"
                     : "+a"(ax), "+b"(bx)
                     : "c"(10), "d"(LOW), [code] "r"(code)
                     : "memory");
    printf("%llx\n", (unsigned long long)bx);
    return 0;
}

/* ---- threads and processes ---- */

static long rounds;

static void *hammer(void *first)
{
    uint64_t tag = (uintptr_t)first << 32;
    for (long i = 0; i < rounds; i++) {
        if (knock(tag + i) != tag + i + 1) {
            return (void *)1;
        }
    }
    return NULL;
}

static int threads(int count, int forks)
{
    pthread_t ids[64];
    long wrong = 0;
    for (int i = 0; i < forks; i++) {
        if (fork() == 0) {
            _exit(threads(count, 0));
        }
    }
    for (int i = 0; i < count; i++) {
        pthread_create(&ids[i], NULL, hammer, (void *)(uintptr_t)(i + 1));
    }
    for (int i = 0; i < count; i++) {
        void *result;
        pthread_join(ids[i], &result);
        wrong += result != NULL;
    }
    for (int i = 0; i < forks; i++) {
        int status;
        wait(&status);
        wrong += status != 0;
    }
    if (forks) {
        printf("%ld\n", wrong);
    }
    return wrong != 0;
}

static void *exec_knock(void *self)
{
    char *argv[] = {self, "in", NULL};
    execv(self, argv);
    return NULL;
}

static int thread_exec(char *self)
{
    pthread_t id;
    knock(1);
    pthread_create(&id, NULL, exec_knock, self);
    pause();
    return 1;
}

static int daemonise(void)
{
    int ends[2];
    if (pipe(ends) < 0) {
        return 1;
    }
    if (fork() == 0) {
        char byte;
        close(ends[1]);
        setsid();
        while (read(ends[0], &byte, 1) != 0) { /* until the parent is gone */
        }
        usleep(100000);
        printf("%d\n", knock(1) == 2);
        exit(9);
    }
    return 5;
}

/* ---- what the filter does ---- */

static long int80(long nr, long a, long b, long c)
{
    long result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(nr), "b"(a), "c"(b), "d"(c) : "memory", "r8", "r9", "r10", "r11");
    return (int)result;
}

/* A system call's result as the kernel has it: minus errno where it failed. */
static long raw(long result)
{
    return result < 0 ? -errno : result;
}

static int confined(void)
{
    uint32_t *args = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    printf("ioperm %d iopl %d", ioperm(LOW, 4, 1), iopl(3));
    printf(" vsock %ld unix %d", raw(syscall(SYS_socket, 40, 1, 0)), syscall(SYS_socket, 1, 1, 0) >= 0);
    printf(" uring %ld x32 %ld\n", raw(syscall(425, 1, args)), raw(syscall(0x40000000 | SYS_ioperm, LOW, 4, 1)));

    printf("ioperm %ld iopl %ld", int80(101, LOW, 4, 1), int80(110, 3, 0, 0));
    printf(" vsock %ld unix %d", int80(359, 40, 1, 0), int80(359, 1, 1, 0) >= 0);
    args[0] = 40, args[1] = 1, args[2] = 0;
    printf(" call %ld", int80(102, 1, (long)args, 0));
    args[0] = 1;
    printf(" call %d", int80(102, 1, (long)args, 0) >= 0);
    printf(" bad %ld uring %ld\n", int80(102, 1, 16, 0), int80(425, 1, (long)args, 0));
    printf("in %d traceme %ld\n", knock(1) == 2, raw(ptrace(PTRACE_TRACEME, 0, 0, 0)));
    return 0;
}

/* A filter of the program's own that asks a tracer which it does not have. */
static int own_filter(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE | 7),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {4, code};
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) < 0) {
        return 1;
    }
    printf("getppid %ld in %d\n", raw(syscall(SYS_getppid)), knock(1) == 2);
    return 0;
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "", *arg = argc > 2 ? argv[2] : "";
    for (size_t i = 0; i < sizeof TRAPS / sizeof *TRAPS; i++) {
        if (!strcmp(mode, TRAPS[i].name)) {
            frame f = pattern((uint16_t)(*arg ? strtoul(arg, NULL, 16) : LOW));
            TRAPS[i].run(&f);
            show(&f);
            return 0;
        }
    }
    if (!strcmp(mode, "string-out")) {
        return string_out(arg, argv[3], strlen(argv[3]));
    }
    if (!strcmp(mode, "string-in")) {
        return string_in(strtoul(arg, NULL, 10));
    }
    if (!strcmp(mode, "bad-pointer")) {
        return bad_pointer(arg);
    }
    if (!strcmp(mode, "own-handler")) {
        return own_handler();
    }
    if (!strcmp(mode, "sent-segv")) {
        return sent_segv();
    }
    if (!strcmp(mode, "rewritten")) {
        return rewritten();
    }
    if (!strcmp(mode, "threads")) {
        rounds = strtol(arg, NULL, 10);
        return threads(8, argc > 3 ? atoi(argv[3]) : 0);
    }
    if (!strcmp(mode, "thread-exec")) {
        return thread_exec(argv[0]);
    }
    if (!strcmp(mode, "daemonise")) {
        return daemonise();
    }
    if (!strcmp(mode, "confined")) {
        return confined();
    }
    if (!strcmp(mode, "own-filter")) {
        return own_filter();
    }
    if (!strcmp(mode, "exit")) {
        return atoi(arg);
    }
    if (!strcmp(mode, "raise")) {
        raise(atoi(arg));
        printf("went on, %d\n", knock(1) == 2);
        return 0;
    }
    fprintf(stderr, "guest: no mode '%s'\n", mode);
    return 2;
}
