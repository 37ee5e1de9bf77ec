/* libcudnn 9: a backend that has one engine for every graph, and the geometry of its RNNs.
 *
 * A descriptor keeps the attributes it is given and hands them out again. STAND_IN_WORKSPACE_BYTES
 * is what the engine asks for. */
#include "card.h"
#include <stdlib.h>
#include <string.h>

/* cudnnBackendAttributeName_t and cudnnBackendAttributeType_t, as cuDNN numbers them. */
enum {
    HEURISTIC_RESULTS = 202,
    CONFIG_ENGINE = 300,
    INTERMEDIATE_INFO = 301,
    KNOB_CHOICES = 302,
    CONFIG_WORKSPACE = 303,
    SHARED_MEMORY = 304,
    PLAN_WORKSPACE = 402,
    PLAN_INTERMEDIATES = 403,
    PLAN_JSON = 405,
    GRAPH_ENGINES = 802,
    ENGINE_INDEX = 1301,
    ENGINE_KNOBS = 1302,
    ENGINE_NUMERICS = 1303,
    ENGINE_LAYOUTS = 1304,
    ENGINE_BEHAVIOUR = 1305,
};
enum { TYPE_HANDLE = 0, TYPE_BOOLEAN = 2, TYPE_INT64 = 3, TYPE_DOUBLE = 5, TYPE_POINTER = 6,
       TYPE_DESCRIPTOR = 15, TYPE_CHAR = 24, TYPE_FRACTION = 26 };
enum { BAD_PARAMETER = 2000 };

struct attribute { int name, type; int64_t count; void *data; struct attribute *next; };
struct descriptor { struct attribute *attributes; };

static size_t width(int type) {
    switch (type) {
    case TYPE_HANDLE:
    case TYPE_INT64:
    case TYPE_DOUBLE:
    case TYPE_POINTER:
    case TYPE_DESCRIPTOR: return 8;
    case TYPE_FRACTION: return 16;
    case TYPE_BOOLEAN:
    case TYPE_CHAR: return 1;
    default: return 4;
    }
}
static struct attribute *find(struct descriptor *descriptor, int name) {
    struct attribute *each = descriptor->attributes;
    while (each && each->name != name) each = each->next;
    return each;
}
int cudnnBackendCreateDescriptor(int kind, struct descriptor **descriptor) {
    (void)kind;
    return !(*descriptor = calloc(1, sizeof **descriptor));
}
int cudnnBackendDestroyDescriptor(struct descriptor *descriptor) {
    struct attribute *each = descriptor ? descriptor->attributes : NULL;
    while (each) {
        struct attribute *next = each->next;
        free(each->data);
        free(each);
        each = next;
    }
    free(descriptor);
    return 0;
}
int cudnnBackendSetAttribute(struct descriptor *descriptor, int name, int type, int64_t count,
                             const void *data) {
    if (!descriptor) return BAD_PARAMETER;
    size_t bytes = (size_t)count * width(type);
    struct attribute *each = find(descriptor, name);
    if (!each) {
        each = calloc(1, sizeof *each);
        each->next = descriptor->attributes;
        descriptor->attributes = each;
    }
    free(each->data);
    each->name = name;
    each->type = type;
    each->count = count;
    each->data = malloc(bytes + 1);
    if (bytes && data) memcpy(each->data, data, bytes);
    return 0;
}
static int answer(const void *value, size_t size, int64_t wanted, int64_t *count, void *out) {
    if (count) *count = 1;
    if (wanted > 0 && out) memcpy(out, value, size);
    return 0;
}
int cudnnBackendGetAttribute(struct descriptor *descriptor, int name, int type, int64_t wanted,
                             int64_t *count, void *out) {
    int64_t first = 0, one = 1, workspace = card_figure("STAND_IN_WORKSPACE_BYTES", 0, 0);
    int32_t shared = 0;
    struct attribute *each = find(descriptor, name);
    (void)type;
    switch (name) {
    case HEURISTIC_RESULTS:
    case CONFIG_ENGINE: /* the caller's own descriptor is filled in */
        if (count) *count = 1;
        return 0;
    case ENGINE_INDEX: return answer(&first, sizeof first, wanted, count, out);
    case GRAPH_ENGINES: return answer(&one, sizeof one, wanted, count, out);
    case PLAN_WORKSPACE:
    case CONFIG_WORKSPACE: return answer(&workspace, sizeof workspace, wanted, count, out);
    case SHARED_MEMORY: return answer(&shared, sizeof shared, wanted, count, out);
    case PLAN_JSON:
        if (count) *count = 3;
        if (wanted > 0 && out) strncpy(out, "{}", (size_t)wanted);
        return 0;
    case INTERMEDIATE_INFO:
    case KNOB_CHOICES:
    case PLAN_INTERMEDIATES:
    case ENGINE_KNOBS:
    case ENGINE_NUMERICS:
    case ENGINE_LAYOUTS:
    case ENGINE_BEHAVIOUR: each = NULL; break;
    }
    if (count) *count = each ? each->count : 0;
    if (each && out)
        memcpy(out, each->data, (size_t)(wanted < each->count ? wanted : each->count) * width(each->type));
    return 0;
}

