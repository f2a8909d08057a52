/* A double of NVML: the entry points that a driver probe calls, answering what its environment says.
 *
 *   DOUBLE_DRIVER      nvmlSystemGetDriverVersion, e.g. "570.86.15"
 *   DOUBLE_CUDA        nvmlSystemGetCudaDriverVersion_v2, e.g. "12080"
 *   DOUBLE_GPUS        one GPU after the other, set apart by ";": name,MiB,major.minor,mig (mig: 0, 1, or - for
 *                      a GPU that cannot be divided), e.g. "NVIDIA A100-SXM4-80GB,81920,8.0,1"
 *   DOUBLE_INIT        what nvmlInit returns (nvmlReturn_t); 0 unless set
 *   DOUBLE_HANG        the function that never returns
 *   DOUBLE_CRASH       the function that reads through a null pointer
 *   DOUBLE_CRASH_AT    the device's index at which nvmlDeviceGetName crashes or hangs; 0 unless set
 *   DOUBLE_LIE         when set: numbers are garbage, texts fill their buffer and have no final NUL
 *
 * Compiled with -DOLD it lacks the functions that drivers before 450 lack.
 */
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SUCCESS = 0, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3 };

struct memory { unsigned long long total, free, used; };

static void meet(const char *function)
{
    const char *hang = getenv("DOUBLE_HANG"), *crash = getenv("DOUBLE_CRASH");
    if (hang && strcmp(hang, function) == 0)
        for (;;)
            pause();
    if (crash && strcmp(crash, function) == 0)
        raise(SIGSEGV);
}

static int lies(void) { return getenv("DOUBLE_LIE") != NULL; }

static int answer(char *buffer, unsigned length, const char *text)
{
    if (lies())
        memset(buffer, 0xfe, length);
    else
        snprintf(buffer, length, "%s", text);
    return SUCCESS;
}

/* Return the index-th part of DOUBLE_GPUS, or NULL. */
static const char *gpu(unsigned index, char *copy, size_t size)
{
    const char *all = getenv("DOUBLE_GPUS");
    snprintf(copy, size, "%s", all ? all : "");
    char *rest = copy, *part;
    while ((part = strsep(&rest, ";")) != NULL)
        if (*part && index-- == 0)
            return part;
    return NULL;
}

static const char *field(void *device, unsigned number, char *copy, size_t size)
{
    const char *found = gpu((unsigned)((uintptr_t)device - 1), copy, size);
    if (!found)
        return NULL;
    char *rest = (char *)found, *part = NULL;
    for (unsigned i = 0; i <= number; i++)
        part = strsep(&rest, ",");
    return part;
}

int nvmlInit_v2(void)
{
    meet("nvmlInit");
    const char *code = getenv("DOUBLE_INIT");
    return code ? atoi(code) : SUCCESS;
}

int nvmlInit(void) { return nvmlInit_v2(); }
int nvmlInitWithFlags(unsigned flags) { (void)flags; return nvmlInit_v2(); }
int nvmlShutdown(void) { return SUCCESS; }
const char *nvmlErrorString(int code) { (void)code; return "an error of the double"; }

int nvmlSystemGetDriverVersion(char *version, unsigned length)
{
    meet("nvmlSystemGetDriverVersion");
    const char *text = getenv("DOUBLE_DRIVER");
    return answer(version, length, text ? text : "570.86.15");
}

static int cuda(int *version)
{
    meet("nvmlSystemGetCudaDriverVersion");
    const char *text = getenv("DOUBLE_CUDA");
    *version = lies() ? -2147483647 : atoi(text ? text : "12080");
    return SUCCESS;
}

int nvmlSystemGetCudaDriverVersion(int *version) { return cuda(version); }
#ifndef OLD
int nvmlSystemGetCudaDriverVersion_v2(int *version) { return cuda(version); }
#endif

int nvmlDeviceGetCount_v2(unsigned *count)
{
    meet("nvmlDeviceGetCount");
    char copy[4096];
    for (*count = 0; gpu(*count, copy, sizeof copy); ++*count)
        ;
    if (lies())
        *count = 4000000000u;
    return SUCCESS;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device)
{
    char copy[4096];
    if (!gpu(index, copy, sizeof copy))
        return INVALID_ARGUMENT;
    *device = (void *)((uintptr_t)index + 1);
    return SUCCESS;
}

int nvmlDeviceGetName(void *device, char *name, unsigned length)
{
    const char *at = getenv("DOUBLE_CRASH_AT");
    if ((uintptr_t)device - 1 == (uintptr_t)(at ? atoi(at) : 0))
        meet("nvmlDeviceGetName");
    char copy[4096];
    return answer(name, length, field(device, 0, copy, sizeof copy));
}

int nvmlDeviceGetMemoryInfo(void *device, struct memory *memory)
{
    char copy[4096];
    memory->total = lies() ? ~0ull : strtoull(field(device, 1, copy, sizeof copy), NULL, 10) << 20;
    memory->used = 0;
    memory->free = memory->total;
    return SUCCESS;
}

int nvmlDeviceGetCudaComputeCapability(void *device, int *major, int *minor)
{
    char copy[4096];
    if (sscanf(field(device, 2, copy, sizeof copy), "%d.%d", major, minor) != 2)
        return NOT_SUPPORTED;
    if (lies())
        *major = *minor = -7;
    return SUCCESS;
}

#ifndef OLD
int nvmlDeviceGetMigMode(void *device, unsigned *current, unsigned *pending)
{
    char copy[4096];
    const char *mig = field(device, 3, copy, sizeof copy);
    if (!mig || *mig == '-')
        return NOT_SUPPORTED;
    *current = *pending = lies() ? 77 : (unsigned)atoi(mig);
    return SUCCESS;
}
#endif
