/* A libnvidia-ml.so.1 that plays a scenario: the calls that innerloop uses, with the real library's interface.

   NVML_PLAYED names the scenario's file, which is read whenever nvmlInit finds the library not yet initialised. A handle
   is a `Device *` of the scenario: of a whole device, or of a MIG slice. */
#include "played.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PCIE_S 0.02 /* nvmlDeviceGetPcieThroughput counts for so long, and returns then */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static nvmlReturn_t give_text(const char *text, char *out, unsigned length) {
    if (strlen(text) >= length)
        return NVML_ERROR_INSUFFICIENT_SIZE;
    strcpy(out, text);
    return NVML_SUCCESS;
}

API nvmlReturn_t nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    pthread_mutex_lock(&lock);
    if (!users)
        scenario_read(&played, getenv("NVML_PLAYED"));
    users += played.init_error == 0;
    pthread_mutex_unlock(&lock);
    return played.init_error;
}

API nvmlReturn_t nvmlInit_v2(void) { return nvmlInitWithFlags(0); }

API nvmlReturn_t nvmlShutdown(void) {
    pthread_mutex_lock(&lock);
    int were = users;
    users -= were > 0;
    pthread_mutex_unlock(&lock);
    return were ? NVML_SUCCESS : NVML_ERROR_UNINITIALIZED;
}

API const char *nvmlErrorString(nvmlReturn_t error) { return error ? "an error that was played" : "Success"; }

API nvmlReturn_t nvmlSystemGetDriverVersion(char *out, unsigned length) {
    READY();
    return give_text(played.driver, out, length);
}

API nvmlReturn_t nvmlSystemGetNVMLVersion(char *out, unsigned length) {
    READY();
    return give_text(played.nvml, out, length);
}

API nvmlReturn_t nvmlSystemGetCudaDriverVersion_v2(int *out) {
    *out = played.cuda;
    return NVML_SUCCESS;
}

/* ---- which devices there are ---- */

/* the index-th whole device, or the index-th slice of one */
static Device *find(const Device *whole, unsigned index) {
    for (Device *d = played.devices; d < played.devices + played.device_count; d++)
        if (d->whole == whole && d->index == (int)index)
            return d;
    return NULL;
}

API nvmlReturn_t nvmlDeviceGetCount_v2(unsigned *out) {
    READY();
    for (*out = 0; find(NULL, *out);)
        ++*out;
    return NVML_SUCCESS;
}

static nvmlReturn_t hand_out(Device *found, nvmlReturn_t otherwise, nvmlDevice_t *out) {
    int how = found ? fate(found, "handle") : otherwise;
    if (how == NVML_SUCCESS)
        *out = found;
    return how;
}

API nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned index, nvmlDevice_t *out) {
    READY();
    return hand_out(find(NULL, index), NVML_ERROR_INVALID_ARGUMENT, out);
}

API nvmlReturn_t nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *out) {
    READY();
    for (Device *d = played.devices; d < played.devices + played.device_count; d++)
        if (strcmp(d->uuid, uuid) == 0)
            return hand_out(d, NVML_SUCCESS, out);
    return NVML_ERROR_NOT_FOUND;
}

API nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t d, char *out, unsigned length) {
    int how = fate(d, "uuid");
    return how ? how : give_text(d->uuid, out, length);
}

API nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t d, char *out, unsigned length) {
    int how = fate(d, "name");
    return how ? how : give_text(d->name, out, length);
}

API nvmlReturn_t nvmlDeviceGetIndex(nvmlDevice_t d, unsigned *out) {
    int how = fate(d, "index");
    if (!how)
        *out = d->index;
    return how;
}

API nvmlReturn_t nvmlDeviceGetPciInfo_v3(nvmlDevice_t d, nvmlPciInfo_t *out) {
    int how = fate(d, "pci");
    if (how)
        return how;
    const char *id = (d->whole ? d->whole : d)->bus_id; /* 00000000:1B:00.0 */
    *out = (nvmlPciInfo_t){.domain = strtoul(id, NULL, 16), .bus = strtoul(id + 9, NULL, 16)};
    out->device = strtoul(id + 12, NULL, 16);
    strcpy(out->busId, id);
    strcpy(out->busIdLegacy, id + 4);
    return NVML_SUCCESS;
}

API nvmlReturn_t nvmlDeviceGetCudaComputeCapability(nvmlDevice_t d, int *major, int *minor) {
    int how = fate(d, "compute_capability");
    if (how)
        return how;
    const Device *whole = d->whole ? d->whole : d;
    *major = (int)given(whole, N_compute_major);
    *minor = (int)given(whole, N_compute_minor);
    return NVML_SUCCESS;
}

API nvmlReturn_t nvmlDeviceGetArchitecture(nvmlDevice_t d, unsigned *out) {
    return measure_uint(d && d->whole ? d->whole : d, "architecture", architecture, out);
}

