/* libcudart: device memory, pinned memory, and what copies and fills leave in them.
 *
 * Blocks are mappings that are never touched, so 80 GB cost nothing. Numbers in them mean nothing,
 * but those that a program decides by: a scalar that a copy or a fill wrote is read back as it is
 * by Tensor.item(); any other small read gives zeros. */
#define _GNU_SOURCE
#include "cudart.h"
#include <dlfcn.h>
#include <execinfo.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { PAGE = 4096, GRANULE = 2 << 20, SMALL = 8, SCALAR = 16, FILLED = 1 << 20 };
enum kind { UNKNOWN, ON_DEVICE, PINNED, REGISTERED };

struct block { char *at; size_t size; enum kind kind; int ordinal, card; };
static struct block *blocks; /* sorted by address */
static size_t count, room;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static size_t first_above(const char *at) {
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (blocks[middle].at <= at) low = middle + 1;
        else high = middle;
    }
    return low;
}
static struct block *holder(const void *at) {
    size_t above = first_above(at);
    return above && (char *)at < blocks[above - 1].at + blocks[above - 1].size ? &blocks[above - 1]
                                                                               : NULL;
}
static void keep(struct block block) {
    pthread_mutex_lock(&lock);
    if (count == room) blocks = realloc(blocks, (room = room ? 2 * room : 256) * sizeof *blocks);
    size_t above = first_above(block.at);
    memmove(blocks + above + 1, blocks + above, (count++ - above) * sizeof *blocks);
    blocks[above] = block;
    pthread_mutex_unlock(&lock);
}
/* Take out the block that begins here; its kind is UNKNOWN where there is none such. */
static struct block forget(const void *at, enum kind kind) {
    pthread_mutex_lock(&lock);
    struct block *found = holder(at), gone = {0};
    if (found && found->at == at && found->kind == kind) {
        gone = *found;
        memmove(found, found + 1, (size_t)(blocks + count-- - found - 1) * sizeof *blocks);
    }
    pthread_mutex_unlock(&lock);
    return gone;
}
static struct block block_of(const void *at) {
    pthread_mutex_lock(&lock);
    struct block *found = holder(at), copy = found ? *found : (struct block){0};
    pthread_mutex_unlock(&lock);
    return copy;
}
int is_on_device(const void *at) { return block_of(at).kind == ON_DEVICE; }

static char *map_untouched(size_t bytes) {
    char *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                    -1, 0);
    if (at == MAP_FAILED) return NULL;
    madvise(at, bytes, MADV_NOHUGEPAGE);
    return at;
}
static Error take(void **out, size_t size, enum kind kind) {
    *out = NULL;
    ENTER;
    size_t unit = kind == ON_DEVICE ? GRANULE : PAGE, bytes = (size + unit - 1) / unit * unit;
    int card = current_card();
    if (!size) return cudaSuccess;
    if (kind == ON_DEVICE && card_take(card, bytes)) return done(cudaErrorMemoryAllocation);
    char *raw = map_untouched(bytes + GRANULE);
    if (!raw) return done(cudaErrorMemoryAllocation);
    char *at = (char *)(((uintptr_t)raw + GRANULE - 1) & ~(uintptr_t)(GRANULE - 1));
    if (at > raw) munmap(raw, (size_t)(at - raw));
    if (raw + GRANULE > at) munmap(at + bytes, (size_t)(raw + GRANULE - at));
    keep((struct block){at, bytes, kind, current_ordinal(), card});
    *out = at;
    return cudaSuccess;
}
static Error give(void *at, enum kind kind) {
    ENTER;
    if (!at) return cudaSuccess;
    struct block gone = forget(at, kind);
    if (!gone.at) return done(cudaErrorInvalidValue);
    munmap(gone.at, gone.size);
    if (kind == ON_DEVICE) card_give(gone.card, gone.size);
    return cudaSuccess;
}
void *stand_in_reserve(size_t bytes) {
    char *at = map_untouched(bytes);
    if (at) keep((struct block){at, bytes, ON_DEVICE, current_ordinal(), current_card()});
    return at;
}
void stand_in_unreserve(void *at, size_t bytes) {
    if (forget(at, ON_DEVICE).at) munmap(at, bytes);
}

