/*
 * A libnvidia-ml.so.1 without a GPU: it answers what a text file says.
 *
 * The file is named by the environment variable GHUB_STUB_NVML and read anew at every call, so that a test can
 * change the machine while a program watches it (write it aside and rename it: readers then never see a half).
 * Without the file there is no driver. One word and its values per line; unknown words are an error of the test
 * and make every call fail with NVML_ERROR_CORRUPTED_INFOROM.
 *
 *   driver 570.86.10            driver version
 *   cuda 12080                  newest CUDA as major * 1000 + minor * 10
 *   delay_ms 200                every call takes that long
 *   error nvmlInitWithFlags 9   what a function returns in place of an answer; `*` means every function but shutdown
 *   gpu NVIDIA Stub 4090        begins a GPU, with its name; the lines below belong to it until the next
 *   uuid GPU-0001
 *   utilization 85              percent
 *   memory 500 24564            used and total, MiB
 *   temperature 40              degrees Celsius
 *   power 60000                 milliwatts
 *   mig 1                       MIG mode, 0 or 1; it hides nothing. Without the line the GPU does not know MIG
 *   process 4711 85 1700000000000000   one sample: pid, percent, time in microseconds since the epoch (0: now)
 *   error nvmlDeviceGetName 15  an error of this GPU alone; `*` means every function that is given its handle
 *
 * Like the real one it has sessions, from the first nvmlInitWithFlags to the last nvmlShutdown. Calls outside are
 * refused with NVML_ERROR_UNINITIALIZED. A session knows the GPUs there were at its beginning: those that come later
 * are not seen, and one that is gone or was once lost (code 15) stays lost to it. A driver that is not loaded (code 9)
 * ends the session.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SUCCESS = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7 };
enum { DRIVER_NOT_LOADED = 9, CORRUPTED_INFOROM = 14, GPU_IS_LOST = 15 };
enum { MAX_GPUS = 8, MAX_SAMPLES = 32, MAX_ERRORS = 32, TEXT = 96 };

typedef struct {
    unsigned int pid;
    unsigned long long stamp_us;
    unsigned int sm_pct, memory_pct, encoder_pct, decoder_pct;
} sample_t;

typedef struct {
    char function[TEXT];
    int code;
    int gpu; /* its index, -1 for the machine */
} error_t;

typedef struct {
    char name[TEXT], uuid[TEXT];
    unsigned int utilization_pct, temperature_c, power_mw;
    unsigned long long used_mib, total_mib;
    int mig; /* -1: does not know MIG */
    sample_t samples[MAX_SAMPLES];
    unsigned int sample_count;
} gpu_t;

typedef struct {
    char driver[TEXT];
    int cuda, delay_ms, is_bad;
    error_t errors[MAX_ERRORS];
    int error_count;
    gpu_t gpus[MAX_GPUS];
    int gpu_count;
} machine_t;

static int users = 0, known_gpus = 0; /* of this session */
static char is_lost[MAX_GPUS];
static char handles[MAX_GPUS]; /* a handle is the address of one of these */

static unsigned long long now_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (unsigned long long)now.tv_sec * 1000000ULL + (unsigned long long)now.tv_nsec / 1000ULL;
}

static void read_gpu_line(gpu_t *gpu, const char *word, const char *rest, int *is_bad) {
    sample_t sample = {0};
    if (!strcmp(word, "uuid")) snprintf(gpu->uuid, TEXT, "%s", rest);
    else if (!strcmp(word, "utilization")) *is_bad |= sscanf(rest, "%u", &gpu->utilization_pct) != 1;
    else if (!strcmp(word, "memory")) *is_bad |= sscanf(rest, "%llu %llu", &gpu->used_mib, &gpu->total_mib) != 2;
    else if (!strcmp(word, "temperature")) *is_bad |= sscanf(rest, "%u", &gpu->temperature_c) != 1;
    else if (!strcmp(word, "power")) *is_bad |= sscanf(rest, "%u", &gpu->power_mw) != 1;
    else if (!strcmp(word, "mig")) *is_bad |= sscanf(rest, "%d", &gpu->mig) != 1;
    else if (!strcmp(word, "process") && gpu->sample_count < MAX_SAMPLES
             && sscanf(rest, "%u %u %llu", &sample.pid, &sample.sm_pct, &sample.stamp_us) == 3) {
        if (sample.stamp_us == 0) sample.stamp_us = now_us();
        gpu->samples[gpu->sample_count++] = sample;
    } else *is_bad = 1;
}