struct handle { void *stream; };
int cudnnCreate(struct handle **handle) { return !(*handle = calloc(1, sizeof **handle)); }
int cudnnSetStream(struct handle *handle, void *stream) { return handle->stream = stream, 0; }
int cudnnGetStream(struct handle *handle, void **stream) { return *stream = handle->stream, 0; }
int cudnnBackendExecute(struct handle *handle) { return stand_in_product(handle->stream, 0), 0; }
size_t cudnnGetVersion(void) { return 92400; }
size_t cudnnGetCudartVersion(void) { return 13000; }
int cudnnGetProperty(int which, int *version) {
    *version = which == 0 ? 9 : which == 1 ? 24 : 0;
    return 0;
}
const char *cudnnGetErrorString(int error) {
    (void)error;
    return "an error of the cuDNN stand-in";
}
void cudnnGetLastErrorString(char *text, size_t room) {
    if (room) *text = 0;
}

#define CREATE(name)                                                                               \
    int cudnnCreate##name##Descriptor(void **descriptor) { return !(*descriptor = calloc(1, 512)); }
CREATE(Activation)
CREATE(CTCLoss)
CREATE(Convolution)
CREATE(Dropout)
CREATE(Filter)
CREATE(Pooling)
CREATE(RNN)
CREATE(RNNData)
CREATE(SpatialTransformer)
CREATE(Tensor)

int cudnnGetBatchNormalizationForwardTrainingExWorkspaceSize(void *handle, int mode, int operation,
                                                             void *x, void *z, void *y, void *scale,
                                                             void *activation, size_t *bytes) {
    (void)handle, (void)mode, (void)operation, (void)x, (void)z, (void)y, (void)scale,
        (void)activation;
    return *bytes = 0, 0;
}
int cudnnGetBatchNormalizationBackwardExWorkspaceSize(void *handle, int mode, int operation,
                                                      void *x, void *y, void *dy, void *dz,
                                                      void *dx, void *scale, void *activation,
                                                      size_t *bytes) {
    (void)handle, (void)mode, (void)operation, (void)x, (void)y, (void)dy, (void)dz, (void)dx,
        (void)scale, (void)activation;
    return *bytes = 0, 0;
}
int cudnnGetBatchNormalizationTrainingExReserveSpaceSize(void *handle, int mode, int operation,
                                                         void *activation, void *x, size_t *bytes) {
    (void)handle, (void)mode, (void)operation, (void)activation, (void)x;
    return *bytes = 0, 0;
}
int cudnnDropoutGetStatesSize(void *handle, size_t *bytes) {
    (void)handle;
    return *bytes = 2 << 20, 0;
}

/* Recurrent layers: weights are all matrices, then all biases. */
enum { LSTM = 2, GRU = 3, MOST_DIMENSIONS = 8, DOUBLE = 1, HALF = 2, BFLOAT16 = 9 };
struct tensor { int type, dimensions, size[MOST_DIMENSIONS], stride[MOST_DIMENSIONS]; };
struct rnn { int mode, has_bias, is_both_ways, type; int64_t input, hidden, projected, layers; };
struct sequence { int type; int64_t time, batch, width; };

