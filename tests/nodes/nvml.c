/* A stand-in for NVIDIA's libnvidia-ml.so.1, for machines with no card.
 *
 * Cards are described in /etc/gpus.conf, one `N.key=value` a line and `key=value` for the driver;
 * it is read again when it changes. Who uses them is in /run/gpus/processes, one line
 * `card pid bytes percent` each, written by gpu-driver.c, the part that runs as root.
 * `hang=1` holds every call, `N.hang=1` every call on one card, until the line goes.
 * `N.lost=1` answers NVML_ERROR_GPU_IS_LOST; `N.error.power=3` one kind of call with that code.
 */
#define NVML_NO_UNVERSIONED_FUNC_DEFS
#include <nvml.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_CARDS 16
#define MAX_LINES 512
#define MAX_USERS 128

struct line { int card; char key[64]; char value[192]; };
struct user { int card; unsigned pid; unsigned long long bytes; double percent; };
struct nvmlDevice_st { int index; };

static struct nvmlDevice_st cards[MAX_CARDS];
static struct line lines[MAX_LINES];
static int line_count, card_count, references;
static struct timespec read_at;
static ino_t read_inode;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static const char *configuration(void) {
    const char *named = getenv("LLAMATOP_GPUS_CONF");
    return named ? named : "/etc/gpus.conf";
}

static const char *process_list(void) {
    const char *named = getenv("LLAMATOP_GPUS_PROCESSES");
    return named ? named : "/run/gpus/processes";
}

static int refresh(void) {
    struct stat status;
    char text[512];
    FILE *file;
    if (stat(configuration(), &status) != 0) return 0;
    if (status.st_ino == read_inode && status.st_mtim.tv_sec == read_at.tv_sec &&
        status.st_mtim.tv_nsec == read_at.tv_nsec)
        return 1;
    if (!(file = fopen(configuration(), "r"))) return 0;
    line_count = card_count = 0;
    while (line_count < MAX_LINES && fgets(text, sizeof text, file)) {
        struct line *line = &lines[line_count];
        line->value[0] = 0;
        if (sscanf(text, "%d.%63[^=]=%191[^\n]", &line->card, line->key, line->value) >= 2) {
            if (line->card < 0 || line->card >= MAX_CARDS) continue;
            if (line->card >= card_count) card_count = line->card + 1;
        } else if (sscanf(text, "%63[^=]=%191[^\n]", line->key, line->value) >= 1) {
            line->card = -1;
        } else {
            continue;
        }
        line_count++;
    }
    fclose(file);
    read_inode = status.st_ino;
    read_at = status.st_mtim;
    return 1;
}

static const char *text_of(int card, const char *key, const char *otherwise) {
    static __thread char found[192];
    pthread_mutex_lock(&lock);
    refresh();
    snprintf(found, sizeof found, "%s", otherwise);
    for (int i = 0; i < line_count; i++)
        if (lines[i].card == card && !strcmp(lines[i].key, key))
            snprintf(found, sizeof found, "%s", lines[i].value);
    pthread_mutex_unlock(&lock);
    return found;
}

static double number_of(int card, const char *key, double otherwise) {
    const char *found = text_of(card, key, "");
    return *found ? strtod(found, NULL) : otherwise;
}

static void hold_while_hanging(int card) {
    while (number_of(-1, "hang", 0) || (card >= 0 && number_of(card, "hang", 0))) usleep(50000);
}

static nvmlReturn_t enter(nvmlDevice_t device, const char *call) {
    char key[80];
    int card;
    if (!references) return NVML_ERROR_UNINITIALIZED;
    if (!device || device < cards || device >= cards + MAX_CARDS) return NVML_ERROR_INVALID_ARGUMENT;
    card = device->index;
    hold_while_hanging(card);
    if (number_of(card, "lost", 0)) return NVML_ERROR_GPU_IS_LOST;
    snprintf(key, sizeof key, "error.%s", call);
    return (nvmlReturn_t)(int)number_of(card, key, NVML_SUCCESS);
}

#define ENTER(call) \
    do { \
        nvmlReturn_t refused = enter(device, call); \
        if (refused != NVML_SUCCESS) return refused; \
    } while (0)

