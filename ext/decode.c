#include "decode.h"

/* Intel SDM vol. 2: 2.1.1 (prefixes), 2.2.1 (REX: only as the last byte before the opcode), IN, OUT, INS, OUTS, VMCALL,
 * RDPMC, CPUID, HLT; AMD APM vol. 3: VMMCALL. */

int vmt_decode(const uint8_t *code, size_t size, int bits, vmt_decoded *out)
{
    int narrow = 0, addr = 0, rep = 0, fs_gs = 0, other = 0, wide = 0;
    size_t at = 0;

    if (size > VMT_LONGEST_INSN) {
        size = VMT_LONGEST_INSN;
    }
    for (;; at++) {
        if (at == size) {
            return 0;
        }
        uint8_t byte = code[at];
        if (byte == 0x66) {
            narrow = 1;
        } else if (byte == 0x67) {
            addr = 1;
        } else if (byte == 0xf3) {
            rep = 1;
        } else if (byte == 0x64 || byte == 0x65) {
            fs_gs = 1;
        } else if (byte == 0xf0 || byte == 0xf2) {
            other = 1; /* LOCK is #UD; nobody writes REPNE here */
        } else if (byte == 0x26 || byte == 0x2e || byte == 0x36 || byte == 0x3e) {
            /* ES, CS, SS, DS: one flat segment for all of Linux' programs */
        } else if (bits == 64 && (byte & 0xf0) == 0x40) {
            wide = byte & 8;
            continue;
        } else {
            break;
        }
        wide = 0; /* a REX before another prefix is void */
    }
    if (other) {
        return 0;
    }

    size_t left = size - at;
    uint8_t op = code[at], length = 1;
    *out = (vmt_decoded){0};
    switch (op) {
    case 0xec: /* IN AL,DX */
    case 0xed: /* IN EAX,DX; IN AX,DX */
        out->insn = VMT_PORT_LOW;
        out->width = op == 0xec ? 1 : narrow && !wide ? 2 : 4;
        break;
    case 0xee: /* OUT DX,AL */
    case 0xef: /* OUT DX,EAX; OUT DX,AX */
        out->insn = VMT_PORT_LOW;
        break;
    case 0x6c: /* INSB */
    case 0x6e: /* OUTSB */
        /* Without REP it moves one byte and no count: no call. An FS or GS base is not in the frame that a host
         * sees, and 16-bit addressing reaches no buffer of a 32-bit program. */
        if (!rep || (fs_gs && op == 0x6e) || (addr && bits == 32)) {
            return 0;
        }
        out->insn = op == 0x6c ? VMT_PORT_IN : VMT_PORT_OUT;
        out->addr32 = (uint8_t)addr;
        break;
    case VMT_ESCAPE:
    case VMT_BREAKPOINT:
        if (left >= 2 && code[at + 1] == 0x33 && op == VMT_ESCAPE) {
            out->insn = VMT_RDPMC;
            length = 2;
        } else if (left >= 2 && code[at + 1] == 0xa2) {
            out->insn = VMT_CPUID; /* faults by itself where ARCH_CPUID_FAULT has asked for it */
            length = 2;
        } else if (left >= 3 && code[at + 1] == 0x01 && (code[at + 2] == 0xc1 || code[at + 2] == 0xd9) && !narrow && !rep) {
            out->insn = code[at + 2] == 0xc1 ? VMT_VMCALL : VMT_VMMCALL;
            length = 3;
        } else {
            return 0;
        }
        break;
    default:
        return 0;
    }
    out->length = (uint8_t)(at + length);
    return 1;
}
