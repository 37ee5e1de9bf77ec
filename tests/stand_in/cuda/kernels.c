/* libcudart: kernels are known by name and checked for what a card refuses, and do nothing. */
#define _GNU_SOURCE
#include "cudart.h"
#include <stdlib.h>
#include <string.h>

enum { FILLED = 4096, DEEPEST = 16, MOST_VARIABLES = 65536, THREADS = 2048, BLOCKS = 32 };

/* Kernels by the address of their host function: a hash table, doubled when it is half full. */
struct kernel { const void *host; const char *name; };
static struct kernel *kernels;
static size_t known, room;

static struct kernel *place(const void *host) {
    size_t at = ((uintptr_t)host >> 4) * 11400714819323198485ull & (room - 1);
    while (kernels[at].host && kernels[at].host != host) at = (at + 1) & (room - 1);
    return &kernels[at];
}
static void put(struct kernel kernel) {
    struct kernel *at = place(kernel.host);
    known += !at->host;
    *at = kernel;
}
static const char *name_of(const void *host) {
    const char *name = room ? place(host)->name : NULL;
    return name ? name : "";
}
void __cudaRegisterFunction(void **binary, const char *host, char *device, const char *name,
                            int limit, uint3 *thread, uint3 *block, dim3 *blocks, dim3 *grids,
                            int *warp) {
    (void)binary, (void)device, (void)limit, (void)thread, (void)block, (void)blocks, (void)grids,
        (void)warp;
    if (2 * (known + 1) > room) {
        struct kernel *old = kernels;
        size_t before = room;
        room = before ? 2 * before : 65536;
        kernels = calloc(room, sizeof *kernels);
        known = 0;
        for (size_t i = 0; i < before; i++)
            if (old[i].host) put(old[i]);
        free(old);
    }
    put((struct kernel){host, name});
}
void **__cudaRegisterFatBinary(void *binary) {
    (void)binary;
    return calloc(1, sizeof(void *));
}
void __cudaRegisterFatBinaryEnd(void **binary) { (void)binary; }
void __cudaUnregisterFatBinary(void **binary) { (void)binary; }
char __cudaInitModule(void **binary) {
    (void)binary;
    return 1;
}

static struct { const void *host; void *device; size_t size; } variables[MOST_VARIABLES];
static size_t variable_count;
void __cudaRegisterVar(void **binary, char *host, char *device, const char *name, int external,
                       size_t size, int constant, int global) {
    (void)binary, (void)device, (void)name, (void)external, (void)constant, (void)global;
    if (variable_count == MOST_VARIABLES) return;
    variables[variable_count].host = host;
    variables[variable_count++].size = size;
}
static char *variable(const void *host) {
    for (size_t i = 0; i < variable_count; i++) {
        if (variables[i].host != host) continue;
        if (!variables[i].device) variables[i].device = calloc(1, variables[i].size + 64);
        return variables[i].device;
    }
    return NULL;
}
Error cudaGetSymbolAddress(void **at, const void *symbol) {
    ENTER;
    *at = variable(symbol);
    return *at ? cudaSuccess : done(cudaErrorInvalidSymbol);
}
Error cudaMemcpyToSymbol(const void *symbol, const void *from, size_t bytes, size_t offset,
                         enum cudaMemcpyKind kind) {
    (void)kind;
    ENTER;
    char *at = variable(symbol);
    if (!at) return done(cudaErrorInvalidSymbol);
    memcpy(at + offset, from, bytes);
    return cudaSuccess;
}

static __thread struct { dim3 grid, block; size_t shared; void *stream; } calls[DEEPEST];
static __thread int depth;
unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared,
                                     struct CUstream_st *stream) {
    if (depth == DEEPEST) return 1;
    calls[depth].grid = grid;
    calls[depth].block = block;
    calls[depth].shared = shared;
    calls[depth++].stream = stream;
    return 0;
}
Error __cudaPopCallConfiguration(dim3 *grid, dim3 *block, size_t *shared, void *stream) {
    if (!depth) return cudaErrorMissingConfiguration;
    *grid = calls[--depth].grid;
    *block = calls[depth].block;
    *shared = calls[depth].shared;
    *(void **)stream = calls[depth].stream;
    return cudaSuccess;
}
Error __cudaGetKernel(cudaKernel_t *kernel, const void *host) {
    *kernel = (cudaKernel_t)host;
    return cudaSuccess;
}