static int users_of(int card, struct user *users) {
    FILE *file = fopen(process_list(), "r");
    int count = 0;
    if (!file) return 0;
    while (count < MAX_USERS && fscanf(file, "%d %u %llu %lf", &users[count].card, &users[count].pid,
                                       &users[count].bytes, &users[count].percent) == 4)
        if (users[count].card == card) count++;
    fclose(file);
    return count;
}

static double utilization_of(int card) {
    struct user users[MAX_USERS];
    double sum = 0;
    for (int i = users_of(card, users) - 1; i >= 0; i--) sum += users[i].percent;
    return number_of(card, "utilization", sum > 100 ? 100 : sum);
}

static unsigned long long used_of(int card) {
    struct user users[MAX_USERS];
    unsigned long long sum = 10ull << 20;
    for (int i = users_of(card, users) - 1; i >= 0; i--) sum += users[i].bytes;
    return (unsigned long long)number_of(card, "memory_used", (double)sum);
}

static unsigned milliwatts_of(int card) {
    double idle = 10000, limit = number_of(card, "power_limit", 250000);
    return (unsigned)number_of(card, "power", idle + (limit - idle) * 0.8 * utilization_of(card) / 100);
}

static unsigned celsius_of(int card) {
    return (unsigned)number_of(card, "temperature", 31 + 0.4 * utilization_of(card));
}

static nvmlReturn_t copy(char *to, unsigned length, const char *text) {
    if (strlen(text) + 1 > length) return NVML_ERROR_INSUFFICIENT_SIZE;
    strcpy(to, text);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlInitWithFlags(unsigned flags) {
    int there;
    (void)flags;
    hold_while_hanging(-1);
    if (number_of(-1, "driver_error", 0)) return (nvmlReturn_t)(int)number_of(-1, "driver_error", 0);
    pthread_mutex_lock(&lock);
    there = refresh();
    for (int i = 0; i < MAX_CARDS; i++) cards[i].index = i;
    if (there) references++;
    pthread_mutex_unlock(&lock);
    return there ? NVML_SUCCESS : NVML_ERROR_DRIVER_NOT_LOADED;
}
nvmlReturn_t nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
nvmlReturn_t nvmlInit(void) { return nvmlInitWithFlags(0); }

nvmlReturn_t nvmlShutdown(void) {
    if (!references) return NVML_ERROR_UNINITIALIZED;
    references--;
    return NVML_SUCCESS;
}

const char *nvmlErrorString(nvmlReturn_t result) {
    switch (result) {
    case NVML_SUCCESS: return "Success";
    case NVML_ERROR_UNINITIALIZED: return "Uninitialized";
    case NVML_ERROR_INVALID_ARGUMENT: return "Invalid Argument";
    case NVML_ERROR_NOT_SUPPORTED: return "Not Supported";
    case NVML_ERROR_NO_PERMISSION: return "Insufficient Permissions";
    case NVML_ERROR_NOT_FOUND: return "Not Found";
    case NVML_ERROR_INSUFFICIENT_SIZE: return "Insufficient Size";
    case NVML_ERROR_DRIVER_NOT_LOADED: return "Driver Not Loaded";
    case NVML_ERROR_TIMEOUT: return "Timeout";
    case NVML_ERROR_LIBRARY_NOT_FOUND: return "NVML Shared Library Not Found";
    case NVML_ERROR_FUNCTION_NOT_FOUND: return "Function Not Found";
    case NVML_ERROR_GPU_IS_LOST: return "GPU is lost";
    case NVML_ERROR_RESET_REQUIRED: return "GPU requires restart";
    case NVML_ERROR_LIB_RM_VERSION_MISMATCH: return "RM has detected an NVML/RM version mismatch.";
    default: return "Unknown Error";
    }
}

nvmlReturn_t nvmlSystemGetDriverVersion(char *version, unsigned length) {
    if (!references) return NVML_ERROR_UNINITIALIZED;
    hold_while_hanging(-1);
    return copy(version, length, text_of(-1, "driver", "550.163.01"));
}
nvmlReturn_t nvmlSystemGetNVMLVersion(char *version, unsigned length) {
    return copy(version, length, "12.550.163.01");
}
nvmlReturn_t nvmlSystemGetCudaDriverVersion_v2(int *version) {
    if (!references) return NVML_ERROR_UNINITIALIZED;
    *version = (int)number_of(-1, "cuda", 12040);
    return NVML_SUCCESS;
}
nvmlReturn_t nvmlSystemGetCudaDriverVersion(int *version) {
    return nvmlSystemGetCudaDriverVersion_v2(version);
}

nvmlReturn_t nvmlDeviceGetCount_v2(unsigned *count) {
    if (!references) return NVML_ERROR_UNINITIALIZED;
    hold_while_hanging(-1);
    pthread_mutex_lock(&lock);
    refresh();
    *count = (unsigned)card_count;
    pthread_mutex_unlock(&lock);
    return NVML_SUCCESS;
}
nvmlReturn_t nvmlDeviceGetCount(unsigned *count) { return nvmlDeviceGetCount_v2(count); }

nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned index, nvmlDevice_t *device) {
    unsigned count;
    nvmlReturn_t result = nvmlDeviceGetCount_v2(&count);
    if (result != NVML_SUCCESS) return result;
    if (index >= count) return NVML_ERROR_INVALID_ARGUMENT;
    if (number_of((int)index, "gone", 0)) return NVML_ERROR_GPU_IS_LOST;
    *device = &cards[index];
    return NVML_SUCCESS;
}
nvmlReturn_t nvmlDeviceGetHandleByIndex(unsigned index, nvmlDevice_t *device) {
    return nvmlDeviceGetHandleByIndex_v2(index, device);
}

