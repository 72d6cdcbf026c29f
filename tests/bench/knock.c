/* A guest program that traps as often as it is told and says how fast that went.
 *
 * knock COUNT: COUNT times GETVERSION by IN EAX,DX; prints traps per second. Exit status 1: somebody answered wrongly.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static double now(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec + (double)at.tv_nsec * 1e-9;
}

int main(int argc, char **argv)
{
    long count = argc > 1 ? atol(argv[1]) : 1;
    int wrong = 0;
    double start = now();
    for (long i = 0; i < count; i++) {
        uint32_t eax = 0x564D5868, ebx = 0, ecx = 10, edx = 0x5658;
        __asm__ volatile("inl %%dx, %%eax" : "+a"(eax), "+b"(ebx), "+c"(ecx), "+d"(edx)::"memory");
        wrong |= ebx != 0x564D5868;
    }
    printf("%.0f\n", (double)count / (now() - start));
    return wrong;
}