int cudnnSetRNNDescriptor_v8(struct rnn *rnn, int algorithm, int mode, int bias, int direction,
                             int input_mode, int type, int precision, int math, int input,
                             int hidden, int projected, int layers) {
    (void)algorithm, (void)input_mode, (void)precision, (void)math;
    *rnn = (struct rnn){mode, bias, direction, type, input, hidden, projected, layers};
    return 0;
}
int cudnnSetRNNDataDescriptor(struct sequence *data, int type, int layout, int time, int batch,
                              int width) {
    (void)layout;
    *data = (struct sequence){type, time, batch, width};
    return 0;
}
static void set_sizes(struct tensor *tensor, int type, int count, const int *size) {
    tensor->type = type;
    tensor->dimensions = count;
    memcpy(tensor->size, size, (size_t)count * sizeof(int));
}
static void get_sizes(struct tensor *tensor, int wanted, int *type, int *count, int *size) {
    *type = tensor->type;
    *count = tensor->dimensions;
    memcpy(size, tensor->size, (size_t)wanted * sizeof(int));
}
int cudnnSetTensorNdDescriptor(struct tensor *tensor, int type, int count, const int *size,
                               const int *stride) {
    set_sizes(tensor, type, count, size);
    memcpy(tensor->stride, stride, (size_t)count * sizeof(int));
    return 0;
}
int cudnnGetTensorNdDescriptor(struct tensor *tensor, int wanted, int *type, int *count, int *size,
                               int *stride) {
    get_sizes(tensor, wanted, type, count, size);
    if (stride) memcpy(stride, tensor->stride, (size_t)wanted * sizeof(int));
    return 0;
}
int cudnnSetFilterNdDescriptor(struct tensor *filter, int type, int format, int count,
                               const int *size) {
    (void)format;
    return set_sizes(filter, type, count, size), 0;
}
int cudnnGetFilterNdDescriptor(struct tensor *filter, int wanted, int *type, int *format,
                               int *count, int *size) {
    *format = 0;
    return get_sizes(filter, wanted, type, count, size), 0;
}
static int gates(struct rnn *rnn) { return rnn->mode == LSTM ? 4 : rnn->mode == GRU ? 3 : 1; }
static int64_t element_size(int type) {
    return type == DOUBLE ? 8 : type == HALF || type == BFLOAT16 ? 2 : 4;
}
static int64_t columns_of(struct rnn *rnn, int64_t layer, int matrix) {
    int64_t out = rnn->projected ? rnn->projected : rnn->hidden;
    if (matrix >= gates(rnn)) return out; /* recurrent */
    return layer == 0 ? rnn->input : out * (rnn->is_both_ways ? 2 : 1);
}
/* The offset in elements of one matrix or bias, and its size; the whole where there is none such. */
static int64_t place(struct rnn *rnn, int64_t pseudo, int matrix, int is_bias, int64_t *rows,
                     int64_t *columns) {
    int64_t at = 0, directions = rnn->is_both_ways ? 2 : 1;
    for (int bias = 0; bias <= !!rnn->has_bias; bias++)
        for (int64_t layer = 0; layer < rnn->layers * directions; layer++)
            for (int each = 0; each < 2 * gates(rnn); each++) {
                *rows = rnn->hidden;
                *columns = bias ? 1 : columns_of(rnn, layer / directions, each);
                if (bias == is_bias && layer == pseudo && each == matrix) return at;
                at += *rows * *columns;
            }
    *rows = *columns = 0;
    return at;
}
int cudnnGetRNNWeightSpaceSize(void *handle, struct rnn *rnn, size_t *bytes) {
    int64_t rows, columns;
    (void)handle;
    *bytes = (size_t)(place(rnn, -1, -1, -1, &rows, &columns) * element_size(rnn->type));
    return 0;
}
int cudnnGetRNNWeightParams(void *handle, struct rnn *rnn, int pseudo, size_t bytes, char *space,
                            int matrix, struct tensor *weight, void **weight_at,
                            struct tensor *bias, void **bias_at) {
    (void)handle, (void)bytes;
    for (int is_bias = 0; is_bias < 2; is_bias++) { /* torch asks for either half or both */
        struct tensor *tensor = is_bias ? bias : weight;
        void **at = is_bias ? bias_at : weight_at;
        int64_t rows, columns, offset = place(rnn, pseudo, matrix, is_bias, &rows, &columns);
        if (at) *at = rows ? space + offset * element_size(rnn->type) : NULL;
        if (tensor) set_sizes(tensor, rnn->type, 3, (int[]){1, (int)rows, (int)columns});
    }
    return 0;
}
int cudnnGetRNNTempSpaceSizes(void *handle, struct rnn *rnn, int is_training, struct sequence *data,
                              size_t *workspace, size_t *reserve) {
    int64_t one = data->time * data->batch * rnn->hidden * (rnn->is_both_ways ? 2 : 1) *
                  element_size(rnn->type);
    (void)handle;
    *workspace = (size_t)(one * gates(rnn));
    if (reserve) *reserve = is_training ? (size_t)(one * (gates(rnn) + 2) * rnn->layers) : 0;
    return 0;
}
