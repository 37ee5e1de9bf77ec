/* What the files of the libcudart stand-in share. */
#ifndef CUDART_H
#define CUDART_H
#include "card.h"
#include <cuda_runtime_api.h>

typedef cudaError_t Error;

Error done(Error error); /* remember it for cudaGetLastError, and return it */
int current_card(void);  /* of this thread; -1 where no device is visible */
int current_ordinal(void);
Error enter(void); /* make the context of the current card where there is none */

#define ENTER                                                                                      \
    do {                                                                                           \
        Error entered = enter();                                                                   \
        if (entered) return done(entered);                                                         \
    } while (0)

int is_on_device(const void *at);
/* A kernel filled these few bytes: `is_kept` says that they may be read back as a number. */
void note_filled(const void *at, size_t bytes, int is_kept);
void wait_for_stream(cudaStream_t stream);
#endif
