/* The pretended cards, as all libraries of the stand-in see them. Defined in card.c and
 * streams.c, which lie in the libcudart stand-in. A `card` counts the machine's cards; an ordinal
 * counts those that CUDA_VISIBLE_DEVICES leaves. */
#ifndef CARD_H
#define CARD_H
#include <stddef.h>
#include <stdint.h>

enum { MOST_CARDS = 8 };

/* The part of the variable's comma-separated list for this card; the last serves all further. */
int64_t card_figure(const char *variable, int card, int64_t otherwise);
int card_count(void);
int card_of_ordinal(int ordinal); /* -1 where no such device is visible */
void card_name(int card, char *text, size_t room);
void card_uuid(int card, unsigned char bytes[16]);
int card_capability(int card); /* as 90 */
uint64_t card_total_bytes(int card);
uint64_t card_used_bytes(int card); /* by all processes alive */
/* What NVML is asked for, in the words of nvml.c; whether it is known. */
int card_setting(int card, const char *key, char *value, size_t room);

/* Let the current process hold bytes of a card; return 0, or 2 where it has no room. */
int card_take(int card, uint64_t bytes);
void card_give(int card, uint64_t bytes);
/* Make the process's context on a card where there is none yet; return a cudaError_t. */
int card_enter(int card);

/* A function of the stand-in that does nothing was called (told under STAND_IN_TRACE). */
void stand_in_trace(const char *name);
/* Keep a stream busy for so long. */
void stand_in_work(void *stream, double ns);
void stand_in_launch(void *stream, double threads);
void stand_in_product(void *stream, double multiply_adds);

/* Addresses without memory, as expandable segments reserve them. */
void *stand_in_reserve(size_t bytes);
void stand_in_unreserve(void *at, size_t bytes);
#endif