Error cudaMalloc(void **at, size_t bytes) { return take(at, bytes, ON_DEVICE); }
Error cudaMallocManaged(void **at, size_t bytes, unsigned flags) {
    (void)flags;
    return take(at, bytes, ON_DEVICE);
}
Error cudaMallocAsync(void **at, size_t bytes, cudaStream_t stream) {
    (void)stream;
    return take(at, bytes, ON_DEVICE);
}
Error cudaFree(void *at) { return give(at, ON_DEVICE); }
Error cudaFreeAsync(void *at, cudaStream_t stream) {
    (void)stream;
    return give(at, ON_DEVICE);
}
Error cudaMallocHost(void **at, size_t bytes) { return take(at, bytes, PINNED); }
Error cudaHostAlloc(void **at, size_t bytes, unsigned flags) {
    (void)flags;
    return take(at, bytes, PINNED);
}
Error cudaFreeHost(void *at) { return give(at, PINNED); }
Error cudaHostRegister(void *at, size_t bytes, unsigned flags) {
    (void)flags;
    ENTER;
    keep((struct block){at, bytes, REGISTERED, current_ordinal(), current_card()});
    return cudaSuccess;
}
Error cudaHostUnregister(void *at) {
    forget(at, REGISTERED);
    return cudaSuccess;
}
Error cudaHostGetDevicePointer(void **at, void *host, unsigned flags) {
    (void)flags;
    *at = host;
    return cudaSuccess;
}
Error cudaMemGetInfo(size_t *free, size_t *total) {
    ENTER;
    uint64_t used = card_used_bytes(current_card());
    *total = card_total_bytes(current_card());
    *free = used < *total ? *total - used : 0;
    return cudaSuccess;
}
Error cudaPointerGetAttributes(struct cudaPointerAttributes *attributes, const void *at) {
    ENTER;
    struct block block = block_of(at);
    *attributes = (struct cudaPointerAttributes){
        .type = block.kind == ON_DEVICE ? cudaMemoryTypeDevice
                : block.kind            ? cudaMemoryTypeHost
                                        : cudaMemoryTypeUnregistered,
        .device = block.kind ? block.ordinal : -1,
        .devicePointer = block.kind ? (void *)at : NULL,
        .hostPointer = block.kind > ON_DEVICE ? (void *)at : NULL,
    };
    return cudaSuccess;
}

/* Where scalars lie that may be read back. A small read by others than item() is a count (of
 * nonzero, of unique) that would size memory: zero. */
enum { MARKS = 4096 };
static const void *marks[MARKS];
static const void **mark(const void *at) {
    return &marks[((uintptr_t)at >> 2) * 2654435761u % MARKS];
}
void note_filled(const void *at, size_t bytes, int is_kept) {
    if (!is_kept) *mark(at) = NULL;
    else if (bytes <= SCALAR) *mark(at) = at;
}
static int is_asked_by_item(void) {
    void *calls[24];
    Dl_info info;
    int depth = backtrace(calls, 24);
    for (int i = 2; i < depth; i++)
        if (dladdr(calls[i], &info) && info.dli_sname &&
            strstr(info.dli_sname, "local_scalar_dense"))
            return 1;
    return 0;
}
static void copy(void *to, const void *from, size_t bytes) {
    int to_device = is_on_device(to), from_device = is_on_device(from);
    int is_scalar = *mark(from) == from;
    if (!bytes || to == from) return;
    if (from_device && !to_device && bytes <= SMALL && !(is_scalar && is_asked_by_item())) {
        memset(to, 0, bytes);
        return;
    }
    if (from_device && to_device && bytes > FILLED) return;
    if (to_device && (!from_device || is_scalar)) note_filled(to, bytes, 1);
    memmove(to, from, bytes);
}
static Error copy_on(cudaStream_t stream, void *to, const void *from, size_t bytes) {
    ENTER;
    copy(to, from, bytes);
    stand_in_work(stream, 2000 + (double)bytes / 25);
    return cudaSuccess;
}
static Error copy_and_wait(void *to, const void *from, size_t bytes) {
    Error error = copy_on(NULL, to, from, bytes);
    if (!error) wait_for_stream(NULL);
    return error;
}
Error cudaMemcpy(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind) {
    (void)kind;
    return copy_and_wait(to, from, bytes);
}
Error cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind,
                      cudaStream_t stream) {
    (void)kind;
    return copy_on(stream, to, from, bytes);
}
Error cudaMemcpyPeer(void *to, int to_device, const void *from, int from_device, size_t bytes) {
    (void)to_device, (void)from_device;
    return copy_and_wait(to, from, bytes);
}
Error cudaMemcpyPeerAsync(void *to, int to_device, const void *from, int from_device, size_t bytes,
                          cudaStream_t stream) {
    (void)to_device, (void)from_device;
    return copy_on(stream, to, from, bytes);
}
Error cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch,
                        size_t width, size_t height, enum cudaMemcpyKind kind,
                        cudaStream_t stream) {
    (void)kind;
    for (size_t i = 0; i < height; i++) {
        Error error =
            copy_on(stream, (char *)to + i * to_pitch, (const char *)from + i * from_pitch, width);
        if (error) return error;
    }
    return cudaSuccess;
}
static void fill(char *at, int value, size_t bytes) {
    note_filled(at, bytes, 1);
    if (bytes <= FILLED) {
        memset(at, value, bytes);
    } else if (!value) { /* whole pages are given back, and read as zeros */
        char *first = (char *)(((uintptr_t)at + PAGE - 1) & ~(uintptr_t)(PAGE - 1));
        char *last = (char *)((uintptr_t)(at + bytes) & ~(uintptr_t)(PAGE - 1));
        memset(at, 0, (size_t)(first - at));
        memset(last, 0, (size_t)(at + bytes - last));
        madvise(first, (size_t)(last - first), MADV_DONTNEED);
    }
}
Error cudaMemsetAsync(void *at, int value, size_t bytes, cudaStream_t stream) {
    ENTER;
    fill(at, value, bytes);
    stand_in_work(stream, 2000 + (double)bytes / 2000);
    return cudaSuccess;
}
Error cudaMemset(void *at, int value, size_t bytes) {
    return cudaMemsetAsync(at, value, bytes, NULL);
}
