/* The aarch64 instructions, each by the one macro below, so that all have the same shape.
 *
 * VMware's host recognises one trapping instruction, a read of MDCCSR_EL0 into XZR, and decodes from X7 which x86
 * port instruction it stands for: X7 = 0x86 << 32 | log2 of the access size | 4 for a read | 8 for the port in DX,
 * or REP | 16 for a string.  X0 to X6 are AX, BX, CX, DX, SI, DI, BP.  X8 and X9 are scratch: the functions use no
 * register that AAPCS64 has a callee preserve, and the flags are kept as on x86.
 */
#include "insn.h"

#if defined(__aarch64__)

#include <stddef.h>

/* The offsets written out below. */
_Static_assert(offsetof(vmt_frame, bx) == 8 && offsetof(vmt_frame, cx) == 16 && offsetof(vmt_frame, dx) == 24 &&
                   offsetof(vmt_frame, si) == 32 && offsetof(vmt_frame, di) == 40 && offsetof(vmt_frame, bp) == 48,
               "vmt_frame");

__asm__(".pushsection .rodata.vmt_fixups, \"a\", %progbits\n"
        ".globl vmt_fixups\n"
        ".hidden vmt_fixups\n"
        ".type vmt_fixups, %object\n"
        ".p2align 2\n"
        "vmt_fixups:\n"
        ".popsection\n"

        ".macro vmt_define name, operation\n"
        ".pushsection .text\n"
        ".globl \\name\n"
        ".hidden \\name\n"
        ".type \\name, %function\n"
        ".p2align 4\n"
        "\\name:\n"
        ".cfi_startproc\n"
        /* BTI C, a landing pad: the compiler may mark this object as having one in every function */
        "hint #34\n"
        "mrs x9, nzcv\n"
        "stp xzr, x0, [sp, #-32]!\n" /* the fault slot, the frame's address */
        ".cfi_adjust_cfa_offset 32\n"
        "str x9, [sp, #16]\n"
        "ldp x1, x2, [x0, #8]\n"
        "ldp x3, x4, [x0, #24]\n"
        "ldp x5, x6, [x0, #40]\n"
        "ldr x0, [x0]\n"
        "mov x7, #\\operation\n"
        "movk x7, #0x86, lsl #32\n"
        ".L\\name\\()_insn:\n"
        "mrs xzr, mdccsr_el0\n"
        ".L\\name\\()_resume:\n"
        "ldr x8, [sp, #8]\n"
        "stp x0, x1, [x8]\n"
        "stp x2, x3, [x8, #16]\n"
        "stp x4, x5, [x8, #32]\n"
        "str x6, [x8, #48]\n"
        "ldr x9, [sp, #16]\n"
        "msr nzcv, x9\n"
        "ldr x0, [sp], #32\n" /* 0, or the fault */
        ".cfi_adjust_cfa_offset -32\n"
        "ret\n"
        ".cfi_endproc\n"
        ".size \\name, . - \\name\n"
        ".popsection\n"
        ".pushsection .rodata.vmt_fixups, \"a\", %progbits\n"
        ".long .L\\name\\()_insn - .\n"
        ".long .L\\name\\()_resume - .\n"
        ".popsection\n"
        ".endm\n"

        "vmt_define vmt_low, 0x0e\n"      /* four bytes, read, port in DX */
        "vmt_define vmt_high_out, 0x18\n" /* one byte, write, REP, string */
        "vmt_define vmt_high_in, 0x1c\n"  /* one byte, read, REP, string */

        ".pushsection .rodata.vmt_fixups, \"a\", %progbits\n"
        ".size vmt_fixups, . - vmt_fixups\n"
        ".globl vmt_fixups_count\n"
        ".hidden vmt_fixups_count\n"
        ".type vmt_fixups_count, %object\n"
        "vmt_fixups_count:\n"
        ".long (vmt_fixups_count - vmt_fixups) / 8\n"
        ".size vmt_fixups_count, 4\n"
        ".popsection\n");

#endif
