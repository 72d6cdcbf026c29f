/* The instructions that reach a host: one function each, one C file per architecture.
 *
 * A frame is seven 64-bit slots on every architecture.  A function loads the registers from the frame, executes
 * exactly one instruction that may trap, stores the registers back and returns 0; or, where that instruction
 * faulted, the fault (see VMT_FAULT), with the frame holding the registers as the fault left them.
 *
 * How a fault comes back: around the instruction the top of the stack is a slot that holds 0.  fault.c looks up the
 * faulting address in vmt_fixups, writes the fault into that slot and moves the instruction pointer to `resume`: no
 * jump out of C, no lock, no thread-local state, as a kernel's exception table does it.
 */
#ifndef VMT_INSN_H
#define VMT_INSN_H

#include <stdint.h>

typedef struct {
    uint64_t ax, bx, cx, dx, si, di, bp;
} vmt_frame;

/* signal number in the low byte, si_code above it */
#define VMT_FAULT(signo, code) ((uint32_t)(((uint32_t)(code) << 8) | ((uint32_t)(signo) & 0xff)))

typedef uint32_t (*vmt_insn)(vmt_frame *);

/* Every architecture has the backdoor in three forms. x86: IN EAX,DX; REP OUTSB; REP INSB.
 * aarch64: MRS XZR,MDCCSR_EL0 with X7 saying which of these it stands for. */
uint32_t vmt_low(vmt_frame *);
uint32_t vmt_high_out(vmt_frame *);
uint32_t vmt_high_in(vmt_frame *);

#if defined(__x86_64__) || defined(__i386__)
uint32_t vmt_vmcall(vmt_frame *);
uint32_t vmt_vmmcall(vmt_frame *);
uint32_t vmt_rdpmc(vmt_frame *); /* in: cx; out: ax, dx */
uint32_t vmt_cpuid(vmt_frame *); /* in: ax, cx; out: ax, bx, cx, dx */
#endif

/* Offsets from the entry's own field, so that the table needs no relocation. */
typedef struct {
    int32_t insn;
    int32_t resume;
} vmt_fixup;

extern const vmt_fixup vmt_fixups[] __attribute__((visibility("hidden")));
extern const uint32_t vmt_fixups_count __attribute__((visibility("hidden")));

#endif
