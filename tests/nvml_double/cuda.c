/* A double of libcuda: answers what -DCUDA says, or the variable DOUBLE_LIBCUDA; -DSTUB answers as the toolkit's stub.
 *
 * DOUBLE_LIBCUDA is the version (12080); "hang" and "crash" make cuDriverGetVersion do so. DOUBLE_GPUS is as
 * in nvml.c, for one GPU.
 */
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef CUDA
#define CUDA 12080
#endif

int cuDriverGetVersion(int *version)
{
#ifdef STUB
    *version = 0;
    return 34;
#else
    const char *text = getenv("DOUBLE_LIBCUDA");
    puts("a library may print on stdout"); /* and must not disturb the answer */
    if (text && strcmp(text, "hang") == 0)
        for (;;)
            pause();
    if (text && strcmp(text, "crash") == 0)
        raise(SIGSEGV);
    *version = text ? atoi(text) : CUDA;
    return 0;
#endif
}

int cuInit(unsigned flags) { (void)flags; return getenv("DOUBLE_GPUS") ? 0 : 100; }
int cuDeviceGetCount(int *count) { *count = 1; return 0; }
int cuDeviceGet(int *device, int index) { *device = index; return 0; }

int cuDeviceGetName(char *name, int length, int device)
{
    (void)device;
    snprintf(name, (size_t)length, "%.*s", (int)strcspn(getenv("DOUBLE_GPUS"), ","), getenv("DOUBLE_GPUS"));
    return 0;
}

int cuDeviceTotalMem_v2(size_t *bytes, int device)
{
    (void)device;
    *bytes = (size_t)atoi(strchr(getenv("DOUBLE_GPUS"), ',') + 1) << 20;
    return 0;
}

int cuDeviceGetAttribute(int *value, int attribute, int device)
{
    int major = 0, minor = 0;
    (void)device;
    sscanf(getenv("DOUBLE_GPUS"), "%*[^,],%*d,%d.%d", &major, &minor);
    *value = attribute == 75 ? major : minor;
    return 0;
}
