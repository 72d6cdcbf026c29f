/* A library that executes CPUID. */
#include <stdint.h>

uint32_t ask(uint32_t leaf);

uint32_t ask(uint32_t leaf)
{
    uint32_t bx;
    __asm__ volatile("cpuid" : "+a"(leaf), "=b"(bx) : : "ecx", "edx");
    return bx;
}
