/* libcudart: streams and events on a model clock. A stream has the time at which its work will be
 * done; waiting for it sleeps until then. The times are of a model and say nothing of a card. */
#define _GNU_SOURCE
#include "cudart.h"
#include <stdlib.h>
#include <time.h>

struct CUstream_st { double ready_ns; int priority; unsigned flags; };
struct CUevent_st { double at_ns; int is_recorded; };
static struct CUstream_st default_stream;
static double all_ready_ns;

static double now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}
static void wait_until(double ns) {
    double left = ns - now_ns();
    if (left <= 0) return;
    struct timespec pause = {(time_t)(left / 1e9), 0};
    pause.tv_nsec = (long)(left - 1e9 * (double)pause.tv_sec);
    nanosleep(&pause, NULL);
}
static struct CUstream_st *named(void *stream) {
    return (uintptr_t)stream <= 2 ? &default_stream : stream;
}

void stand_in_work(void *stream, double ns) {
    struct CUstream_st *busy = named(stream);
    double now = now_ns();
    if (busy->ready_ns < now) busy->ready_ns = now;
    busy->ready_ns += ns;
    if (busy->ready_ns > all_ready_ns) all_ready_ns = busy->ready_ns;
}
static double launch_ns(void) {
    static double ns = -1;
    if (ns < 0) ns = (double)card_figure("STAND_IN_LAUNCH_NS", 0, 2000);
    return ns;
}
void stand_in_launch(void *stream, double threads) {
    stand_in_work(stream, launch_ns() + threads / 125);
}
void stand_in_product(void *stream, double multiply_adds) {
    stand_in_work(stream, launch_ns() + 2 * multiply_adds / 100000);
}
void wait_for_stream(cudaStream_t stream) { wait_until(named(stream)->ready_ns); }

Error cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned flags, int priority) {
    ENTER;
    *stream = calloc(1, sizeof **stream);
    (*stream)->priority = priority;
    (*stream)->flags = flags;
    return cudaSuccess;
}
Error cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags) {
    return cudaStreamCreateWithPriority(stream, flags, 0);
}
Error cudaStreamCreate(cudaStream_t *stream) { return cudaStreamCreateWithFlags(stream, 0); }
Error cudaStreamDestroy(cudaStream_t stream) {
    if (named(stream) != &default_stream) free(stream);
    return cudaSuccess;
}
Error cudaStreamSynchronize(cudaStream_t stream) {
    ENTER;
    wait_for_stream(stream);
    return cudaSuccess;
}
Error cudaDeviceSynchronize(void) {
    ENTER;
    wait_until(all_ready_ns);
    return cudaSuccess;
}
Error cudaStreamQuery(cudaStream_t stream) {
    ENTER;
    return named(stream)->ready_ns <= now_ns() ? cudaSuccess : cudaErrorNotReady;
}
Error cudaStreamGetPriority(cudaStream_t stream, int *priority) {
    *priority = named(stream)->priority;
    return cudaSuccess;
}
Error cudaStreamGetFlags(cudaStream_t stream, unsigned *flags) {
    *flags = named(stream)->flags;
    return cudaSuccess;
}
Error cudaStreamGetId(cudaStream_t stream, unsigned long long *id) {
    *id = (uintptr_t)stream;
    return cudaSuccess;
}
Error cudaDeviceGetStreamPriorityRange(int *least, int *greatest) {
    if (least) *least = 0;
    if (greatest) *greatest = -5;
    return cudaSuccess;
}
Error cudaStreamIsCapturing(cudaStream_t stream, enum cudaStreamCaptureStatus *status) {
    (void)stream;
    *status = cudaStreamCaptureStatusNone;
    return cudaSuccess;
}
Error cudaStreamGetCaptureInfo(cudaStream_t stream, enum cudaStreamCaptureStatus *status,
                               unsigned long long *id, cudaGraph_t *graph,
                               const cudaGraphNode_t **nodes, const cudaGraphEdgeData **edges,
                               size_t *count) {
    (void)graph, (void)nodes, (void)edges;
    if (id) *id = 0;
    if (count) *count = 0;
    return cudaStreamIsCapturing(stream, status);
}
Error cudaThreadExchangeStreamCaptureMode(enum cudaStreamCaptureMode *mode) {
    static __thread enum cudaStreamCaptureMode now = cudaStreamCaptureModeGlobal;
    enum cudaStreamCaptureMode before = now;
    now = *mode;
    *mode = before;
    return cudaSuccess;
}
Error cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void *data) {
    (void)stream;
    function(data);
    return cudaSuccess;
}
Error cudaStreamAddCallback(cudaStream_t stream, cudaStreamCallback_t function, void *data,
                            unsigned flags) {
    (void)flags;
    function(stream, cudaSuccess, data);
    return cudaSuccess;
}

Error cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags) {
    (void)flags;
    ENTER;
    *event = calloc(1, sizeof **event);
    return cudaSuccess;
}
Error cudaEventCreate(cudaEvent_t *event) { return cudaEventCreateWithFlags(event, 0); }
Error cudaEventDestroy(cudaEvent_t event) {
    free(event);
    return cudaSuccess;
}
Error cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    ENTER;
    double ready = named(stream)->ready_ns, now = now_ns();
    *event = (struct CUevent_st){ready > now ? ready : now, 1};
    return cudaSuccess;
}
Error cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned flags) {
    (void)flags;
    return cudaEventRecord(event, stream);
}
Error cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags) {
    struct CUstream_st *waits = named(stream);
    (void)flags;
    if (event->is_recorded && event->at_ns > waits->ready_ns) waits->ready_ns = event->at_ns;
    return cudaSuccess;
}
Error cudaEventQuery(cudaEvent_t event) {
    return event->is_recorded && event->at_ns > now_ns() ? cudaErrorNotReady : cudaSuccess;
}
Error cudaEventSynchronize(cudaEvent_t event) {
    ENTER;
    if (event->is_recorded) wait_until(event->at_ns);
    return cudaSuccess;
}
Error cudaEventElapsedTime(float *ms, cudaEvent_t start, cudaEvent_t end) {
    if (!start->is_recorded || !end->is_recorded) return done(cudaErrorInvalidResourceHandle);
    if (cudaEventQuery(start) || cudaEventQuery(end)) return done(cudaErrorNotReady);
    *ms = (float)((end->at_ns - start->at_ns) / 1e6);
    return cudaSuccess;
}
