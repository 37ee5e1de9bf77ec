/* libcuda, the driver: what torch asks of it directly, virtual memory above all, which expandable
 * segments are made of: addresses are reserved, handles are the bytes that they hold. */
#define _GNU_SOURCE
#include "card.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { OUT_OF_MEMORY = 2, NO_DEVICE = 100, GRANULE = 2 << 20 };
int cudaGetDeviceCount(int *), cudaGetDevice(int *), cudaDeviceGetAttribute(int *, int, int);
static int context; /* its address serves as the primary context */

static int current_card(void) {
    int ordinal;
    cudaGetDevice(&ordinal);
    return card_of_ordinal(ordinal);
}

int cuInit(unsigned flags) {
    int count;
    (void)flags;
    return cudaGetDeviceCount(&count);
}
int cuDriverGetVersion(int *version) {
    return *version = (int)card_figure("STAND_IN_DRIVER", 0, 13000), 0;
}
int cuDeviceGetCount(int *count) {
    int error = cudaGetDeviceCount(count);
    return error == NO_DEVICE ? 0 : error;
}
int cuDeviceGet(int *device, int ordinal) { return *device = ordinal, 0; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    return cudaDeviceGetAttribute(value, attribute, device);
}
int cuDeviceGetName(char *text, int room, int device) {
    return card_name(card_of_ordinal(device), text, (size_t)room), 0;
}
int cuDevicePrimaryCtxGetState(int device, unsigned *flags, int *is_active) {
    (void)device;
    *flags = 0;
    return *is_active = 1, 0;
}
int cuDevicePrimaryCtxRetain(void **at, int device) {
    (void)device;
    return *at = &context, 0;
}
int cuCtxGetCurrent(void **at) { return *at = &context, 0; }
int cuCtxPopCurrent(void **at) { return *at = &context, 0; }
int cuCtxSetCurrent(void *at) {
    (void)at;
    return 0;
}
int cuCtxPushCurrent(void *at) { return cuCtxSetCurrent(at); }
int cuGetErrorString(int error, const char **text) {
    *text = error == 801 ? "operation not supported" : "an error of the driver stand-in";
    return 0;
}

int cuMemGetAllocationGranularity(size_t *bytes) { return *bytes = GRANULE, 0; }
int cuMemAddressReserve(void **at, size_t bytes) {
    return (*at = stand_in_reserve(bytes)) ? 0 : OUT_OF_MEMORY;
}
int cuMemAddressFree(void *at, size_t bytes) { return stand_in_unreserve(at, bytes), 0; }
int cuMemCreate(uint64_t *handle, size_t bytes) {
    int error = card_enter(current_card());
    *handle = bytes;
    return error ? error : card_take(current_card(), bytes);
}
int cuMemRelease(uint64_t handle) { return card_give(current_card(), handle), 0; }
int cuMemMap(void *at, size_t bytes) {
    (void)at, (void)bytes;
    return 0;
}
int cuMemUnmap(void *at, size_t bytes) { return madvise(at, bytes, MADV_DONTNEED), 0; }
int cuMemSetAccess(void *at, size_t bytes) { return cuMemMap(at, bytes); }

/* Kernels that torch compiles as it runs: loaded by name, and do nothing. */
int cuModuleLoadData(void **module, const void *image) {
    (void)image;
    return !(*module = calloc(1, 64));
}
int cuModuleUnload(void *module) { return free(module), 0; }
int cuModuleGetFunction(void **function, void *module, const char *name) {
    (void)module;
    return !(*function = strdup(name));
}
int cuLaunchKernel(void *function, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                   unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared,
                   void *stream) {
    (void)function, (void)shared;
    stand_in_launch(stream, (double)grid_x * grid_y * grid_z * block_x * block_y * block_z);
    return 0;
}
int cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, void *function, int threads) {
    (void)function;
    return *blocks = 2048 / (threads ? threads : 1), 0;
}
