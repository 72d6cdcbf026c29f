/* The x86-64 instructions, each by the one macro below, so that all have the same shape.
 *
 * All seven slots go in and come out whole: a host may leave anything in the upper halves, the caller masks.
 */
#include "insn.h"

#if defined(__x86_64__)

#include <stddef.h>

/* The offsets written out below. */
_Static_assert(offsetof(vmt_frame, bx) == 8 && offsetof(vmt_frame, cx) == 16 && offsetof(vmt_frame, dx) == 24 &&
                   offsetof(vmt_frame, si) == 32 && offsetof(vmt_frame, di) == 40 && offsetof(vmt_frame, bp) == 48,
               "vmt_frame");

__asm__(".pushsection .rodata.vmt_fixups, \"a\", @progbits\n"
        ".globl vmt_fixups\n"
        ".hidden vmt_fixups\n"
        ".type vmt_fixups, @object\n"
        ".p2align 2\n"
        "vmt_fixups:\n"
        ".popsection\n"

        ".macro vmt_define name, insn:vararg\n"
        ".pushsection .text\n"
        ".globl \\name\n"
        ".hidden \\name\n"
        ".type \\name, @function\n"
        ".p2align 4, 0xcc\n"
        "\\name:\n"
        ".cfi_startproc\n"
        /* a landing pad: the compiler may mark this object as having one in every function */
        "endbr64\n"
        "pushq %rbx\n"
        ".cfi_adjust_cfa_offset 8\n"
        ".cfi_rel_offset %rbx, 0\n"
        "pushq %rbp\n"
        ".cfi_adjust_cfa_offset 8\n"
        ".cfi_rel_offset %rbp, 0\n"
        "pushfq\n"
        ".cfi_adjust_cfa_offset 8\n"
        "pushq %rdi\n"
        ".cfi_adjust_cfa_offset 8\n"
        "pushq $0\n" /* the fault slot */
        ".cfi_adjust_cfa_offset 8\n"
        "cld\n"
        "movq 0(%rdi), %rax\n"
        "movq 8(%rdi), %rbx\n"
        "movq 16(%rdi), %rcx\n"
        "movq 24(%rdi), %rdx\n"
        "movq 32(%rdi), %rsi\n"
        "movq 48(%rdi), %rbp\n"
        "movq 40(%rdi), %rdi\n"
        ".L\\name\\()_insn:\n"
        "\\insn\n"
        ".L\\name\\()_resume:\n"
        "movq 8(%rsp), %r8\n"
        "movq %rax, 0(%r8)\n"
        "movq %rbx, 8(%r8)\n"
        "movq %rcx, 16(%r8)\n"
        "movq %rdx, 24(%r8)\n"
        "movq %rsi, 32(%r8)\n"
        "movq %rdi, 40(%r8)\n"
        "movq %rbp, 48(%r8)\n"
        "popq %rax\n" /* 0, or the fault */
        ".cfi_adjust_cfa_offset -8\n"
        "popq %rdi\n"
        ".cfi_adjust_cfa_offset -8\n"
        "popfq\n"
        ".cfi_adjust_cfa_offset -8\n"
        "popq %rbp\n"
        ".cfi_adjust_cfa_offset -8\n"
        ".cfi_restore %rbp\n"
        "popq %rbx\n"
        ".cfi_adjust_cfa_offset -8\n"
        ".cfi_restore %rbx\n"
        "retq\n"
        ".cfi_endproc\n"
        ".size \\name, . - \\name\n"
        ".popsection\n"
        ".pushsection .rodata.vmt_fixups, \"a\", @progbits\n"
        ".long .L\\name\\()_insn - .\n"
        ".long .L\\name\\()_resume - .\n"
        ".popsection\n"
        ".endm\n"

        "vmt_define vmt_low, inl %dx, %eax\n"
        "vmt_define vmt_high_out, rep outsb\n"
        "vmt_define vmt_high_in, rep insb\n"
        "vmt_define vmt_vmcall, vmcall\n"
        "vmt_define vmt_vmmcall, vmmcall\n"
        "vmt_define vmt_rdpmc, rdpmc\n"
        "vmt_define vmt_cpuid, cpuid\n"

        ".pushsection .rodata.vmt_fixups, \"a\", @progbits\n"
        ".size vmt_fixups, . - vmt_fixups\n"
        ".globl vmt_fixups_count\n"
        ".hidden vmt_fixups_count\n"
        ".type vmt_fixups_count, @object\n"
        "vmt_fixups_count:\n"
        ".long (vmt_fixups_count - vmt_fixups) / 8\n"
        ".size vmt_fixups_count, 4\n"
        ".popsection\n");

#endif