static nvmlReturn_t find(const char *key, const char *wanted, nvmlDevice_t *device) {
    unsigned count;
    nvmlReturn_t result = nvmlDeviceGetCount_v2(&count);
    if (result != NVML_SUCCESS) return result;
    for (unsigned i = 0; i < count; i++)
        if (!strcasecmp(text_of((int)i, key, ""), wanted)) return nvmlDeviceGetHandleByIndex_v2(i, device);
    return NVML_ERROR_NOT_FOUND;
}
nvmlReturn_t nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *device) {
    return find("uuid", uuid, device);
}
nvmlReturn_t nvmlDeviceGetHandleByPciBusId_v2(const char *bus, nvmlDevice_t *device) {
    return find("bus", bus, device);
}
nvmlReturn_t nvmlDeviceGetHandleByPciBusId(const char *bus, nvmlDevice_t *device) {
    return find("bus", bus, device);
}
nvmlReturn_t nvmlDeviceGetIndex(nvmlDevice_t device, unsigned *index) {
    ENTER("index");
    *index = (unsigned)device->index;
    return NVML_SUCCESS;
}
nvmlReturn_t nvmlDeviceGetMinorNumber(nvmlDevice_t device, unsigned *minor) {
    return nvmlDeviceGetIndex(device, minor);
}
nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t device, char *name, unsigned length) {
    ENTER("name");
    return copy(name, length, text_of(device->index, "name", "Tesla P40"));
}
nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t device, char *uuid, unsigned length) {
    ENTER("uuid");
    return copy(uuid, length, text_of(device->index, "uuid", "GPU-unknown"));
}
nvmlReturn_t nvmlDeviceGetSerial(nvmlDevice_t device, char *serial, unsigned length) {
    ENTER("serial");
    return copy(serial, length, text_of(device->index, "serial", "0322417000001"));
}
nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t device, nvmlUtilization_t *rates) {
    ENTER("utilization");
    rates->gpu = (unsigned)(utilization_of(device->index) + 0.5);
    rates->memory = rates->gpu * 6 / 10;
    return NVML_SUCCESS;
}
nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *memory) {
    ENTER("memory");
    memory->total = (unsigned long long)number_of(device->index, "memory_total", 24.0 * (1 << 30));
    memory->used = used_of(device->index);
    memory->free = memory->total - memory->used;
    return NVML_SUCCESS;
}
nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, nvmlMemory_v2_t *memory) {
    nvmlMemory_t plain;
    nvmlReturn_t result;
    if (memory->version != nvmlMemory_v2) return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    result = nvmlDeviceGetMemoryInfo(device, &plain);
    if (result != NVML_SUCCESS) return result;
    memory->total = plain.total;
    memory->reserved = 180ull << 20;
    memory->used = plain.used;
    memory->free = plain.total - plain.used - memory->reserved;
    return NVML_SUCCESS;
}
nvmlReturn_t nvmlDeviceGetPowerUsage(nvmlDevice_t device, unsigned *power) {
    ENTER("power");
    *power = milliwatts_of(device->index);
    return NVML_SUCCESS;
}
nvmlReturn_t nvmlDeviceGetTotalEnergyConsumption(nvmlDevice_t device, unsigned long long *energy) {
    ENTER("energy");
    (void)energy;
    return NVML_ERROR_NOT_SUPPORTED;
}
nvmlReturn_t nvmlDeviceGetEnforcedPowerLimit(nvmlDevice_t device, unsigned *limit) {
    ENTER("power_limit");
    *limit = (unsigned)number_of(device->index, "power_limit", 250000);
    return NVML_SUCCESS;
}
nvmlReturn_t nvmlDeviceGetPowerManagementLimit(nvmlDevice_t device, unsigned *limit) {
    return nvmlDeviceGetEnforcedPowerLimit(device, limit);
}
nvmlReturn_t nvmlDeviceGetPowerManagementDefaultLimit(nvmlDevice_t device, unsigned *limit) {
    ENTER("power_limit");
    *limit = (unsigned)number_of(device->index, "power_limit_default", 250000);
    return NVML_SUCCESS;
}
nvmlReturn_t nvmlDeviceGetPowerManagementLimitConstraints(nvmlDevice_t device, unsigned *least,
                                                          unsigned *most) {
    ENTER("power_limit");
    *least = 125000;
    *most = 250000;
    return NVML_SUCCESS;
}
nvmlReturn_t nvmlDeviceGetTemperature(nvmlDevice_t device, nvmlTemperatureSensors_t sensor,
                                      unsigned *celsius) {
    ENTER("temperature");
    if (sensor != NVML_TEMPERATURE_GPU) return NVML_ERROR_INVALID_ARGUMENT;
    *celsius = celsius_of(device->index);
    return NVML_SUCCESS;
}
nvmlReturn_t nvmlDeviceGetTemperatureV(nvmlDevice_t device, nvmlTemperature_t *reading) {
    ENTER("temperature");
    if (reading->version != nvmlTemperature_v1) return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    if (reading->sensorType != NVML_TEMPERATURE_GPU) return NVML_ERROR_INVALID_ARGUMENT;
    reading->temperature = (int)celsius_of(device->index);
    return NVML_SUCCESS;
}
nvmlReturn_t nvmlDeviceGetTemperatureThreshold(nvmlDevice_t device, nvmlTemperatureThresholds_t kind,
                                               unsigned *celsius) {
    ENTER("threshold");
    if (kind == NVML_TEMPERATURE_THRESHOLD_SHUTDOWN) *celsius = 95;
    else if (kind == NVML_TEMPERATURE_THRESHOLD_SLOWDOWN) *celsius = 92;
    else return NVML_ERROR_NOT_SUPPORTED;
    return NVML_SUCCESS;
}
nvmlReturn_t nvmlDeviceGetFanSpeed(nvmlDevice_t device, unsigned *percent) {
    ENTER("fan");
    if (number_of(device->index, "fan", -1) < 0) return NVML_ERROR_NOT_SUPPORTED; /* passive card */
    *percent = (unsigned)number_of(device->index, "fan", 0);
    return NVML_SUCCESS;
}
nvmlReturn_t nvmlDeviceGetNumFans(nvmlDevice_t device, unsigned *count) {
    ENTER("fan");
    *count = number_of(device->index, "fan", -1) >= 0;
    return NVML_SUCCESS;
}
nvmlReturn_t nvmlDeviceGetMaxClockInfo(nvmlDevice_t device, nvmlClockType_t kind, unsigned *mhz) {
    ENTER("clock");
    if (kind == NVML_CLOCK_MEM) *mhz = (unsigned)number_of(device->index, "memory_clock_max", 3615);
    else *mhz = (unsigned)number_of(device->index, "sm_clock_max", 1531);
    return NVML_SUCCESS;
}
nvmlReturn_t nvmlDeviceGetClockInfo(nvmlDevice_t device, nvmlClockType_t kind, unsigned *mhz) {
    nvmlReturn_t result = nvmlDeviceGetMaxClockInfo(device, kind, mhz);
    int idle = result == NVML_SUCCESS && utilization_of(device->index) < 1;
    if (result != NVML_SUCCESS) return result;
    if (kind == NVML_CLOCK_MEM) *mhz = (unsigned)number_of(device->index, "memory_clock", idle ? 405 : *mhz);
    else *mhz = (unsigned)number_of(device->index, "sm_clock", idle ? 544 : *mhz);
    return NVML_SUCCESS;
}
nvmlReturn_t nvmlDeviceGetApplicationsClock(nvmlDevice_t device, nvmlClockType_t kind, unsigned *mhz) {
    return nvmlDeviceGetMaxClockInfo(device, kind, mhz);
}
nvmlReturn_t nvmlDeviceGetCurrentClocksEventReasons(nvmlDevice_t device, unsigned long long *reasons) {
    ENTER("reasons");
    *reasons = (unsigned long long)number_of(
        device->index, "reasons", utilization_of(device->index) < 1 ? nvmlClocksEventReasonGpuIdle : 0);
    return NVML_SUCCESS;
}
nvmlReturn_t nvmlDeviceGetCurrentClocksThrottleReasons(nvmlDevice_t device, unsigned long long *reasons) {
    return nvmlDeviceGetCurrentClocksEventReasons(device, reasons);
}
nvmlReturn_t nvmlDeviceGetSupportedClocksEventReasons(nvmlDevice_t device, unsigned long long *reasons) {
    ENTER("reasons");
    *reasons = 0x1ff;
    return NVML_SUCCESS;
}
nvmlReturn_t nvmlDeviceGetSupportedClocksThrottleReasons(nvmlDevice_t device,
                                                         unsigned long long *reasons) {
    return nvmlDeviceGetSupportedClocksEventReasons(device, reasons);
}
nvmlReturn_t nvmlDeviceGetPerformanceState(nvmlDevice_t device, nvmlPstates_t *state) {
    ENTER("performance_state");
    *state = utilization_of(device->index) < 1 ? NVML_PSTATE_8 : NVML_PSTATE_0;
    return NVML_SUCCESS;
}
nvmlReturn_t nvmlDeviceGetMaxPcieLinkGeneration(nvmlDevice_t device, unsigned *generation) {
    ENTER("pcie");
    *generation = (unsigned)number_of(device->index, "pcie_generation_max", 3);
    return NVML_SUCCESS;
}
nvmlReturn_t nvmlDeviceGetGpuMaxPcieLinkGeneration(nvmlDevice_t device, unsigned *generation) {
    return nvmlDeviceGetMaxPcieLinkGeneration(device, generation);
}
nvmlReturn_t nvmlDeviceGetCurrPcieLinkGeneration(nvmlDevice_t device, unsigned *generation) {
    ENTER("pcie");
    *generation = (unsigned)number_of(device->index, "pcie_generation",
                                      utilization_of(device->index) < 1 ? 1 : 3);
    return NVML_SUCCESS;
}
nvmlReturn_t nvmlDeviceGetMaxPcieLinkWidth(nvmlDevice_t device, unsigned *width) {
    ENTER("pcie");
    *width = (unsigned)number_of(device->index, "pcie_width_max", 16);
    return NVML_SUCCESS;
}
nvmlReturn_t nvmlDeviceGetCurrPcieLinkWidth(nvmlDevice_t device, unsigned *width) {
    ENTER("pcie");
    *width = (unsigned)number_of(device->index, "pcie_width", 16);
    return NVML_SUCCESS;
}
nvmlReturn_t nvmlDeviceGetPcieThroughput(nvmlDevice_t device, nvmlPcieUtilCounter_t counter,
                                         unsigned *kilobytes) {
    ENTER("pcie_throughput");
    *kilobytes = (unsigned)(utilization_of(device->index) * (counter == NVML_PCIE_UTIL_RX_BYTES ? 90 : 40));
    return NVML_SUCCESS;
}
nvmlReturn_t nvmlDeviceGetPcieReplayCounter(nvmlDevice_t device, unsigned *count) {
    ENTER("pcie");
    *count = (unsigned)number_of(device->index, "pcie_replays", 0);
    return NVML_SUCCESS;
}
nvmlReturn_t nvmlDeviceGetPciInfo_v3(nvmlDevice_t device, nvmlPciInfo_t *pci) {
    ENTER("pci");
    memset(pci, 0, sizeof *pci);
    pci->bus = (unsigned)number_of(device->index, "pci_bus", 3 + device->index);
    pci->pciDeviceId = 0x1b3810de;
    pci->pciSubSystemId = 0x11d910de;
    snprintf(pci->busIdLegacy, sizeof pci->busIdLegacy, "0000:%02X:00.0", pci->bus);
    snprintf(pci->busId, sizeof pci->busId, "00000000:%02X:00.0", pci->bus);
    return NVML_SUCCESS;
}
nvmlReturn_t nvmlDeviceGetPciInfo_v2(nvmlDevice_t device, nvmlPciInfo_t *pci) {
    return nvmlDeviceGetPciInfo_v3(device, pci);
}
nvmlReturn_t nvmlDeviceGetPciInfo(nvmlDevice_t device, nvmlPciInfo_t *pci) {
    return nvmlDeviceGetPciInfo_v3(device, pci);
}

nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v3(nvmlDevice_t device, unsigned *count,
                                                     nvmlProcessInfo_t *infos) {
    struct user users[MAX_USERS];
    unsigned room = *count;
    ENTER("processes");
    if (number_of(device->index, "hide_processes", 0)) *count = 0;
    else *count = (unsigned)users_of(device->index, users);
    if (*count > room) return NVML_ERROR_INSUFFICIENT_SIZE;
    for (unsigned i = 0; infos && i < *count; i++) {
        infos[i].pid = users[i].pid;
        infos[i].usedGpuMemory = users[i].bytes;
        infos[i].gpuInstanceId = infos[i].computeInstanceId = 0xFFFFFFFF;
    }
    return NVML_SUCCESS;
}
nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v2(nvmlDevice_t device, unsigned *count,
                                                     nvmlProcessInfo_v2_t *infos) {
    return nvmlDeviceGetComputeRunningProcesses_v3(device, count, infos);
}
nvmlReturn_t nvmlDeviceGetComputeRunningProcesses(nvmlDevice_t device, unsigned *count,
                                                  nvmlProcessInfo_v1_t *infos) {
    nvmlProcessInfo_t full[MAX_USERS];
    unsigned room = *count, found = MAX_USERS;
    nvmlReturn_t result = nvmlDeviceGetComputeRunningProcesses_v3(device, &found, full);
    if (result != NVML_SUCCESS) return result;
    *count = found;
    if (found > room) return NVML_ERROR_INSUFFICIENT_SIZE;
    for (unsigned i = 0; i < found; i++) {
        infos[i].pid = full[i].pid;
        infos[i].usedGpuMemory = full[i].usedGpuMemory;
    }
    return NVML_SUCCESS;
}
static nvmlReturn_t no_processes(nvmlDevice_t device, unsigned *count) {
    ENTER("processes");
    *count = 0;
    return NVML_SUCCESS;
}
nvmlReturn_t nvmlDeviceGetGraphicsRunningProcesses_v3(nvmlDevice_t device, unsigned *count,
                                                      nvmlProcessInfo_t *infos) {
    (void)infos;
    return no_processes(device, count);
}
nvmlReturn_t nvmlDeviceGetGraphicsRunningProcesses_v2(nvmlDevice_t device, unsigned *count,
                                                      nvmlProcessInfo_v2_t *infos) {
    (void)infos;
    return no_processes(device, count);
}
nvmlReturn_t nvmlDeviceGetMPSComputeRunningProcesses_v3(nvmlDevice_t device, unsigned *count,
                                                        nvmlProcessInfo_t *infos) {
    (void)infos;
    return no_processes(device, count);
}
nvmlReturn_t nvmlSystemGetProcessName(unsigned pid, char *name, unsigned length) {
    char path[64], command[256] = "";
    FILE *file;
    snprintf(path, sizeof path, "/proc/%u/cmdline", pid);
    if (!(file = fopen(path, "r"))) return NVML_ERROR_NOT_FOUND;
    if (!fgets(command, sizeof command, file)) command[0] = 0;
    fclose(file);
    return copy(name, length, command);
}