static void read_line(machine_t *machine, const char *word, const char *rest) {
    gpu_t *gpu = machine->gpu_count ? &machine->gpus[machine->gpu_count - 1] : NULL;
    if (!strcmp(word, "driver")) snprintf(machine->driver, TEXT, "%s", rest);
    else if (!strcmp(word, "cuda")) machine->is_bad |= sscanf(rest, "%d", &machine->cuda) != 1;
    else if (!strcmp(word, "delay_ms")) machine->is_bad |= sscanf(rest, "%d", &machine->delay_ms) != 1;
    else if (!strcmp(word, "gpu") && machine->gpu_count < MAX_GPUS) {
        gpu = &machine->gpus[machine->gpu_count++];
        snprintf(gpu->name, TEXT, "%s", rest);
        gpu->mig = -1;
    } else if (!strcmp(word, "error") && machine->error_count < MAX_ERRORS) {
        error_t *error = &machine->errors[machine->error_count++];
        error->gpu = machine->gpu_count - 1;
        machine->is_bad |= sscanf(rest, "%95s %d", error->function, &error->code) != 2;
    } else if (gpu) read_gpu_line(gpu, word, rest, &machine->is_bad);
    else machine->is_bad = 1;
}

/* Whether there is a driver at all. */
static int read_machine(machine_t *machine) {
    char line[512];
    const char *path = getenv("GHUB_STUB_NVML");
    FILE *file = path ? fopen(path, "r") : NULL;
    memset(machine, 0, sizeof *machine);
    if (!file) return 0;
    while (fgets(line, sizeof line, file)) {
        char *rest = line + strcspn(line, " \n");
        line[strcspn(line, "\n")] = '\0';
        if (*line == '\0') continue;
        if (*rest) *rest++ = '\0';
        read_line(machine, line, rest);
    }
    fclose(file);
    return 1;
}

/* What the function returns instead of an answer, or SUCCESS. The machine's errors go before those of the GPU. */
static int told_error(const machine_t *machine, const char *function, int gpu) {
    for (int i = 0; i < machine->error_count; i++) {
        const error_t *error = &machine->errors[i];
        int is_meant = !strcmp(error->function, "*") || !strcmp(error->function, function);
        if (is_meant && (error->gpu == -1 || error->gpu == gpu)) return error->code;
    }
    return SUCCESS;
}

static int begin(machine_t *machine, const char *function, int gpu) {
    int code = DRIVER_NOT_LOADED;
    if (read_machine(machine)) {
        struct timespec delay = {machine->delay_ms / 1000, machine->delay_ms % 1000 * 1000000L};
        if (machine->delay_ms > 0) nanosleep(&delay, NULL);
        code = machine->is_bad ? CORRUPTED_INFOROM : told_error(machine, function, gpu);
    }
    if (code == DRIVER_NOT_LOADED) users = 0;
    return code;
}

static int ask_machine(machine_t *machine, const char *function) {
    int code = users ? SUCCESS : UNINITIALIZED;
    return code ? code : begin(machine, function, -1);
}

static int ask_gpu(machine_t *machine, const char *function, const char *handle, const gpu_t **gpu) {
    int index = (int)(handle - handles);
    int code = users ? SUCCESS : UNINITIALIZED;
    if (!code) code = begin(machine, function, index);
    if (!code && (index < 0 || index >= known_gpus)) code = INVALID_ARGUMENT;
    if (!code && (is_lost[index] || index >= machine->gpu_count)) code = GPU_IS_LOST;
    if (code == GPU_IS_LOST) is_lost[index] = 1;
    *gpu = code ? NULL : &machine->gpus[index];
    return code;
}

static int give_text(char *out, unsigned int size, const char *text) {
    if (strlen(text) >= size) return INSUFFICIENT_SIZE;
    strcpy(out, text);
    return SUCCESS;
}

int nvmlInitWithFlags(unsigned int flags) {
    machine_t machine;
    int code = begin(&machine, __func__, -1);
    (void)flags;
    if (code) return code;
    if (users++ == 0) {
        known_gpus = machine.gpu_count;
        memset(is_lost, 0, sizeof is_lost);
    }
    return SUCCESS;
}

int nvmlShutdown(void) {
    if (!users) return UNINITIALIZED;
    users--;
    return SUCCESS;
}

