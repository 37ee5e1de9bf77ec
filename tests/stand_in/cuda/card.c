/* The pretended cards: what they are, and who holds how much of them.
 *
 * A table in shared memory has a row for each process, so that processes see one another as on a
 * card: a neighbour's memory is not free. Rows of the dead count for nothing. */
#define _GNU_SOURCE
#include "card.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { INITIALIZATION_ERROR = 3, OUT_OF_MEMORY = 2, UNAVAILABLE = 46, OS_FAILED = 304, LOST = 719 };
enum { MOST_PROCESSES = 256, TEXT = 256 };

struct row {
    _Atomic int pid;
    _Atomic uint64_t bytes[MOST_CARDS];
};
static struct row *table, *mine;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int context_pid; /* the process that made a context: its forks may not use it */
static int has_context[MOST_CARDS];

/* A variable of the environment, else a line of the file that STAND_IN_SETTINGS names, which a
 * process reads once. */
static const char *setting(const char *variable, char value[TEXT]) {
    static char file[4096];
    static int read_by;
    const char *text = getenv(variable), *path = getenv("STAND_IN_SETTINGS");
    if (text || !path) return text;
    if (read_by != getpid()) {
        FILE *opened = fopen(path, "r");
        file[opened ? fread(file, 1, sizeof file - 1, opened) : 0] = 0;
        if (opened) fclose(opened);
        read_by = getpid();
    }
    size_t length = strlen(variable);
    for (const char *line = file; line && *line; line = strchr(line, '\n'), line += !!line)
        if (!strncmp(line, variable, length) && line[length] == '=') {
            line += length + 1;
            snprintf(value, TEXT, "%.*s", (int)strcspn(line, "\n"), line);
            return value;
        }
    return NULL;
}
/* The nth of the parts between commas, or the last. */
static const char *part(const char *variable, int nth, char value[TEXT]) {
    char whole[TEXT];
    const char *text = setting(variable, whole);
    if (!text || !*text) return NULL;
    while (nth-- && strchr(text, ',')) text = strchr(text, ',') + 1;
    snprintf(value, TEXT, "%.*s", (int)strcspn(text, ","), text);
    return value;
}

int64_t card_figure(const char *variable, int card, int64_t otherwise) {
    char value[TEXT];
    return part(variable, card, value) ? (int64_t)strtod(value, NULL) : otherwise;
}

int card_count(void) { return (int)card_figure("STAND_IN_CARDS", 0, 1); }
/* Whether the cards are instances of one that is cut up, of which CUDA shows a process one. */
static int is_mig(void) { return card_figure("STAND_IN_MIG", 0, 0) != 0; }
int card_capability(int card) { return (int)card_figure("STAND_IN_CAPABILITY", card, 90); }
uint64_t card_total_bytes(int card) {
    return (uint64_t)card_figure("STAND_IN_MEMORY_BYTES", card, 80LL << 30);
}
void card_name(int card, char *text, size_t room) {
    char value[TEXT];
    const char *usual =
        card_capability(card) == 90 ? "NVIDIA H100 80GB HBM3" : "NVIDIA A100-SXM4-80GB";
    const char *name = part("STAND_IN_NAME", card, value);
    snprintf(text, room, "%s", name ? name : usual);
}
void card_uuid(int card, unsigned char bytes[16]) {
    memcpy(bytes, "stand-in-card-00", 16);
    bytes[15] += (unsigned char)card;
}
/* By NVIDIA's tools; the card that is cut up comes after all others. */
static void write_uuid(int card, char text[TEXT]) {
    unsigned char bytes[16];
    card_uuid(card, bytes);
    text += sprintf(text, is_mig() && card < MOST_CARDS ? "MIG-" : "GPU-");
    for (int i = 0; i < 16; i++)
        text += sprintf(text, i == 4 || i == 6 || i == 8 || i == 10 ? "-%02x" : "%02x", bytes[i]);
}

/* An entry of CUDA_VISIBLE_DEVICES: an index, or the beginning of a UUID; -1 for neither. */
static int card_of_entry(const char *entry) {
    char *end, uuid[TEXT];
    long index = strtol(entry, &end, 10);
    int cards = is_mig() ? 1 : card_count();
    if (end != entry && !*end) return index >= 0 && index < cards ? (int)index : -1;
    for (int card = 0; *entry && card < card_count(); card++) {
        write_uuid(card, uuid);
        if (!strncmp(uuid, entry, strlen(entry))) return card;
    }
    return -1;
}
/* The visible cards are settled by a process's first call, as CUDA does it. */
int card_of_ordinal(int ordinal) {
    static int visible[MOST_CARDS], count, settled_by;
    if (settled_by != getpid()) {
        const char *list = getenv("CUDA_VISIBLE_DEVICES");
        char copy[4096], *rest = copy, *entry;
        snprintf(copy, sizeof copy, "%s", list ? list : "0,1,2,3,4,5,6,7");
        int most = is_mig() ? 1 : MOST_CARDS;
        for (count = 0; count < most && (entry = strsep(&rest, ",")); count++)
            if ((visible[count] = card_of_entry(entry)) < 0) break; /* what is wrong ends the list */
        settled_by = getpid();
    }
    return ordinal >= 0 && ordinal < count ? visible[ordinal] : -1;
}

