#define _GNU_SOURCE
#include "ptrace.h"

#include <errno.h>

#if VMT_TRACES

#include <cpuid.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SET_CPUID_FAULT = 0x1012 }; /* ARCH_CPUID_FAULT is ARCH_SET_CPUID in <asm/prctl.h> */

/* It depends on processor and hypervisor: a hypercall that is not carried out is #UD or #GP; one that is has an answer,
 * to a number (-1) that no hypervisor knows. */
static void hypercall(int insn)
{
    uint64_t ax = ~0ULL, bx = 0, cx = 0, dx = 0;
    if (insn == VMT_VMCALL) {
        __asm__ volatile(".byte 0x0f, 0x01, 0xc1" : "+a"(ax), "+b"(bx), "+c"(cx), "+d"(dx) : : "memory");
    } else {
        __asm__ volatile(".byte 0x0f, 0x01, 0xd9" : "+a"(ax), "+b"(bx), "+c"(cx), "+d"(dx) : : "memory");
    }
}

static int traps(int insn)
{
    pid_t pid = fork();
    if (pid < 0) {
        return -errno;
    }
    if (pid == 0) {
        prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
        signal(SIGSEGV, SIG_DFL);
        signal(SIGILL, SIG_DFL);
        hypercall(insn);
        _exit(0);
    }
    int status;
    while (waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR) {
            return -errno;
        }
    }
    return WIFSIGNALED(status) && (WTERMSIG(status) == SIGSEGV || WTERMSIG(status) == SIGILL);
}

int vmt_hypercalls(void)
{
    int found = 0;
    for (int insn = VMT_VMCALL; insn <= VMT_VMMCALL; insn++) {
        int trapped = traps(insn);
        if (trapped < 0) {
            return trapped;
        }
        found |= trapped << insn;
    }
    return found;
}

int vmt_cpuid_faults(void)
{
    /* It is the thread's own setting, and between these two it executes no CPUID. */
    if (syscall(SYS_arch_prctl, SET_CPUID_FAULT, 0UL) < 0) {
        return 0;
    }
    syscall(SYS_arch_prctl, SET_CPUID_FAULT, 1UL);
    return 1;
}

int vmt_cpuid(uint32_t leaf, uint32_t subleaf, uint32_t words[4])
{
    __cpuid_count(leaf, subleaf, words[0], words[1], words[2], words[3]);
    return 0;
}

int vmt_own_mounts(void)
{
    if (unshare(CLONE_NEWNS) < 0) {
        return -errno;
    }
    /* What is mounted outside still comes in; nothing goes out. */
    return vmt_mount("none", "/", NULL, MS_REC | MS_SLAVE, NULL);
}

int vmt_mount(const char *source, const char *target, const char *type, unsigned long flags, const char *options)
{
    return mount(source, target, type, flags, options) < 0 ? -errno : 0;
}

int vmt_no_core(void)
{
    return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 ? -errno : 0;
}

#else

int vmt_hypercalls(void)
{
    return -ENOSYS;
}

int vmt_cpuid_faults(void)
{
    return -ENOSYS;
}

int vmt_cpuid(uint32_t leaf, uint32_t subleaf, uint32_t words[4])
{
    (void)leaf, (void)subleaf, (void)words;
    return -ENOSYS;
}

int vmt_own_mounts(void)
{
    return -ENOSYS;
}

int vmt_mount(const char *source, const char *target, const char *type, unsigned long flags, const char *options)
{
    (void)source, (void)target, (void)type, (void)flags, (void)options;
    return -ENOSYS;
}

int vmt_no_core(void)
{
    return -ENOSYS;
}

#endif
