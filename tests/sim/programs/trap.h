/* One trapping instruction with all seven registers, for guest programs of the tests (64-bit). */
#ifndef TRAP_H
#define TRAP_H

#include <stdint.h>

typedef struct {
    uint64_t ax, bx, cx, dx, si, di, bp;
} frame;

enum { MAGIC = 0x564D5868, LOW = 0x5658, HIGH = 0x5659 };

/* BP can't be an operand; it is loaded and stored by hand. The red zone is out of the pushes' way. */
#define DEFINE_TRAP(name, instruction)                                                                                 \
    static __attribute__((noinline, unused)) void name(frame *f)                                                       \
    {                                                                                                                  \
        __asm__ volatile("subq $128, %%rsp\n\tpushq %%rbp\n\tpushq %[f]\n\tmovq 48(%[f]), %%rbp\n\t"                   \
                         "cld\n\t" instruction "\n\t"                                                                  \
                         "xchgq (%%rsp), %%rbp\n\t" /* bp's result on the stack, the frame's address in bp */          \
                         "popq 48(%%rbp)\n\tpopq %%rbp\n\taddq $128, %%rsp"                         \
                         : "+a"(f->ax), "+b"(f->bx), "+c"(f->cx), "+d"(f->dx), "+S"(f->si), "+D"(f->di)                \
                         : [f] "r"(f)                                                                                  \
                         : "memory", "cc");                                                                            \
    }

#endif
