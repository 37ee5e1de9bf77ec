/* A stand-in for libnvidia-ml.so.1, so that the counters are tested through the real pynvml.
 *
 * The file named by STAND_IN_NVML holds the machine, one `key=value` a line, read anew at each
 * call, so that a test may change it meanwhile. A key may end in `.N` for the card of that index;
 * without it, it holds for all. `fail.X=4` makes the calls for X return that error. Without a file
 * the machine has the cards of card.c, where it is linked with them. Symbols that an old library
 * lacks are left out by WITHOUT_... when it is compiled.
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { OK = 0, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7 };
enum { MOST_CARDS = 8, MOST_INSTANCES = 8, TEXT = 16384 };
enum { UNSIGNED_INT = 1, UNSIGNED_LONG_LONG = 3 };

typedef struct { int card; int instance; } Device; /* instance -1: the card itself */
typedef struct { unsigned long long total, free, used; } Memory;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } MemoryV2;
typedef struct { unsigned pid; unsigned long long used; unsigned gi, ci; } Process;
typedef struct { unsigned pid; unsigned long long used; } OldProcess;
typedef struct { unsigned version, sensor; int celsius; } Temperature;
typedef struct { unsigned long long reference, violation; } Violation;
typedef struct {
    uint32_t field, scope;
    int64_t timestamp, latency;
    unsigned type, status;
    union { unsigned narrow; unsigned long long wide; } value;
} Field;

int card_setting(int card, const char *key, char *value, size_t room) __attribute__((weak));

static Device devices[MOST_CARDS][MOST_INSTANCES + 1];

static int find(const char *key, char *value) {
    const char *path = getenv("STAND_IN_NVML");
    FILE *file = path ? fopen(path, "r") : NULL;
    char line[TEXT];
    int found = 0;
    while (file && !found && fgets(line, sizeof line, file)) {
        size_t length = strlen(key);
        line[strcspn(line, "\n")] = 0;
        if (!strncmp(line, key, length) && line[length] == '=') {
            strcpy(value, line + length + 1);
            found = 1;
        }
    }
    if (file) fclose(file);
    return found;
}

static int setting(int card, const char *key, char *value) {
    char own[TEXT];
    if (!getenv("STAND_IN_NVML")) return card_setting && card_setting(card, key, value, TEXT);
    snprintf(own, sizeof own, "%s.%d", key, card);
    return find(own, value) || find(key, value);
}

static int failure(int card, const char *what) {
    char key[TEXT], value[TEXT];
    snprintf(key, sizeof key, "fail.%s", what);
    return setting(card, key, value) ? atoi(value) : OK;
}

/* A figure of the card; an instance has none but memory. */
static int figure(Device *device, const char *what, unsigned long long *value) {
    char text[TEXT];
    int failed = failure(device->card, what);
    if (failed) return failed;
    int asked = device->card;
    if (device->instance >= 0 && strcmp(what, "memory")) return NOT_SUPPORTED;
    if (device->instance >= 0 && card_setting) asked = MOST_CARDS + device->instance;
    if (!setting(asked, what, text)) return NOT_SUPPORTED;
    *value = strtoull(text, NULL, 10);
    return OK;
}

static int narrow(Device *device, const char *what, unsigned *value) {
    unsigned long long wide = 0;
    int status = figure(device, what, &wide);
    *value = (unsigned)wide;
    return status;
}

/* The nth of the parts between commas. */
static int part(const char *list, int nth, char *value) {
    char copy[TEXT];
    char *rest = strcpy(copy, list), *entry;
    while ((entry = strsep(&rest, ",")))
        if (!nth--) { strcpy(value, entry); return *entry != 0; }
    return 0;
}

static int uuid_of(int card, int instance, char *uuid) {
    char list[TEXT];
    if (instance < 0) return setting(card, "uuid", uuid);
    return setting(card, "instances", list) && part(list, instance, uuid);
}

