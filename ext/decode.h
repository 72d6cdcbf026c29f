/* Which instruction of ours is it? Pure: bytes in, answer out, no process in sight. */
#ifndef VMT_DECODE_H
#define VMT_DECODE_H

#include <stddef.h>
#include <stdint.h>

/* The numbers that Backdoor.exit() knows; and CPUID, which no backdoor answers. */
enum { VMT_PORT_LOW, VMT_PORT_OUT, VMT_PORT_IN, VMT_VMCALL, VMT_VMMCALL, VMT_RDPMC, VMT_CPUID };

/* The breakpoint for CPUID, VMCALL and VMMCALL, which don't trap by themselves everywhere: HLT instead of the first
 * byte of the opcode (0F). User code may not halt, so it is a #GP right there, in 32 bits and in 64; what is left of the
 * instruction says which one it was, and no table of breakpoints has to follow forks, threads and unmapping. */
enum { VMT_ESCAPE = 0x0f, VMT_BREAKPOINT = 0xf4 };

enum { VMT_LONGEST_INSN = 15 };

typedef struct {
    uint8_t insn;   /* VMT_PORT_LOW ... */
    uint8_t length; /* bytes, prefixes included */
    uint8_t width;  /* VMT_PORT_LOW: bytes of EAX that IN changes: 4, 2, 1; OUT changes none: 0 */
    uint8_t addr32; /* a string form in 64-bit code that addresses and counts with 32-bit registers */
} vmt_decoded;

/* 1 and *out filled, or 0: no instruction of ours. `bits` is 64 or 32, the mode of the code segment. */
int vmt_decode(const uint8_t *code, size_t size, int bits, vmt_decoded *out);

#endif
