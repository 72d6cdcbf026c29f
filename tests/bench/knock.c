/* A guest program that traps as often as it is told and says how fast that went.
 *
 * knock COUNT [THREADS]: GETVERSION by IN EAX,DX, COUNT times in each thread; prints traps per second, of all threads
 * together. Exit status 1: somebody answered wrongly.
 */
#include <pthread.h>
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

static void *knock(void *count)
{
    uintptr_t wrong = 0;
    for (long i = 0; i < (long)count; i++) {
        uint32_t eax = 0x564D5868, ebx = 0, ecx = 10, edx = 0x5658;
        __asm__ volatile("inl %%dx, %%eax" : "+a"(eax), "+b"(ebx), "+c"(ecx), "+d"(edx)::"memory");
        wrong |= ebx != 0x564D5868;
    }
    return (void *)wrong;
}

int main(int argc, char **argv)
{
    long count = argc > 1 ? atol(argv[1]) : 1, threads = argc > 2 ? atol(argv[2]) : 1;
    pthread_t ids[64];
    void *wrong = NULL;
    double start = now();
    if (threads == 1) {
        wrong = knock((void *)count);
    }
    for (long i = 0; threads > 1 && i < threads && i < 64; i++) {
        pthread_create(&ids[i], NULL, knock, (void *)count);
    }
    for (long i = 0; threads > 1 && i < threads && i < 64; i++) {
        void *result;
        pthread_join(ids[i], &result);
        wrong = result ? result : wrong;
    }
    printf("%.0f\n", (double)(count * threads) / (now() - start));
    return wrong != NULL;
}