static int open_table(void) {
    if (table) return 1;
    char path[TEXT];
    snprintf(path, sizeof path, "/dev/shm/stand-in-card-%d", (int)getuid());
    char value[TEXT];
    const char *chosen = setting("STAND_IN_STATE", value);
    size_t size = MOST_PROCESSES * sizeof *table;
    int file = open(chosen ? chosen : path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (file < 0 || ftruncate(file, (off_t)size)) return 0;
    void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (at != MAP_FAILED) table = at;
    return table != NULL;
}
static int is_alive(int pid) { return pid && (kill(pid, 0) == 0 || errno == EPERM); }

uint64_t card_used_bytes(int card) {
    uint64_t sum = 0;
    if (!open_table()) return 0;
    for (struct row *row = table; row < table + MOST_PROCESSES; row++)
        if (is_alive(row->pid)) sum += row->bytes[card];
    return sum;
}

int card_take(int card, uint64_t bytes) {
    pthread_mutex_lock(&lock);
    int is_full = card_used_bytes(card) + bytes > card_total_bytes(card);
    if (!is_full) mine->bytes[card] += bytes;
    pthread_mutex_unlock(&lock);
    return is_full ? OUT_OF_MEMORY : 0;
}
void card_give(int card, uint64_t bytes) {
    if (mine) mine->bytes[card] -= bytes;
}

static void leave(void) {
    if (!mine || mine->pid != getpid()) return;
    for (int card = 0; card < MOST_CARDS; card++) mine->bytes[card] = 0;
    mine->pid = 0;
}
static int take_row(void) {
    for (struct row *row = table; row < table + MOST_PROCESSES; row++) {
        int was = row->pid;
        if (is_alive(was) || !__atomic_compare_exchange_n((int *)&row->pid, &was, getpid(), 0,
                                                          __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
            continue;
        for (int card = 0; card < MOST_CARDS; card++) row->bytes[card] = 0;
        mine = row;
        context_pid = getpid();
        atexit(leave);
        return 1;
    }
    return 0;
}
int card_enter(int card) {
    char value[TEXT];
    const char *lost = setting("STAND_IN_LOST", value);
    if (lost && !access(lost, F_OK)) return LOST;
    if (context_pid && context_pid != getpid()) return INITIALIZATION_ERROR;
    if (has_context[card]) return 0;
    uint64_t bytes = (uint64_t)card_figure("STAND_IN_CONTEXT_BYTES", card, 500LL << 20);
    if (!open_table()) return OS_FAILED;
    if (card_figure("STAND_IN_EXCLUSIVE", card, 0) && card_used_bytes(card)) return UNAVAILABLE;
    if (card_used_bytes(card) + bytes > card_total_bytes(card)) return OUT_OF_MEMORY;
    if (!mine && !take_row()) return OS_FAILED;
    has_context[card] = 1;
    return card_take(card, bytes);
}

static void list_processes(int card, char *text, size_t room) {
    size_t used = 0;
    text[0] = 0;
    for (struct row *row = table; open_table() && row < table + MOST_PROCESSES; row++)
        if (is_alive(row->pid) && row->bytes[card] && used + 40 < room)
            used += (size_t)sprintf(text + used, "%s%d:%llu", used ? "," : "", row->pid,
                                    (unsigned long long)row->bytes[card]);
}

/* Figures of an idle H100; energy is counted at 300 W. */
static const struct { const char *key, *value; } idle[] = {
    {"driver", "580.95.05"}, {"power", "300000"}, {"power_limit", "700000"},
    {"power_limit_default", "700000"}, {"sm_clock", "1980"}, {"memory_clock", "2619"},
    {"temperature", "55"}, {"energy", "0"}, {"energy_rate", "300000"},
};

/* Of the one card whose instances the cards are. */
static int cut_card_setting(int card, const char *key, char *value, size_t room) {
    char uuid[TEXT];
    if (card) return 0;
    if (!strcmp(key, "cards")) return snprintf(value, room, "1");
    if (!strcmp(key, "uuid")) return write_uuid(MOST_CARDS, value), 1;
    if (strcmp(key, "instances")) return card_setting(MOST_CARDS, key, value, room);
    for (size_t used = 0; card < card_count() && used + TEXT < room; card++) {
        write_uuid(card, uuid);
        used += (size_t)snprintf(value + used, room - used, used ? ",%s" : "%s", uuid);
    }
    return 1;
}
int card_setting(int card, const char *key, char *value, size_t room) {
    char uuid[TEXT];
    if (card >= MOST_CARDS) card -= MOST_CARDS; /* an instance */
    else if (is_mig()) return cut_card_setting(card, key, value, room);
    write_uuid(card, uuid);
    if (card >= card_count()) return 0;
    if (!strcmp(key, "cards")) return snprintf(value, room, "%d", card_count());
    if (!strcmp(key, "uuid")) return snprintf(value, room, "%s", uuid);
    if (!strcmp(key, "total"))
        return snprintf(value, room, "%llu", (unsigned long long)card_total_bytes(card));
    if (!strcmp(key, "memory"))
        return snprintf(value, room, "%llu", (unsigned long long)card_used_bytes(card));
    if (!strcmp(key, "name")) return card_name(card, value, room), 1;
    if (!strcmp(key, "processes")) return list_processes(card, value, room), 1;
    for (size_t i = 0; i < sizeof idle / sizeof *idle; i++)
        if (!strcmp(key, idle[i].key)) return snprintf(value, room, "%s", idle[i].value);
    return 0;
}

void stand_in_trace(const char *name) {
    if (getenv("STAND_IN_TRACE")) fprintf(stderr, "stand-in: %s does nothing\n", name);
}
