/* refuse WHAT PROGRAM ARG...: runs a program as in a narrow container. WHAT: ptrace, seccomp or process_vm, system calls
 * that fail with EPERM; or sys_admin, the capability, also where root runs it. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static int forbid(unsigned first, unsigned second)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, first, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, second, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof *code, code};
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

int main(int argc, char **argv)
{
    int result = -1;
    if (argc < 3) {
        return 2;
    }
    if (!strcmp(argv[1], "ptrace")) {
        result = forbid(SYS_ptrace, SYS_ptrace);
    } else if (!strcmp(argv[1], "seccomp")) {
        result = forbid(SYS_seccomp, SYS_seccomp);
    } else if (!strcmp(argv[1], "process_vm")) {
        result = forbid(SYS_process_vm_readv, SYS_process_vm_writev);
    } else if (!strcmp(argv[1], "sys_admin")) {
        result = geteuid() == 0 ? prctl(PR_CAPBSET_DROP, CAP_SYS_ADMIN, 0, 0, 0) : 0;
    }
    if (result < 0) {
        perror(argv[1]);
        return 2;
    }
    execvp(argv[2], argv + 2);
    perror(argv[2]);
    return 2;
}
