/* A fault in one of our instructions is an answer; any other fault is none of our business. */
#ifndef VMT_FAULT_H
#define VMT_FAULT_H

#include <signal.h>

#include "insn.h"

typedef struct {
    sigset_t mask;
    int place; /* in fault.c's table of who is inside, or -1 */
} vmt_guard;

/* Prepares the table of signals for fork(); once per process, before the first guard. 0, or an errno. */
int vmt_guard_init(void);

/* Between these two a fault at an address in vmt_fixups makes that instruction's function return the fault.
 * Nests across threads; to be called with the interpreter lock held, so that Python code which changes the same
 * signals (faulthandler, signal) never meets a half-made change. */
void vmt_guard_enter(vmt_guard *guard);
void vmt_guard_leave(const vmt_guard *guard);

/* ioperm(2); -1 with ENOSYS where the architecture has no ports. */
int vmt_ioperm(unsigned long first, unsigned long count, int on);

#if !defined(__x86_64__) && !defined(__i386__)
/* What isn't an instruction here answers as an illegal instruction would. */
#define VMT_NO_INSN(name)                                                                                              \
    static inline uint32_t name(vmt_frame *frame) {                                                                    \
        (void)frame;                                                                                                   \
        return VMT_FAULT(SIGILL, ILL_ILLOPC);                                                                          \
    }
VMT_NO_INSN(vmt_vmcall)
VMT_NO_INSN(vmt_vmmcall)
VMT_NO_INSN(vmt_rdpmc)
VMT_NO_INSN(vmt_cpuid)
#endif

#if defined(__x86_64__)
#define VMT_ARCHITECTURE "x86_64"
#elif defined(__i386__)
#define VMT_ARCHITECTURE "i386"
#elif defined(__aarch64__)
#define VMT_ARCHITECTURE "aarch64"
#else
#error "vmtools-py knows the backdoor of x86-64, i386 and aarch64 only"
#endif

#endif
