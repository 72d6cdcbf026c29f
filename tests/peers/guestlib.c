/* A program that uses VMware's guest library as its users do: prints what it is told, a value a line, twice.
 *
 * The prototypes are the library's documented ones; Debian's runtime package has no headers.
 * guestlib SECONDS: how long to wait between the two.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

typedef struct handle *Handle;

extern int VMGuestLib_OpenHandle(Handle *handle);
extern int VMGuestLib_UpdateInfo(Handle handle);
extern int VMGuestLib_CloseHandle(Handle handle);
extern const char *VMGuestLib_GetErrorText(int error);
extern int VMGuestLib_GetSessionId(Handle handle, uint64_t *id);
extern int VMGuestLib_GetResourcePoolPath(Handle handle, size_t *size, char *path);
extern int VMGuestLib_StatGet(const char *encoding, const char *stat, char **reply, size_t *size);
extern void VMGuestLib_StatFree(char *reply, size_t size);

#define WORDS(WORD)                                                                                                    \
    WORD(CpuReservationMHz) WORD(CpuLimitMHz) WORD(CpuShares) WORD(HostProcessorSpeed) WORD(MemReservationMB)          \
    WORD(MemLimitMB) WORD(MemShares) WORD(MemMappedMB) WORD(MemActiveMB) WORD(MemOverheadMB) WORD(MemBalloonedMB)      \
    WORD(MemSwappedMB) WORD(MemSharedMB) WORD(MemSharedSavedMB) WORD(MemUsedMB) WORD(HostNumCpuCores)                  \
    WORD(MemZippedMB) WORD(MemZipSavedMB) WORD(MemLLSwappedMB) WORD(MemSwapTargetMB) WORD(MemBalloonTargetMB)          \
    WORD(MemBalloonMaxMB)
#define LONGS(LONG)                                                                                                    \
    LONG(CpuUsedMs) LONG(ElapsedMs) LONG(CpuStolenMs) LONG(MemTargetSizeMB) LONG(HostCpuUsedMs) LONG(HostMemSwappedMB) \
    LONG(HostMemSharedMB) LONG(HostMemUsedMB) LONG(HostMemPhysMB) LONG(HostMemPhysFreeMB) LONG(HostMemKernOvhdMB)      \
    LONG(HostMemMappedMB) LONG(HostMemUnmappedMB) LONG(MemShares64)

#define DECLARE_WORD(name) extern int VMGuestLib_Get##name(Handle handle, uint32_t *value);
#define DECLARE_LONG(name) extern int VMGuestLib_Get##name(Handle handle, uint64_t *value);
WORDS(DECLARE_WORD)
LONGS(DECLARE_LONG)

static void check(int error, const char *what)
{
    if (error == 0)
        return;
    fprintf(stderr, "%s: %d %s\n", what, error, VMGuestLib_GetErrorText(error));
    exit(1);
}

static void show(const char *name, int error, uint64_t value)
{
    if (error == 0)
        printf("%s %" PRIu64 "\n", name, value);
    else
        printf("%s: %s\n", name, VMGuestLib_GetErrorText(error));
}

static void tell(Handle handle)
{
    uint64_t session = 0;
    char path[512] = "";
    size_t size = sizeof path;

    check(VMGuestLib_UpdateInfo(handle), "UpdateInfo");
    check(VMGuestLib_GetSessionId(handle, &session), "GetSessionId");
    show("SessionId", 0, session);
    check(VMGuestLib_GetResourcePoolPath(handle, &size, path), "GetResourcePoolPath");
    printf("ResourcePoolPath %s\n", path);
#define SHOW_WORD(name)                                                                                                \
    {                                                                                                                  \
        uint32_t value = 0;                                                                                            \
        int error = VMGuestLib_Get##name(handle, &value);                                                              \
        show(#name, error, value);                                                                                     \
    }
#define SHOW_LONG(name)                                                                                                \
    {                                                                                                                  \
        uint64_t value = 0;                                                                                            \
        int error = VMGuestLib_Get##name(handle, &value);                                                              \
        show(#name, error, value);                                                                                     \
    }
    WORDS(SHOW_WORD)
    LONGS(SHOW_LONG)
}

int main(int argc, char **argv)
{
    Handle handle;
    char *reply;
    size_t size;

    check(VMGuestLib_OpenHandle(&handle), "OpenHandle");
    tell(handle);
    usleep((useconds_t)((argc > 1 ? atof(argv[1]) : 0) * 1e6));
    tell(handle);
    check(VMGuestLib_CloseHandle(handle), "CloseHandle");
    check(VMGuestLib_StatGet("text", "session", &reply, &size), "StatGet");
    printf("StatGet %.*s", (int)size, reply);
    VMGuestLib_StatFree(reply, size);
    return 0;
}
