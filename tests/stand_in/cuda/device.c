/* libcudart: which devices there are, what they are, errors, and the driver by name. */
#define _GNU_SOURCE
#include "cudart.h"
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

static __thread Error last;
static __thread int ordinal;

Error done(Error error) {
    if (error != cudaSuccess && error != cudaErrorNotReady) last = error;
    return error;
}
Error cudaGetLastError(void) {
    Error error = last;
    last = cudaSuccess;
    return error;
}
Error cudaPeekAtLastError(void) { return last; }

int current_ordinal(void) { return ordinal; }
int current_card(void) { return card_of_ordinal(ordinal); }
Error enter(void) {
    int card = current_card();
    return card < 0 ? cudaErrorNoDevice : (Error)card_enter(card);
}

Error cudaDriverGetVersion(int *version) {
    *version = (int)card_figure("STAND_IN_DRIVER", 0, 13000);
    return cudaSuccess;
}
Error cudaRuntimeGetVersion(int *version) {
    *version = 13000;
    return cudaSuccess;
}
Error cudaGetDeviceCount(int *count) {
    int driver;
    cudaDriverGetVersion(&driver);
    for (*count = 0; card_of_ordinal(*count) >= 0;) ++*count;
    if (driver < 13000) return done(cudaErrorInsufficientDriver);
    return *count ? cudaSuccess : done(cudaErrorNoDevice);
}
Error cudaGetDevice(int *device) {
    *device = ordinal;
    return cudaSuccess;
}
Error cudaSetDevice(int device) {
    int card = card_of_ordinal(device);
    if (card < 0) return done(cudaErrorInvalidDevice);
    Error entered = (Error)card_enter(card);
    if (!entered) ordinal = device;
    return done(entered);
}
Error cudaInitDevice(int device, unsigned flags, unsigned more) {
    (void)flags, (void)more;
    return cudaSetDevice(device);
}

static int shared_bytes(int card, int for_block) {
    return (card_capability(card) == 90 ? 233472 : 167936) - 1024 * for_block;
}
static int multiprocessors(int card) {
    return (int)card_figure("STAND_IN_MULTIPROCESSORS", card,
                            card_capability(card) == 90 ? 132 : 108);
}
static int threads(int card) { /* of a multiprocessor, at once */
    switch (card_capability(card)) {
    case 75: return 1024;
    case 86: case 87: case 89: case 120: return 1536;
    default: return 2048;
    }
}
Error cudaGetDeviceProperties(struct cudaDeviceProp *p, int device) {
    int card = card_of_ordinal(device);
    if (card < 0) return done(cudaErrorInvalidDevice);
    *p = (struct cudaDeviceProp){
        .totalGlobalMem = card_total_bytes(card), .sharedMemPerBlock = 49152,
        .regsPerBlock = 65536, .warpSize = 32, .memPitch = 2147483647,
        .maxThreadsPerBlock = 1024, .maxThreadsDim = {1024, 1024, 64},
        .maxGridSize = {2147483647, 65535, 65535}, .totalConstMem = 65536,
        .major = card_capability(card) / 10, .minor = card_capability(card) % 10,
        .textureAlignment = 512, .texturePitchAlignment = 32,
        .multiProcessorCount = multiprocessors(card), .canMapHostMemory = 1,
        .concurrentKernels = 1, .ECCEnabled = 1, .pciBusID = 1 + card, .asyncEngineCount = 3,
        .unifiedAddressing = 1, .memoryBusWidth = 5120, .l2CacheSize = 52428800,
        .persistingL2CacheMaxSize = 32768000, .maxThreadsPerMultiProcessor = threads(card),
        .streamPrioritiesSupported = 1, .globalL1CacheSupported = 1, .localL1CacheSupported = 1,
        .sharedMemPerMultiprocessor = (size_t)shared_bytes(card, 0),
        .regsPerMultiprocessor = 65536, .managedMemory = 1, .concurrentManagedAccess = 1,
        .computePreemptionSupported = 1, .canUseHostPointerForRegisteredMem = 1,
        .cooperativeLaunch = 1, .sharedMemPerBlockOptin = (size_t)shared_bytes(card, 1),
        .maxBlocksPerMultiProcessor = 32, .accessPolicyMaxWindowSize = 134213632,
        .reservedSharedMemPerBlock = 1024, .hostRegisterSupported = 1,
        .clusterLaunch = card_capability(card) >= 90,
    };
    card_name(card, p->name, sizeof p->name);
    card_uuid(card, (unsigned char *)p->uuid.bytes);
    return cudaSuccess;
}
Error cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int device) {
    int card = card_of_ordinal(device);
    if (card < 0) return done(cudaErrorInvalidDevice);
    switch ((int)attribute) {
    case cudaDevAttrMaxThreadsPerBlock:
    case cudaDevAttrReservedSharedMemoryPerBlock:
    case cudaDevAttrMaxBlockDimX:
    case cudaDevAttrMaxBlockDimY: *value = 1024; break;
    case cudaDevAttrMaxBlockDimZ: *value = 64; break;
    case cudaDevAttrMaxPitch:
    case cudaDevAttrMaxGridDimX: *value = 2147483647; break;
    case cudaDevAttrMaxGridDimY:
    case cudaDevAttrMaxGridDimZ: *value = 65535; break;
    case cudaDevAttrMaxSharedMemoryPerBlock: *value = 49152; break;
    case cudaDevAttrWarpSize:
    case cudaDevAttrMaxBlocksPerMultiprocessor: *value = 32; break;
    case cudaDevAttrTotalConstantMemory:
    case cudaDevAttrMaxRegistersPerBlock:
    case cudaDevAttrMaxRegistersPerMultiprocessor: *value = 65536; break;
    case cudaDevAttrClockRate: *value = 1980000; break;
    case cudaDevAttrMemoryClockRate: *value = 2619000; break;
    case cudaDevAttrGlobalMemoryBusWidth: *value = 5120; break;
    case cudaDevAttrL2CacheSize: *value = 52428800; break;
    case cudaDevAttrTextureAlignment: *value = 512; break;
    case cudaDevAttrMultiProcessorCount: *value = multiprocessors(card); break;
    case cudaDevAttrMaxThreadsPerMultiProcessor: *value = threads(card); break;
    case cudaDevAttrComputeCapabilityMajor: *value = card_capability(card) / 10; break;
    case cudaDevAttrComputeCapabilityMinor: *value = card_capability(card) % 10; break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor: *value = shared_bytes(card, 0); break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = shared_bytes(card, 1); break;
    case cudaDevAttrAsyncEngineCount: *value = 3; break;
    case cudaDevAttrCanMapHostMemory:
    case cudaDevAttrConcurrentKernels:
    case cudaDevAttrEccEnabled:
    case cudaDevAttrUnifiedAddressing:
    case cudaDevAttrStreamPrioritiesSupported:
    case cudaDevAttrManagedMemory:
    case cudaDevAttrComputePreemptionSupported:
    case cudaDevAttrCanUseHostPointerForRegisteredMem:
    case cudaDevAttrCooperativeLaunch:
    case cudaDevAttrHostRegisterSupported: *value = 1; break;
    default: *value = 0; /* memory pools, GPUDirect, multicast, IPC */
    }
    return cudaSuccess;
}
Error cudaDeviceGetPCIBusId(char *text, int room, int device) {
    int card = card_of_ordinal(device);
    if (card < 0) return done(cudaErrorInvalidDevice);
    snprintf(text, (size_t)room, "0000:%02X:00.0", 1 + card);
    return cudaSuccess;
}
Error cudaDeviceCanAccessPeer(int *can, int device, int peer) {
    (void)device, (void)peer;
    *can = 0;
    return cudaSuccess;
}