/* ---- MIG ---- */

API nvmlReturn_t nvmlDeviceGetMigMode(nvmlDevice_t d, unsigned *current, unsigned *pending) {
    nvmlReturn_t how = measure_uint(d, "mig", mig, current);
    if (how == NVML_SUCCESS)
        *pending = *current;
    return how;
}

API nvmlReturn_t nvmlDeviceGetMaxMigDeviceCount(nvmlDevice_t d, unsigned *out) {
    int how = fate(d, "mig");
    if (!how)
        *out = given(d, N_mig) == 1 ? 7 : 0;
    return how;
}

API nvmlReturn_t nvmlDeviceGetMigDeviceHandleByIndex(nvmlDevice_t d, unsigned index, nvmlDevice_t *out) {
    int how = fate(d, "mig");
    return how ? how : hand_out(find(d, index), NVML_ERROR_NOT_FOUND, out);
}

API nvmlReturn_t nvmlDeviceGetDeviceHandleFromMigDeviceHandle(nvmlDevice_t d, nvmlDevice_t *out) {
    int how = fate(d, "mig");
    return how ? how : hand_out(d->whole, NVML_ERROR_INVALID_ARGUMENT, out);
}

API nvmlReturn_t nvmlDeviceIsMigDeviceHandle(nvmlDevice_t d, unsigned *out) {
    int how = fate(d, "mig");
    if (!how)
        *out = d->whole != NULL;
    return how;
}

API nvmlReturn_t nvmlDeviceGetGpuInstanceId(nvmlDevice_t d, unsigned *out) {
    return measure_uint(d, "mig", gpu_instance, out);
}

API nvmlReturn_t nvmlDeviceGetComputeInstanceId(nvmlDevice_t d, unsigned *out) {
    return measure_uint(d, "mig", compute_instance, out);
}

/* ---- memory and processes, of a device or of a slice ---- */

API nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t d, nvmlMemory_v2_t *out) {
    double used, total;
    if (out->version != NVML_MEMORY_V2)
        return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    nvmlReturn_t how = measure(d, "memory", memory_used, &used);
    if (how != NVML_SUCCESS)
        return how;
    total = given(d, N_memory_total_bytes);
    out->total = total, out->used = used;
    out->reserved = isnan(given(d, N_memory_reserved_bytes)) ? 0 : given(d, N_memory_reserved_bytes);
    out->free = out->total - out->used - out->reserved;
    if (d->told.cell)
        *d->told.cell = used;
    return NVML_SUCCESS;
}

API nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t d, nvmlMemory_t *out) {
    nvmlMemory_v2_t found = {.version = NVML_MEMORY_V2};
    nvmlReturn_t how = nvmlDeviceGetMemoryInfo_v2(d, &found);
    if (how == NVML_SUCCESS)
        *out = (nvmlMemory_t){found.total, found.free, found.used + found.reserved};
    return how;
}

/* a slice's processes; or all of a whole device, those of its slices included */
static nvmlReturn_t list_processes(nvmlDevice_t d, int graphics, unsigned *count, nvmlProcessInfo_t *out) {
    int how = fate(d, "processes");
    unsigned room = *count, found = 0;
    double t = seconds_now();
    if (how)
        return how == PLAY_ZERO ? (*count = 0, NVML_SUCCESS) : how;
    for (const Device *part = played.devices; part < played.devices + played.device_count; part++) {
        if (part != d && part->whole != d)
            continue;
        for (const Process *p = part->processes; p < part->processes + part->process_count; p++) {
            double pid = value_now(p->pid), bytes = value_now(p->bytes);
            if (p->graphics != graphics || pid <= 0 || t < value_now(p->from) || t >= value_now(p->until))
                continue;
            if (out && found < room) {
                out[found].pid = (unsigned)pid;
                out[found].usedGpuMemory = bytes < 0 ? NVML_VALUE_NOT_AVAILABLE : (unsigned long long)bytes;
                out[found].gpuInstanceId = part->whole ? given(part, N_gpu_instance) : NVML_NO_INSTANCE;
                out[found].computeInstanceId = part->whole ? given(part, N_compute_instance) : NVML_NO_INSTANCE;
            }
            found++;
        }
    }
    *count = found;
    return found > room ? NVML_ERROR_INSUFFICIENT_SIZE : NVML_SUCCESS;
}

API nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v3(nvmlDevice_t d, unsigned *count, nvmlProcessInfo_t *out) {
    return list_processes(d, 0, count, out);
}

API nvmlReturn_t nvmlDeviceGetGraphicsRunningProcesses_v3(nvmlDevice_t d, unsigned *count, nvmlProcessInfo_t *out) {
    return list_processes(d, 1, count, out);
}

/* ---- utilization, clocks, temperature, power: of whole devices, since slices are given no such curves ---- */

API nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t d, nvmlUtilization_t *out) {
    nvmlReturn_t how = measure_uint(d, "utilization", gpu_percent, &out->gpu);
    return how != NVML_SUCCESS ? how : measure_uint(d, "utilization", memory_percent, &out->memory);
}

API nvmlReturn_t nvmlDeviceGetClockInfo(nvmlDevice_t d, unsigned type, unsigned *out) {
    return measure_uint(d, "clocks", type == NVML_CLOCK_MEM ? memory_mhz : sm_mhz, out);
}

API nvmlReturn_t nvmlDeviceGetMaxClockInfo(nvmlDevice_t d, unsigned type, unsigned *out) {
    return measure_uint(d, "max_clocks", type == NVML_CLOCK_MEM ? memory_max_mhz : sm_max_mhz, out);
}

API nvmlReturn_t nvmlDeviceGetTemperature(nvmlDevice_t d, unsigned sensor, unsigned *out) {
    return sensor == NVML_TEMPERATURE_GPU ? measure_uint(d, "temperature", temperature_c, out)
                                          : NVML_ERROR_INVALID_ARGUMENT;
}

#define GETS(call, type, measure, what, reading) \
    API nvmlReturn_t call(nvmlDevice_t d, type *out) { return measure(d, what, reading, out); }
#define GETS_UINT(call, what, reading) GETS(call, unsigned, measure_uint, what, reading)
#define GETS_ULL(call, what, reading) GETS(call, unsigned long long, measure_ull, what, reading)
GETS_ULL(nvmlDeviceGetCurrentClocksEventReasons, "event_reasons", events)
GETS_ULL(nvmlDeviceGetSupportedClocksEventReasons, "event_reasons", events_supported)
GETS_ULL(nvmlDeviceGetCurrentClocksThrottleReasons, "throttle_reasons", events) /* the same by their older names */
GETS_ULL(nvmlDeviceGetSupportedClocksThrottleReasons, "throttle_reasons", events_supported)
GETS_ULL(nvmlDeviceGetTotalEnergyConsumption, "energy", energy_mj)
GETS_UINT(nvmlDeviceGetPowerUsage, "power_usage", power_average_mw)
GETS_UINT(nvmlDeviceGetEnforcedPowerLimit, "power_limit", power_limit_mw)
GETS_UINT(nvmlDeviceGetPowerManagementDefaultLimit, "power_limit", default_power_limit_mw)

API nvmlReturn_t nvmlDeviceGetPcieThroughput(nvmlDevice_t d, unsigned counter, unsigned *out) {
    pass(PCIE_S);
    return measure_uint(d, "pcie_throughput", counter == NVML_PCIE_UTIL_TX_BYTES ? pcie_tx_kb : pcie_rx_kb, out);
}

/* ---- field values ---- */

static const struct {
    unsigned id;
    const char *what;
    Reading *reading;
    int wide;
} fields[] = {
    {NVML_FI_DEV_POWER_INSTANT, "power_instant", power_instant_mw, 0},
    {NVML_FI_DEV_POWER_AVERAGE, "power_average", power_average_mw, 0},
    {NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION, "energy", energy_mj, 1},
    {NVML_FI_DEV_MEMORY_TEMP, "memory_temperature", memory_temperature_c, 0},
    {NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX, "nvlink", nvlink_tx_kib, 1},
    {NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX, "nvlink", nvlink_rx_kib, 1},
    {NVML_FI_DEV_PCIE_COUNT_TX_BYTES, "pcie", pcie_tx_bytes, 1},
    {NVML_FI_DEV_PCIE_COUNT_RX_BYTES, "pcie", pcie_rx_bytes, 1},
};

static void read_field(nvmlDevice_t d, nvmlFieldValue_t *out) {
    out->nvmlReturn = NVML_ERROR_INVALID_ARGUMENT;
    for (unsigned i = 0; i < sizeof fields / sizeof *fields; i++) {
        if (fields[i].id != out->fieldId)
            continue;
        out->valueType = fields[i].wide ? NVML_VALUE_TYPE_UNSIGNED_LONG_LONG : NVML_VALUE_TYPE_UNSIGNED_INT;
        out->nvmlReturn = fields[i].wide ? measure_ull(d, fields[i].what, fields[i].reading, &out->value.ullVal)
                                         : measure_uint(d, fields[i].what, fields[i].reading, &out->value.uiVal);
    }
}

API nvmlReturn_t nvmlDeviceGetFieldValues(nvmlDevice_t d, int count, nvmlFieldValue_t *values) {
    struct timespec now;
    int how = fate(d, "fields");
    if (how)
        return how;
    clock_gettime(CLOCK_REALTIME, &now);
    for (int i = 0; i < count; i++) {
        values[i].timestamp = now.tv_sec * 1000000LL + now.tv_nsec / 1000;
        read_field(d, &values[i]);
    }
    return NVML_SUCCESS;
}
