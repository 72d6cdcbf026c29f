/* A 32-bit guest program without a C library, so that it needs no 32-bit one to be built.
 *
 * The exit status has a bit for each thing that went right: 1 IN, 2 REP OUTSB, 4 REP INSB, 8 ioperm, 16 IN AL changes
 * AL alone, 32 socketcall(socket, AF_VSOCK) is refused.
 */
static int call(int nr, int a, int b, int c)
{
    int result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(nr), "b"(a), "c"(b), "d"(c) : "memory");
    return result;
}

void _start(void)
{
    static char data[8];
    static const unsigned vsock[3] = {40, 1, 0};
    int right = 0;
    unsigned eax = 0x564D5868, ebx = 41, ecx = 10, edx = 0x5658, edi, esi;

    __asm__ volatile("inl %%dx, %%eax" : "+a"(eax), "+b"(ebx), "+c"(ecx), "+d"(edx));
    right |= ebx == 42 && eax == 0x99 ? 1 : 0;

    eax = 0x564D5868, ebx = 0x10000, ecx = 5, edx = 0x5659, esi = (unsigned)"abcde";
    unsigned start = esi;
    __asm__ volatile("cld; rep outsb" : "+a"(eax), "+b"(ebx), "+c"(ecx), "+d"(edx), "+S"(esi) : : "memory");
    right |= ecx == 0 && esi == start + 5 ? 2 : 0;

    eax = 0x564D5868, ebx = 0x10000, ecx = 4, edx = 0x5659, edi = (unsigned)data;
    __asm__ volatile("cld; rep insb" : "+a"(eax), "+b"(ebx), "+c"(ecx), "+d"(edx), "+D"(edi) : : "memory");
    right |= ecx == 0 && edi == (unsigned)data + 4 && data[0] == 'A' && data[3] == 'D' && !data[4] ? 4 : 0;

    right |= call(101, 0x5658, 4, 1) == 0 ? 8 : 0;

    eax = 0x564D5868, ebx = 41, ecx = 10, edx = 0x5658;
    __asm__ volatile("inb %%dx, %%al" : "+a"(eax), "+b"(ebx), "+c"(ecx), "+d"(edx));
    right |= ebx == 42 && eax == (0x564D5800 | 0x99) ? 16 : 0;

    right |= call(102, 1, (int)vsock, 0) == -97 ? 32 : 0;
    call(1, right, 0, 0);
    __builtin_unreachable();
}
