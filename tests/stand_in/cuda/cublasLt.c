/* libcublasLt: one algorithm, without a workspace, for every product. */
#include "card.h"
#include <stdlib.h>
#include <string.h>

enum { BATCH_COUNT = 5, ROOM = 256, ALGORITHM = 64 };
struct layout { uint64_t rows, columns; int batch; };
struct result { uint64_t algorithm[8]; size_t workspace; int state; float waves; int unused[4]; };

int cublasLtCreate(void **handle) { return !(*handle = calloc(1, ROOM)); }
size_t cublasLtGetVersion(void) { return 130101; }
int cublasLtMatmulDescCreate(void **description) { return !(*description = calloc(1, ROOM)); }
int cublasLtMatmulDescDestroy(void *description) { return free(description), 0; }
int cublasLtMatmulPreferenceCreate(void **preference) { return !(*preference = calloc(1, ROOM)); }
int cublasLtMatmulPreferenceDestroy(void *preference) { return free(preference), 0; }
int cublasLtMatrixLayoutCreate(struct layout **layout, int type, uint64_t rows, uint64_t columns) {
    (void)type;
    *layout = calloc(1, ROOM);
    **layout = (struct layout){rows, columns, 1};
    return 0;
}
int cublasLtMatrixLayoutDestroy(void *layout) { return free(layout), 0; }
int cublasLtMatrixLayoutSetAttribute(struct layout *layout, int attribute, const void *value,
                                     size_t bytes) {
    if (attribute == BATCH_COUNT && bytes == sizeof(int)) layout->batch = *(const int *)value;
    return 0;
}
int cublasLtMatmulAlgoGetHeuristic(void *handle, void *operation, void *a, void *b, void *c,
                                   void *d, void *preference, int wanted, struct result *results,
                                   int *found) {
    (void)handle, (void)operation, (void)a, (void)b, (void)c, (void)d, (void)preference;
    *found = wanted > 0;
    if (*found) *results = (struct result){.waves = 1};
    return 0;
}
int cublasLtMatmulAlgoInit(void *handle, int compute, int scale, int a, int b, int c, int d, int id,
                           void *algorithm) {
    (void)handle, (void)compute, (void)scale, (void)a, (void)b, (void)c, (void)d, (void)id;
    memset(algorithm, 0, ALGORITHM);
    return 0;
}
int cublasLtMatmulAlgoCheck(void *handle, void *operation, void *a, void *b, void *c, void *d,
                            void *algorithm, struct result *result) {
    (void)handle, (void)operation, (void)a, (void)b, (void)c, (void)d, (void)algorithm;
    *result = (struct result){0};
    return 0;
}
int cublasLtMatmulAlgoConfigGetAttribute(void *algorithm, int attribute, void *value, size_t bytes,
                                         size_t *written) {
    (void)algorithm, (void)attribute;
    memset(value, 0, bytes);
    if (written) *written = bytes;
    return 0;
}
int cublasLtMatmul(void *handle, void *operation, const void *alpha, const void *a_data,
                   struct layout *a, const void *b_data, struct layout *b, const void *beta,
                   const void *c_data, void *c, void *d_data, struct layout *d,
                   const void *algorithm, void *workspace, size_t bytes, void *stream) {
    (void)handle, (void)operation, (void)alpha, (void)a_data, (void)b_data, (void)b, (void)beta,
        (void)c_data, (void)c, (void)d_data, (void)algorithm, (void)workspace, (void)bytes;
    stand_in_product(stream, (double)a->rows * (double)a->columns * (double)d->columns * d->batch);
    return 0;
}