nvmlReturn_t nvmlDeviceGetTopologyCommonAncestor(nvmlDevice_t device, nvmlDevice_t other,
                                                 nvmlGpuTopologyLevel_t *level) {
    ENTER("topology");
    if (!other) return NVML_ERROR_INVALID_ARGUMENT;
    *level = device == other ? NVML_TOPOLOGY_INTERNAL
                             : (nvmlGpuTopologyLevel_t)(int)number_of(-1, "topology", NVML_TOPOLOGY_HOSTBRIDGE);
    return NVML_SUCCESS;
}
nvmlReturn_t nvmlDeviceGetNvLinkState(nvmlDevice_t device, unsigned link, nvmlEnableState_t *active) {
    ENTER("nvlink");
    if (link >= (unsigned)number_of(device->index, "nvlinks", 0)) return NVML_ERROR_NOT_SUPPORTED;
    *active = NVML_FEATURE_ENABLED;
    return NVML_SUCCESS;
}
nvmlReturn_t nvmlDeviceGetNvLinkRemotePciInfo_v2(nvmlDevice_t device, unsigned link, nvmlPciInfo_t *pci) {
    nvmlEnableState_t active;
    nvmlReturn_t result = nvmlDeviceGetNvLinkState(device, link, &active);
    if (result != NVML_SUCCESS) return result;
    return nvmlDeviceGetPciInfo_v3(&cards[(int)number_of(device->index, "nvlink_to", !device->index)], pci);
}
nvmlReturn_t nvmlDeviceGetPersistenceMode(nvmlDevice_t device, nvmlEnableState_t *mode) {
    ENTER("persistence");
    *mode = number_of(device->index, "persistence", 1) ? NVML_FEATURE_ENABLED : NVML_FEATURE_DISABLED;
    return NVML_SUCCESS;
}
nvmlReturn_t nvmlDeviceGetRetiredPages(nvmlDevice_t device, nvmlPageRetirementCause_t cause,
                                       unsigned *count, unsigned long long *pages) {
    unsigned room = *count;
    ENTER("retired_pages");
    *count = cause == NVML_PAGE_RETIREMENT_CAUSE_DOUBLE_BIT_ECC_ERROR
                 ? (unsigned)number_of(device->index, "retired_pages", 0)
                 : 0;
    if (*count > room) return NVML_ERROR_INSUFFICIENT_SIZE;
    for (unsigned i = 0; pages && i < *count; i++) pages[i] = i;
    return NVML_SUCCESS;
}
nvmlReturn_t nvmlDeviceGetRetiredPagesPendingStatus(nvmlDevice_t device, nvmlEnableState_t *pending) {
    ENTER("retired_pages");
    *pending = number_of(device->index, "retired_pages_pending", 0) ? NVML_FEATURE_ENABLED
                                                                    : NVML_FEATURE_DISABLED;
    return NVML_SUCCESS;
}
nvmlReturn_t nvmlDeviceGetComputeMode(nvmlDevice_t device, nvmlComputeMode_t *mode) {
    ENTER("compute_mode");
    *mode = NVML_COMPUTEMODE_DEFAULT;
    return NVML_SUCCESS;
}
nvmlReturn_t nvmlDeviceGetCudaComputeCapability(nvmlDevice_t device, int *major, int *minor) {
    ENTER("capability");
    *major = 6;
    *minor = 1;
    return NVML_SUCCESS;
}
nvmlReturn_t nvmlDeviceGetArchitecture(nvmlDevice_t device, nvmlDeviceArchitecture_t *architecture) {
    ENTER("architecture");
    *architecture = NVML_DEVICE_ARCH_PASCAL;
    return NVML_SUCCESS;
}
nvmlReturn_t nvmlDeviceGetEncoderUtilization(nvmlDevice_t device, unsigned *percent, unsigned *period) {
    ENTER("encoder");
    *percent = 0;
    *period = 167000;
    return NVML_SUCCESS;
}
nvmlReturn_t nvmlDeviceGetDecoderUtilization(nvmlDevice_t device, unsigned *percent, unsigned *period) {
    return nvmlDeviceGetEncoderUtilization(device, percent, period);
}
nvmlReturn_t nvmlDeviceGetMigMode(nvmlDevice_t device, unsigned *now, unsigned *next) {
    ENTER("mig");
    (void)now, (void)next;
    return NVML_ERROR_NOT_SUPPORTED;
}
nvmlReturn_t nvmlDeviceGetEccMode(nvmlDevice_t device, nvmlEnableState_t *now, nvmlEnableState_t *next) {
    ENTER("ecc");
    *now = *next = NVML_FEATURE_ENABLED;
    return NVML_SUCCESS;
}
nvmlReturn_t nvmlDeviceGetTotalEccErrors(nvmlDevice_t device, nvmlMemoryErrorType_t kind,
                                         nvmlEccCounterType_t counter, unsigned long long *count) {
    ENTER("ecc");
    (void)counter;
    *count = (unsigned long long)number_of(
        device->index, kind == NVML_MEMORY_ERROR_TYPE_UNCORRECTED ? "ecc_uncorrected" : "ecc_corrected", 0);
    return NVML_SUCCESS;
}
