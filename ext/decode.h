/* Which backdoor instruction is it? Pure: bytes in, answer out, no process in sight. */
#ifndef VMT_DECODE_H
#define VMT_DECODE_H

#include <stddef.h>
#include <stdint.h>

/* The numbers that Backdoor.exit() knows. */
enum { VMT_PORT_LOW, VMT_PORT_OUT, VMT_PORT_IN, VMT_VMCALL, VMT_VMMCALL, VMT_RDPMC };

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
