/* libcublas: handles, math modes, and products that take their time on the model clock. */
#include "card.h"
#include <stdlib.h>

struct handle { void *stream; int math, pointer; };

int cublasCreate_v2(struct handle **handle) { return !(*handle = calloc(1, sizeof **handle)); }
int cublasDestroy_v2(struct handle *handle) { return free(handle), 0; }
int cublasSetStream_v2(struct handle *handle, void *stream) { return handle->stream = stream, 0; }
int cublasGetStream_v2(struct handle *handle, void **stream) { return *stream = handle->stream, 0; }
int cublasSetMathMode(struct handle *handle, int mode) { return handle->math = mode, 0; }
int cublasGetMathMode(struct handle *handle, int *mode) { return *mode = handle->math, 0; }
int cublasSetPointerMode_v2(struct handle *handle, int mode) { return handle->pointer = mode, 0; }
int cublasGetPointerMode_v2(struct handle *handle, int *mode) { return *mode = handle->pointer, 0; }

/* A caller passes more than a product reads here, which the calling convention allows. */
#define PRODUCT(name)                                                                              \
    int name(struct handle *handle, int transpose_a, int transpose_b, int m, int n, int k) {       \
        (void)transpose_a, (void)transpose_b;                                                      \
        stand_in_product(handle->stream, (double)m * n * k);                                       \
        return 0;                                                                                  \
    }
PRODUCT(cublasSgemm_v2)
PRODUCT(cublasDgemm_v2)
PRODUCT(cublasCgemm_v2)
PRODUCT(cublasZgemm_v2)
PRODUCT(cublasSgemmEx)
PRODUCT(cublasGemmEx)
PRODUCT(cublasSgemmStridedBatched)
PRODUCT(cublasGemmStridedBatchedEx)
