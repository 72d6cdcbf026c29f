/* The i386 instructions, each by the one macro below, so that all have the same shape.
 *
 * The lower half of a slot is the register; the upper half is not read, and written as 0.  Nothing here needs the
 * GOT, so EBX carries its slot as any other register does, also in position-independent code.
 */
#include "insn.h"

#if defined(__i386__)

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
        "endbr32\n"
        "pushl %ebx\n"
        ".cfi_adjust_cfa_offset 4\n"
        ".cfi_rel_offset %ebx, 0\n"
        "pushl %esi\n"
        ".cfi_adjust_cfa_offset 4\n"
        ".cfi_rel_offset %esi, 0\n"
        "pushl %edi\n"
        ".cfi_adjust_cfa_offset 4\n"
        ".cfi_rel_offset %edi, 0\n"
        "pushl %ebp\n"
        ".cfi_adjust_cfa_offset 4\n"
        ".cfi_rel_offset %ebp, 0\n"
        "pushfl\n"
        ".cfi_adjust_cfa_offset 4\n"
        "movl 24(%esp), %edi\n" /* the argument, above five saved words and the return address */
        "pushl $0\n"            /* the fault slot */
        ".cfi_adjust_cfa_offset 4\n"
        "cld\n"
        "movl 0(%edi), %eax\n"
        "movl 8(%edi), %ebx\n"
        "movl 16(%edi), %ecx\n"
        "movl 24(%edi), %edx\n"
        "movl 32(%edi), %esi\n"
        "movl 48(%edi), %ebp\n"
        "movl 40(%edi), %edi\n"
        ".L\\name\\()_insn:\n"
        "\\insn\n"
        ".L\\name\\()_resume:\n"
        "pushl %edi\n" /* no register is left to hold the frame's address */
        ".cfi_adjust_cfa_offset 4\n"
        "movl 32(%esp), %edi\n"
        "movl %eax, 0(%edi)\n"
        "movl %ebx, 8(%edi)\n"
        "movl %ecx, 16(%edi)\n"
        "movl %edx, 24(%edi)\n"
        "movl %esi, 32(%edi)\n"
        "popl 40(%edi)\n"
        ".cfi_adjust_cfa_offset -4\n"
        "movl %ebp, 48(%edi)\n"
        "xorl %eax, %eax\n"
        "movl %eax, 4(%edi)\n"
        "movl %eax, 12(%edi)\n"
        "movl %eax, 20(%edi)\n"
        "movl %eax, 28(%edi)\n"
        "movl %eax, 36(%edi)\n"
        "movl %eax, 44(%edi)\n"
        "movl %eax, 52(%edi)\n"
        "popl %eax\n" /* 0, or the fault */
        ".cfi_adjust_cfa_offset -4\n"
        "popfl\n"
        ".cfi_adjust_cfa_offset -4\n"
        "popl %ebp\n"
        ".cfi_adjust_cfa_offset -4\n"
        ".cfi_restore %ebp\n"
        "popl %edi\n"
        ".cfi_adjust_cfa_offset -4\n"
        ".cfi_restore %edi\n"
        "popl %esi\n"
        ".cfi_adjust_cfa_offset -4\n"
        ".cfi_restore %esi\n"
        "popl %ebx\n"
        ".cfi_adjust_cfa_offset -4\n"
        ".cfi_restore %ebx\n"
        "retl\n"
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
