/* Without a library, symbols or unwinding tables, in 32 or 64 bits: is this VMware? The exit status tells: 7. */
static int work(int value)
{
    volatile int here = value;
    for (int i = 0; i < 100; i++) {
        here = here * 31 + i;
    }
    return here;
}

void _start(void);

void _start(void)
{
    unsigned ax = 0x40000000, bx, cx = 0, dx;
    int status = work(3) == work(3) ? 0 : 64;
    __asm__ volatile("cpuid" : "+a"(ax), "=b"(bx), "+c"(cx), "=d"(dx));
    status |= (ax == 0x40000010) | (bx == 0x61774d56) << 1 | (cx == 0x4d566572) << 2; /* "VMwa" "reVM" */
#ifdef __x86_64__
    __asm__ volatile("syscall" : : "a"(60), "D"(status) : "rcx", "r11", "memory");
#else
    __asm__ volatile("int $0x80" : : "a"(1), "b"(status) : "memory");
#endif
    for (;;) {
    }
}
