/* A program that makes no exits. quiet spin|read|call COUNT: arithmetic; reads of 4 KiB from a cached file; the
 * cheapest system call there is. Prints the seconds that it took, the process' start and end left out. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec + (double)at.tv_nsec * 1e-9;
}

int main(int argc, char **argv)
{
    const char *what = argc > 2 ? argv[1] : "";
    long count = argc > 2 ? atol(argv[2]) : 0;
    static char block[4096];
    volatile uint64_t result = 1;
    int file = open("/proc/self/exe", O_RDONLY);
    double start = now();
    for (long i = 0; i < count; i++) {
        if (*what == 's') {
            uint64_t word = result;
            for (int j = 0; j < 1000; j++) {
                word = word * 6364136223846793005 + 1442695040888963407;
            }
            result = word;
        } else if (*what == 'r') {
            result += (uint64_t)pread(file, block, sizeof block, 0);
        } else {
            result += (uint64_t)syscall(SYS_getppid);
        }
    }
    printf("%.6f\n", now() - start);
    return 0;
}