int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    for (int card = 0; card < MOST_CARDS; card++)
        for (int place = 0; place <= MOST_INSTANCES; place++)
            devices[card][place] = (Device){card, place - 1};
    return failure(0, "init");
}
int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
int nvmlInit(void) { return nvmlInitWithFlags(0); }
int nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(int status) { (void)status; return "an error of the stand-in"; }

int nvmlSystemGetDriverVersion(char *text, unsigned length) {
    char value[TEXT] = "590.48.01";
    setting(0, "driver", value);
    snprintf(text, length, "%s", value);
    return OK;
}
int nvmlDeviceGetCount_v2(unsigned *count) {
    char value[TEXT] = "0";
    setting(0, "cards", value);
    *count = (unsigned)atoi(value);
    return OK;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned index, Device **device) {
    *device = &devices[index][0];
    return failure((int)index, "card");
}
int nvmlDeviceGetHandleByUUID(const char *uuid, Device **device) {
    char known[TEXT];
    for (int card = 0; card < MOST_CARDS; card++)
        for (int place = 0; place <= MOST_INSTANCES; place++)
            if (uuid_of(card, place - 1, known) && !strcmp(known, uuid)) {
                *device = &devices[card][place];
                return OK;
            }
    return NOT_FOUND;
}
int nvmlDeviceGetHandleByPciBusId_v2(const char *bus, Device **device) {
    const char *number = strchr(bus, ':'); /* domain:bus:device, the first card on bus 1 */
    return nvmlDeviceGetHandleByIndex_v2((unsigned)strtoul(number + 1, NULL, 16) - 1, device);
}
int nvmlDeviceGetUUID(Device *device, char *text, unsigned length) {
    char uuid[TEXT];
    if (!uuid_of(device->card, device->instance, uuid)) return NOT_FOUND;
    snprintf(text, length, "%s", uuid);
    return OK;
}
int nvmlDeviceGetName(Device *device, char *text, unsigned length) {
    char name[TEXT] = "Imaginary";
    setting(device->card, "name", name);
    snprintf(text, length, "%s", name);
    return OK;
}
int nvmlDeviceGetMigMode(Device *device, unsigned *current, unsigned *pending) {
    char list[TEXT];
    *current = *pending = setting(device->card, "instances", list);
    return *current ? OK : NOT_SUPPORTED;
}
int nvmlDeviceGetMaxMigDeviceCount(Device *device, unsigned *count) {
    (void)device;
    *count = MOST_INSTANCES;
    return OK;
}
int nvmlDeviceGetMigDeviceHandleByIndex(Device *device, unsigned index, Device **instance) {
    char uuid[TEXT];
    *instance = &devices[device->card][index + 1];
    return uuid_of(device->card, (int)index, uuid) ? OK : NOT_FOUND;
}

int nvmlDeviceGetPowerUsage(Device *device, unsigned *mw) { return narrow(device, "power", mw); }
int nvmlDeviceGetEnforcedPowerLimit(Device *device, unsigned *mw) {
    return narrow(device, "power_limit", mw);
}
int nvmlDeviceGetPowerManagementDefaultLimit(Device *device, unsigned *mw) {
    return narrow(device, "power_limit_default", mw);
}
int nvmlDeviceGetClockInfo(Device *device, unsigned type, unsigned *mhz) {
    return narrow(device, type == 1 ? "sm_clock" : "memory_clock", mhz);
}
#ifndef WITHOUT_OLD_TEMPERATURE
int nvmlDeviceGetTemperature(Device *device, unsigned sensor, unsigned *celsius) {
    (void)sensor;
    return narrow(device, "temperature", celsius);
}
#endif
#ifndef WITHOUT_NEW_TEMPERATURE
int nvmlDeviceGetTemperatureV(Device *device, Temperature *temperature) {
    return narrow(device, "temperature", (unsigned *)&temperature->celsius);
}
#endif
#ifndef WITHOUT_ENERGY
/* `energy` in mJ, rising by `energy_rate` mJ a second of the machine's monotonic clock. */
int nvmlDeviceGetTotalEnergyConsumption(Device *device, unsigned long long *mj) {
    char rate[TEXT];
    struct timespec now;
    int status = figure(device, "energy", mj);
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (!status && setting(device->card, "energy_rate", rate))
        *mj += (unsigned long long)(atof(rate) * ((double)now.tv_sec + 1e-9 * (double)now.tv_nsec));
    return status;
}
#endif

