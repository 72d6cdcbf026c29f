#define _GNU_SOURCE
#include "ptrace.h"

#include <errno.h>

#if VMT_TRACES

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

enum { PAGE = 4096 };

/* Where process_vm_* is not to be had (old kernels, seccomp profiles of containers), a tracer still has this.
 * It differs in one thing: it also writes to pages that the program could only read. */
static int through_proc(int tid, uint64_t address, void *data, size_t size, int writing)
{
    char path[32];
    snprintf(path, sizeof path, "/proc/%d/mem", tid);
    int fd = open(path, (writing ? O_WRONLY : O_RDONLY) | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    int result = 0;
    for (size_t done = 0; done < size;) {
        off_t where = (off_t)(address + done);
        ssize_t n = writing ? pwrite(fd, (char *)data + done, size - done, where)
                            : pread(fd, (char *)data + done, size - done, where);
        if (n <= 0) {
            result = -EFAULT;
            break;
        }
        done += (size_t)n;
    }
    close(fd);
    return result;
}

static int transfer(int tid, uint64_t address, void *data, size_t size, int writing)
{
    if (size == 0) {
        return 0;
    }
    struct iovec here = {data, size}, there = {(void *)(uintptr_t)address, size};
    ssize_t n = writing ? process_vm_writev(tid, &here, 1, &there, 1, 0)
                        : process_vm_readv(tid, &here, 1, &there, 1, 0);
    if (n == (ssize_t)size) {
        return 0;
    }
    if (n < 0 && (errno == ENOSYS || errno == EPERM)) {
        return through_proc(tid, address, data, size, writing);
    }
    return n < 0 ? -errno : -EFAULT;
}

int vmt_read(int tid, uint64_t address, void *data, size_t size)
{
    return transfer(tid, address, data, size, 0);
}

int vmt_write(int tid, uint64_t address, const void *data, size_t size)
{
    return transfer(tid, address, (void *)(uintptr_t)data, size, 1);
}

size_t vmt_fetch(int tid, uint64_t address, uint8_t *code, size_t size)
{
    size_t first = PAGE - (address & (PAGE - 1));
    if (first > size) {
        first = size;
    }
    struct iovec here = {code, size};
    struct iovec there[2] = {{(void *)(uintptr_t)address, first}, {(void *)(uintptr_t)(address + first), size - first}};
    ssize_t n = process_vm_readv(tid, &here, 1, there, first < size ? 2 : 1, 0);
    if (n > 0) {
        return (size_t)n;
    }
    /* Pages that may be executed and not read, too, are open to PTRACE_PEEKTEXT. Aligned words cross no page. */
    size_t got = 0;
    while (got < size) {
        uint64_t word_at = (address + got) & ~(uint64_t)7;
        errno = 0;
        long word = ptrace(PTRACE_PEEKTEXT, tid, (void *)(uintptr_t)word_at, 0);
        if (errno) {
            break;
        }
        for (size_t i = (address + got) - word_at; i < 8 && got < size; i++) {
            code[got++] = (uint8_t)((unsigned long)word >> (8 * i));
        }
    }
    return got;
}

int vmt_plant(int tid, uint64_t address, const uint8_t *code, size_t size)
{
    uint8_t there[VMT_LONGEST_INSN];
    if (size > sizeof there || vmt_fetch(tid, address, there, size) < size || memcmp(there, code, size) != 0) {
        return 0;
    }
    uint64_t word_at = address & ~(uint64_t)7;
    errno = 0;
    unsigned long word = (unsigned long)ptrace(PTRACE_PEEKTEXT, tid, (void *)(uintptr_t)word_at, 0);
    if (errno) {
        return -errno;
    }
    unsigned shift = 8 * (unsigned)(address - word_at);
    word = (word & ~(0xffUL << shift)) | (unsigned long)VMT_BREAKPOINT << shift;
    int result = PTRACE(PTRACE_POKETEXT, tid, word_at, word);
    return result < 0 ? result : 1;
}

#else

int vmt_read(int tid, uint64_t address, void *data, size_t size)
{
    (void)tid, (void)address, (void)data, (void)size;
    return -ENOSYS;
}

int vmt_write(int tid, uint64_t address, const void *data, size_t size)
{
    (void)tid, (void)address, (void)data, (void)size;
    return -ENOSYS;
}

size_t vmt_fetch(int tid, uint64_t address, uint8_t *code, size_t size)
{
    (void)tid, (void)address, (void)code, (void)size;
    return 0;
}

int vmt_plant(int tid, uint64_t address, const uint8_t *code, size_t size)
{
    (void)tid, (void)address, (void)code, (void)size;
    return -ENOSYS;
}

#endif
