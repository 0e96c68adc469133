/* GPM: two samples of a device or a slice, and what happened between them. */
#include "played.h"

#include <math.h>
#include <stdlib.h>

#define GPM_UPDATE_S 0.1 /* the counters are refreshed so often */
#define MIB 1048576.0

struct GpmSample {
    const Device *device; /* whole or slice */
    double t;
};

static const struct {
    unsigned id;
    int curve;
    double unit_bytes;
    const char *name, *unit;
} metrics[] = {
    {NVML_GPM_METRIC_GRAPHICS_UTIL, C_gpm_graphics_percent, 1, "Graphics Util", "%"},
    {NVML_GPM_METRIC_SM_UTIL, C_gpm_sm_percent, 1, "SM Util", "%"},
    {NVML_GPM_METRIC_SM_OCCUPANCY, C_gpm_occupancy_percent, 1, "SM Occupancy", "%"},
    {NVML_GPM_METRIC_ANY_TENSOR_UTIL, C_gpm_tensor_percent, 1, "Any Tensor Util", "%"},
    {NVML_GPM_METRIC_DRAM_BW_UTIL, C_gpm_dram_percent, 1, "DRAM BW Util", "%"},
    {NVML_GPM_METRIC_PCIE_TX_PER_SEC, C_pcie_tx_bytes_per_s, MIB, "PCIe TX", "MiB/s"},
    {NVML_GPM_METRIC_PCIE_RX_PER_SEC, C_pcie_rx_bytes_per_s, MIB, "PCIe RX", "MiB/s"},
    {NVML_GPM_METRIC_NVLINK_TOTAL_RX_PER_SEC, C_nvlink_rx_bytes_per_s, MIB, "NVLink RX", "MiB/s"},
    {NVML_GPM_METRIC_NVLINK_TOTAL_TX_PER_SEC, C_nvlink_tx_bytes_per_s, MIB, "NVLink TX", "MiB/s"},
};

API nvmlReturn_t nvmlGpmQueryDeviceSupport(nvmlDevice_t d, nvmlGpmSupport_t *out) {
    unsigned supported = 0;
    if (out->version != NVML_GPM_VERSION)
        return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    nvmlReturn_t how = measure_uint(d, "gpm", gpm_supported, &supported);
    out->isSupportedDevice = supported;
    return how == NVML_ERROR_NOT_SUPPORTED ? NVML_SUCCESS : how; /* the answer is no */
}

API nvmlReturn_t nvmlGpmSampleAlloc(nvmlGpmSample_t *out) {
    READY();
    *out = calloc(1, sizeof(struct GpmSample));
    return NVML_SUCCESS;
}

API nvmlReturn_t nvmlGpmSampleFree(nvmlGpmSample_t sample) {
    READY();
    free(sample);
    return NVML_SUCCESS;
}

static nvmlReturn_t take_sample(nvmlDevice_t d, const Device *part, nvmlGpmSample_t sample) {
    int how = fate(d, "gpm");
    if (how)
        return how;
    if (given(d, N_gpm) != 1)
        return NVML_ERROR_NOT_SUPPORTED;
    if (!part || !sample)
        return NVML_ERROR_INVALID_ARGUMENT;
    sample->device = part;
    sample->t = floor(seconds_now() / GPM_UPDATE_S) * GPM_UPDATE_S;
    return NVML_SUCCESS;
}

API nvmlReturn_t nvmlGpmSampleGet(nvmlDevice_t d, nvmlGpmSample_t sample) { return take_sample(d, d, sample); }

API nvmlReturn_t nvmlGpmMigSampleGet(nvmlDevice_t d, unsigned instance, nvmlGpmSample_t sample) {
    const Device *part = NULL;
    for (const Device *slice = played.devices; slice < played.devices + played.device_count; slice++)
        if (slice->whole == d && given(slice, N_gpu_instance) == instance)
            part = slice;
    return take_sample(d, part, sample);
}

API nvmlReturn_t nvmlGpmMetricsGet(nvmlGpmMetricsGet_t *out) {
    READY();
    const struct GpmSample *a = out->sample1, *b = out->sample2;
    if (out->version != NVML_GPM_VERSION)
        return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    if (!a || !b || !a->device || a->device != b->device || b->t < a->t)
        return NVML_ERROR_INVALID_ARGUMENT;
    for (nvmlGpmMetric_t *metric = out->metrics; metric < out->metrics + out->numMetrics; metric++) {
        metric->nvmlReturn = NVML_ERROR_NOT_SUPPORTED;
        for (unsigned i = 0; i < sizeof metrics / sizeof *metrics; i++) {
            if (metrics[i].id != metric->metricId || !a->device->curves[metrics[i].curve].count)
                continue;
            metric->value = mean(a->device, metrics[i].curve, a->t, b->t) / metrics[i].unit_bytes; /* NaN: no time */
            metric->nvmlReturn = NVML_SUCCESS;
            metric->metricInfo.shortName = metric->metricInfo.longName = metrics[i].name;
            metric->metricInfo.unit = metrics[i].unit;
        }
    }
    return NVML_SUCCESS;
}