const char *nvmlErrorString(int code) {
    (void)code;
    return "Told By The Stub";
}

int nvmlSystemGetDriverVersion(char *version, unsigned int size) {
    machine_t machine;
    int code = ask_machine(&machine, __func__);
    return code ? code : give_text(version, size, machine.driver);
}

int nvmlSystemGetCudaDriverVersion_v2(int *version) {
    machine_t machine;
    int code = ask_machine(&machine, __func__);
    if (!code) *version = machine.cuda;
    return code;
}

int nvmlDeviceGetCount_v2(unsigned int *count) {
    machine_t machine;
    int code = ask_machine(&machine, __func__);
    if (!code) *count = (unsigned int)known_gpus;
    return code;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned int index, char **handle) {
    machine_t machine;
    const gpu_t *gpu;
    int code = index < MAX_GPUS ? ask_gpu(&machine, __func__, &handles[index], &gpu) : INVALID_ARGUMENT;
    if (!code) *handle = &handles[index];
    return code;
}

int nvmlDeviceGetName(const char *handle, char *name, unsigned int size) {
    machine_t machine;
    const gpu_t *gpu;
    int code = ask_gpu(&machine, __func__, handle, &gpu);
    return code ? code : give_text(name, size, gpu->name);
}

int nvmlDeviceGetUUID(const char *handle, char *uuid, unsigned int size) {
    machine_t machine;
    const gpu_t *gpu;
    int code = ask_gpu(&machine, __func__, handle, &gpu);
    return code ? code : give_text(uuid, size, gpu->uuid);
}

int nvmlDeviceGetMigMode(const char *handle, unsigned int *current, unsigned int *pending) {
    machine_t machine;
    const gpu_t *gpu;
    int code = ask_gpu(&machine, __func__, handle, &gpu);
    if (code || gpu->mig < 0) return code ? code : NOT_SUPPORTED;
    *current = *pending = (unsigned int)gpu->mig;
    return SUCCESS;
}

int nvmlDeviceGetUtilizationRates(const char *handle, unsigned int rates_pct[2]) {
    machine_t machine;
    const gpu_t *gpu;
    int code = ask_gpu(&machine, __func__, handle, &gpu);
    if (code) return code;
    rates_pct[0] = gpu->utilization_pct;
    rates_pct[1] = 0; /* of the memory interface */
    return SUCCESS;
}

int nvmlDeviceGetMemoryInfo(const char *handle, unsigned long long total_free_used_bytes[3]) {
    machine_t machine;
    const gpu_t *gpu;
    int code = ask_gpu(&machine, __func__, handle, &gpu);
    if (code) return code;
    total_free_used_bytes[0] = gpu->total_mib << 20;
    total_free_used_bytes[1] = (gpu->total_mib - gpu->used_mib) << 20;
    total_free_used_bytes[2] = gpu->used_mib << 20;
    return SUCCESS;
}

int nvmlDeviceGetTemperature(const char *handle, unsigned int sensor, unsigned int *temperature_c) {
    machine_t machine;
    const gpu_t *gpu;
    int code = ask_gpu(&machine, __func__, handle, &gpu);
    (void)sensor;
    if (!code) *temperature_c = gpu->temperature_c;
    return code;
}

int nvmlDeviceGetPowerUsage(const char *handle, unsigned int *power_mw) {
    machine_t machine;
    const gpu_t *gpu;
    int code = ask_gpu(&machine, __func__, handle, &gpu);
    if (!code) *power_mw = gpu->power_mw;
    return code;
}

/* As the real one: without room it says how many samples there are, and with none at all that nothing was found. */
int nvmlDeviceGetProcessUtilization(
    const char *handle, sample_t *samples, unsigned int *count, unsigned long long last_seen_us
) {
    machine_t machine;
    const gpu_t *gpu;
    unsigned int found = 0, room = samples ? *count : 0;
    int code = ask_gpu(&machine, __func__, handle, &gpu);
    if (code) return code;
    for (unsigned int i = 0; i < gpu->sample_count; i++) {
        if (gpu->samples[i].stamp_us <= last_seen_us) continue;
        if (found < room) samples[found] = gpu->samples[i];
        found++;
    }
    *count = found;
    if (found == 0) return NOT_FOUND;
    return found > room ? INSUFFICIENT_SIZE : SUCCESS;
}
