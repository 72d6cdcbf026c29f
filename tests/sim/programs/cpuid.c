/* Executes CPUID, VMCALL and VMMCALL from wherever code may stand: cpuid MODE [ARG]. Prints words in hexadecimal. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct {
    uint32_t ax, bx, cx, dx;
} words;

static words cpuid(uint32_t leaf, uint32_t subleaf)
{
    words w;
    __asm__ volatile("cpuid" : "=a"(w.ax), "=b"(w.bx), "=c"(w.cx), "=d"(w.dx) : "a"(leaf), "c"(subleaf));
    return w;
}

static int is_vmware(words w)
{
    return w.ax == 0x40000010 && !memcmp(&w.bx, "VMwareVMware", 12);
}

static void show(words w)
{
    printf("%08x %08x %08x %08x\n", w.ax, w.bx, w.cx, w.dx);
}

/* CPUID's bytes where they are something else: in an operand, in a distance, in a table among the code. */
uint32_t operand(void);
uint32_t table(void);
__asm__(".text\n"
        ".type operand, @function\n"
        "operand: movl $0x1234a20f, %eax\n"
        "ret\n"
        ".size operand, . - operand\n"
        ".type table, @function\n"
        "table: movl 1f(%rip), %eax\n"
        "xorl 2f(%rip), %eax\n"
        "ret\n"
        "1: .byte 0x48, 0xb8, 0x0f, 0xa2\n" /* as if it were the operand of movabs */
        "2: .byte 0x0f, 0xa2, 0xc7, 0x05\n"
        ".size table, . - table\n");

/* The same function where the program maps it itself: it needs nothing but its own bytes. */
uint32_t alone(void);
__asm__(".text\n"
        ".type alone, @function\n"
        "alone: pushq %rbx\n"
        "movl $0x40000000, %eax\n"
        "cpuid\n"
        "movl %ebx, %eax\n"
        "popq %rbx\n"
        "ret\n"
        ".size alone, . - alone\n");

static int code_segment(struct dl_phdr_info *info, size_t size, void *found)
{
    (void)size;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *header = &info->dlpi_phdr[i];
        if (header->p_type == PT_LOAD && header->p_flags & PF_X) {
            *(ElfW(Phdr) *)found = *header;
            ((ElfW(Phdr) *)found)->p_vaddr += info->dlpi_addr;
        }
    }
    return 1; /* the first is the program */
}

/* Its own file once more, mapped so that it becomes executable by and by, or as shared memory. */
static int mapped(const char *how)
{
    ElfW(Phdr) code = {0};
    dl_iterate_phdr(code_segment, &code);
    int fd = open("/proc/self/exe", O_RDONLY), shared = !strcmp(how, "shared");
    char *at = mmap(NULL, code.p_filesz, shared ? PROT_READ | PROT_EXEC : PROT_READ, shared ? MAP_SHARED : MAP_PRIVATE,
                    fd, (off_t)code.p_offset);
    if (at == MAP_FAILED || (!shared && mprotect(at, code.p_filesz, PROT_READ | PROT_EXEC) < 0)) {
        return 1;
    }
    uint32_t (*copy)(void) = (uint32_t(*)(void))(uintptr_t)(at + ((char *)(uintptr_t)alone - (char *)code.p_vaddr));
    printf("%08x\n", copy());
    return 0;
}

static int library(const char *path)
{
    void *handle = dlopen(path, RTLD_NOW);
    if (!handle) {
        return 1;
    }
    uint32_t (*ask)(uint32_t) = (uint32_t(*)(uint32_t))(uintptr_t)dlsym(handle, "ask");
    printf("%08x\n", ask(0x40000000));
    return 0;
}

static void *many(void *wrong)
{
    for (int i = 0; i < 200; i++) {
        *(int *)wrong += !is_vmware(cpuid(0x40000000, 0));
    }
    return NULL;
}

static int threads(void)
{
    pthread_t ids[8];
    int wrong[8] = {0}, sum = 0, status;
    pid_t child = fork();
    for (int i = 0; i < 8; i++) {
        pthread_create(&ids[i], NULL, many, &wrong[i]);
    }
    for (int i = 0; i < 8; i++) {
        pthread_join(ids[i], NULL);
        sum += wrong[i];
    }
    if (child == 0) {
        _exit(sum != 0);
    }
    waitpid(child, &status, 0);
    printf("%d %d\n", sum, status);
    return 0;
}

static int pinned(void)
{
    cpu_set_t allowed, one;
    sched_getaffinity(0, sizeof allowed, &allowed);
    for (int i = 0; i < CPU_SETSIZE; i++) {
        if (CPU_ISSET(i, &allowed)) {
            CPU_ZERO(&one);
            CPU_SET(i, &one);
            sched_setaffinity(0, sizeof one, &one);
            printf("%d %u\n", i, cpuid(1, 0).bx >> 24);
        }
    }
    return 0;
}

static void on_illegal(int signum)
{
    printf("signal %d\n", signum);
    fflush(stdout);
    _exit(3);
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "", *arg = argc > 2 ? argv[2] : "";
    if (!strcmp(mode, "leaf")) {
        for (int i = 2; i + 1 < argc; i += 2) {
            show(cpuid((uint32_t)strtoul(argv[i], NULL, 16), (uint32_t)strtoul(argv[i + 1], NULL, 16)));
        }
        return 0;
    }
    if (!strcmp(mode, "data")) {
        printf("%08x %08x %d\n", operand(), table(), is_vmware(cpuid(0x40000000, 0)));
        return 0;
    }
    if (!strcmp(mode, "mapped")) {
        return mapped(arg);
    }
    if (!strcmp(mode, "library")) {
        return library(arg);
    }
    if (!strcmp(mode, "threads")) {
        return threads();
    }
    if (!strcmp(mode, "pinned")) {
        return pinned();
    }
    if (!strcmp(mode, "own-ud2")) { /* the program's own illegal instruction, and its own HLT */
        signal(SIGILL, on_illegal);
        signal(SIGSEGV, on_illegal);
        if (!strcmp(arg, "hlt")) {
            __asm__ volatile("hlt");
        }
        __asm__ volatile("ud2");
    }
    if (!strcmp(mode, "blocked")) {
        sigset_t all;
        sigfillset(&all);
        sigprocmask(SIG_SETMASK, &all, NULL);
        printf("%d\n", is_vmware(cpuid(0x40000000, 0)));
        return 0;
    }
    if (!strcmp(mode, "umask")) {
        printf("%o\n", umask(0));
        return 0;
    }
    if (!strcmp(mode, "exec")) {
        execv(argv[0], (char *[]){argv[0], "leaf", "40000000", "0", NULL});
    }
    return 2;
}