/* Bytes of an element of FillFunctor<T>, by the mangled T; 0 for one that is not filled. */
static size_t element_size(const char *mangled) {
    switch (*mangled) {
    case 'f':
    case 'i': return 4;
    case 'd':
    case 'l': return 8;
    case 's': return 2;
    case 'b':
    case 'a':
    case 'h': return 1;
    case 'N': return strstr(mangled, "4HalfE") || strstr(mangled, "BFloat16E") ? 2 : 0;
    default: return 0;
    }
}
/* vectorized_elementwise_kernel(int N, FillFunctor<T> f, array<char *, 1> data) fills for real, so
 * that scalars (a loss scale, the ones that start a backward pass) have their values. */
static void fill(const char *name, void **arguments) {
    const char *functor = strstr(name, "FillFunctorI");
    if (!functor || !strstr(name, "vectorized_elementwise_kernel")) return;
    size_t size = element_size(functor + strlen("FillFunctorI"));
    size_t count = (size_t)*(int *)arguments[0];
    const char *value = arguments[1];
    char *out = *(char **)arguments[2];
    static const float one = 1;
    static const double wide_one = 1;
    static const int64_t whole_one = 1;
    if (!size || count * size > FILLED || !is_on_device(out)) return;
    /* Ones live shortly: what comes to lie there next must not be read as 1. */
    int is_one = size < 4 || !memcmp(value, &whole_one, size) ||
                 (size == 4 && !memcmp(value, &one, 4)) ||
                 (size == 8 && !memcmp(value, &wide_one, 8));
    note_filled(out, count * size, !is_one);
    for (size_t i = 0; i < count; i++) memcpy(out + i * size, value, size);
}
static Error launch(const void *host, dim3 grid, dim3 block, void **arguments, void *stream) {
    double threads = (double)grid.x * grid.y * grid.z * block.x * block.y * block.z;
    ENTER;
    if ((size_t)block.x * block.y * block.z > 1024 || !threads || grid.y > 65535 || grid.z > 65535)
        return done(cudaErrorInvalidConfiguration);
    fill(name_of(host), arguments);
    stand_in_launch(stream, threads);
    return cudaSuccess;
}
Error cudaLaunchKernel(const void *host, dim3 grid, dim3 block, void **arguments, size_t shared,
                       cudaStream_t stream) {
    (void)shared;
    return launch(host, grid, block, arguments, stream);
}
Error __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void **arguments,
                         size_t shared, cudaStream_t stream) {
    (void)shared;
    return launch(kernel, grid, block, arguments, stream);
}
Error cudaLaunchCooperativeKernel(const void *host, dim3 grid, dim3 block, void **arguments,
                                  size_t shared, cudaStream_t stream) {
    (void)shared;
    return launch(host, grid, block, arguments, stream);
}
Error cudaLaunchKernelExC(const cudaLaunchConfig_t *config, const void *host, void **arguments) {
    return launch(host, config->gridDim, config->blockDim, arguments, config->stream);
}

static int shared_bytes(enum cudaDeviceAttr attribute) {
    int bytes = 0;
    cudaDeviceGetAttribute(&bytes, attribute, current_ordinal());
    return bytes;
}
Error cudaFuncGetAttributes(struct cudaFuncAttributes *attributes, const void *host) {
    (void)host;
    ENTER;
    int version = card_capability(current_card());
    *attributes = (struct cudaFuncAttributes){
        .maxThreadsPerBlock = 1024, .numRegs = 32, .ptxVersion = version, .binaryVersion = version,
        .maxDynamicSharedSizeBytes = shared_bytes(cudaDevAttrMaxSharedMemoryPerBlockOptin)};
    return cudaSuccess;
}
Error cudaFuncGetName(const char **name, const void *host) {
    *name = name_of(host);
    return cudaSuccess;
}
Error cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, const void *host, int threads,
                                                    size_t shared) {
    int by_shared = BLOCKS, by_threads = THREADS / (threads ? threads : 1);
    (void)host;
    if (shared)
        by_shared = shared_bytes(cudaDevAttrMaxSharedMemoryPerMultiprocessor) / (int)(shared + 1024);
    *blocks = by_threads < by_shared ? by_threads : by_shared;
    if (*blocks > BLOCKS) *blocks = BLOCKS;
    return cudaSuccess;
}
Error cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks, const void *host,
                                                             int threads, size_t shared,
                                                             unsigned flags) {
    (void)flags;
    return cudaOccupancyMaxActiveBlocksPerMultiprocessor(blocks, host, threads, shared);
}
