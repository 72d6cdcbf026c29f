/* ptrace's floor: what the least possible tracer needs for one trap.
 *
 * floor PROGRAM ARG...: runs the program; at each SIGSEGV waitpid, GETREGS, step over one byte (IN EAX,DX), claim that
 * VMware answered a knock, SETREGS, CONT. It looks at nothing else, so it is no tracer for anything but knock.
 */
#include <signal.h>
#include <stdio.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: floor PROGRAM ARG...\n");
        return 2;
    }
    pid_t child = fork();
    if (child == 0) {
        ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        execv(argv[1], argv + 1);
        _exit(127);
    }
    int status;
    while (waitpid(child, &status, 0) == child && WIFSTOPPED(status)) {
        if (WSTOPSIG(status) == SIGSEGV) {
            struct user_regs_struct regs;
            ptrace(PTRACE_GETREGS, child, NULL, &regs);
            regs.rip += 1;
            regs.rbx = 0x564D5868;
            ptrace(PTRACE_SETREGS, child, NULL, &regs);
        }
        ptrace(PTRACE_CONT, child, NULL, NULL);
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