static const struct { Error error; const char *name, *text; } words[] = {
#define WORDS(error, text) {error, #error, text}
    WORDS(cudaSuccess, "no error"),
    WORDS(cudaErrorInvalidValue, "invalid argument"),
    WORDS(cudaErrorMemoryAllocation, "out of memory"),
    WORDS(cudaErrorInitializationError, "initialization error"),
    WORDS(cudaErrorInvalidConfiguration, "invalid configuration argument"),
    WORDS(cudaErrorInsufficientDriver, "CUDA driver version is insufficient for CUDA runtime version"),
    WORDS(cudaErrorDevicesUnavailable, "CUDA-capable device(s) is/are busy or unavailable"),
    WORDS(cudaErrorNoDevice, "no CUDA-capable device is detected"),
    WORDS(cudaErrorInvalidDevice, "invalid device ordinal"),
    WORDS(cudaErrorOperatingSystem, "OS call failed or operation not supported on this OS"),
    WORDS(cudaErrorInvalidResourceHandle, "invalid resource handle"),
    WORDS(cudaErrorNotReady, "device not ready"),
    WORDS(cudaErrorLaunchFailure, "unspecified launch failure"),
    WORDS(cudaErrorNotSupported, "operation not supported"),
};
enum { WORDED = sizeof words / sizeof *words };
const char *cudaGetErrorString(Error error) {
    for (int i = 0; i < WORDED; i++)
        if (words[i].error == error) return words[i].text;
    return "an error that the stand-in has no words for";
}
const char *cudaGetErrorName(Error error) {
    for (int i = 0; i < WORDED; i++)
        if (words[i].error == error) return words[i].name;
    return "cudaErrorUnknown";
}

Error cudaGetDriverEntryPointByVersion(const char *name, void **function, unsigned version,
                                       unsigned long long flags,
                                       enum cudaDriverEntryPointQueryResult *result) {
    static void *driver;
    (void)version, (void)flags;
    if (!driver) driver = dlopen("libcuda.so.1", RTLD_NOW);
    *function = driver ? dlsym(driver, name) : NULL;
    if (result)
        *result = *function ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
    return cudaSuccess;
}
Error cudaGetDriverEntryPoint(const char *name, void **function, unsigned long long flags,
                              enum cudaDriverEntryPointQueryResult *result) {
    return cudaGetDriverEntryPointByVersion(name, function, 0, flags, result);
}