int nvmlDeviceGetMemoryInfo(Device *device, Memory *memory) {
    unsigned long long reserved = 0;
    int status = figure(device, "memory", &memory->used);
    figure(device, "reserved", &reserved);
    memory->used += reserved;
    figure(device, "total", &memory->total);
    memory->free = memory->total - memory->used;
    return status;
}
#ifndef WITHOUT_NEW_MEMORY
int nvmlDeviceGetMemoryInfo_v2(Device *device, MemoryV2 *memory) {
    return memory->version == 0x02000028 ? figure(device, "memory", &memory->used)
                                         : INVALID_ARGUMENT;
}
#endif

/* `processes` is pid:bytes,...; the pid `self` is that of the process that asks. */
static int list_processes(Device *device, unsigned *count, Process *processes) {
    char list[TEXT] = "", entry[TEXT];
    unsigned room = *count;
    int failed = failure(device->card, "processes");
    if (failed) return failed;
    setting(device->card, "processes", list);
    for (*count = 0; part(list, (int)*count, entry); ++*count)
        if (*count < room && processes) {
            char *bytes = strchr(entry, ':');
            *bytes++ = 0;
            processes[*count].pid = strcmp(entry, "self") ? (unsigned)atoi(entry) : (unsigned)getpid();
            processes[*count].used = strtoull(bytes, NULL, 10);
        }
    return *count > room ? INSUFFICIENT_SIZE : OK;
}
/* The first layout has no instances: torch asks by it. */
int nvmlDeviceGetComputeRunningProcesses(Device *device, unsigned *count, OldProcess *processes) {
    Process wide[256];
    unsigned room = *count < 256 ? *count : 256;
    int status = list_processes(device, &room, wide);
    for (unsigned i = 0; !status && i < room; i++)
        processes[i] = (OldProcess){wide[i].pid, wide[i].used};
    *count = room;
    return status;
}
int nvmlDeviceGetComputeRunningProcesses_v2(Device *device, unsigned *count, Process *processes) {
    return list_processes(device, count, processes);
}
#ifndef WITHOUT_NEW_PROCESSES
int nvmlDeviceGetComputeRunningProcesses_v3(Device *device, unsigned *count, Process *processes) {
    return list_processes(device, count, processes);
}
#endif

#ifndef WITHOUT_FIELDS
/* `field_N` in ns; `narrow_N` is a field of another meaning, whose value is not a counter's. */
int nvmlDeviceGetFieldValues(Device *device, int count, Field *fields) {
    for (int i = 0; i < count; i++) {
        char key[TEXT];
        snprintf(key, sizeof key, "field_%u", fields[i].field);
        fields[i].type = UNSIGNED_LONG_LONG;
        fields[i].status = (unsigned)figure(device, key, &fields[i].value.wide);
        if (!fields[i].status) continue;
        snprintf(key, sizeof key, "narrow_%u", fields[i].field);
        if (!narrow(device, key, &fields[i].value.narrow)) {
            fields[i].type = UNSIGNED_INT;
            fields[i].status = OK;
        }
    }
    return OK;
}
#endif
int nvmlDeviceGetViolationStatus(Device *device, unsigned policy, Violation *violation) {
    char key[TEXT];
    snprintf(key, sizeof key, "policy_%u", policy);
    return figure(device, key, &violation->violation);
}
