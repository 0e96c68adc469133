/* What the files of the played library share: the scenario, readings of a device at a time, and faults. */
#pragma once

#include "abi.h"
#include "scenario.h"

typedef double Reading(const Device *device, double t); /* NaN: not supported */

extern Scenario played;
extern int users; /* of the initialised library */

#define READY() \
    if (!users) \
    return NVML_ERROR_UNINITIALIZED

double seconds_now(void); /* since the scenario's epoch */
void pass(double seconds);

static inline double given(const Device *device, int number) { return device->numbers[number]; }
double mean(const Device *device, int curve, double from, double to);

/* What reading `what` comes to just now: 0, an NVML error, or PLAY_ZERO. Returns late where the scenario says so. */
int fate(nvmlDevice_t device, const char *what);

/* A reading, unless a fault is in its way. */
nvmlReturn_t measure(nvmlDevice_t device, const char *what, Reading *reading, double *out);
nvmlReturn_t measure_uint(nvmlDevice_t device, const char *what, Reading *reading, unsigned *out);
nvmlReturn_t measure_ull(nvmlDevice_t device, const char *what, Reading *reading, unsigned long long *out);

Reading power_instant_mw, power_average_mw, energy_mj, power_limit_mw, default_power_limit_mw;
Reading sm_mhz, sm_max_mhz, memory_mhz, memory_max_mhz, temperature_c, memory_temperature_c, events, events_supported;
Reading gpu_percent, memory_percent, memory_used, pcie_tx_kb, pcie_rx_kb;
Reading nvlink_tx_kib, nvlink_rx_kib, pcie_tx_bytes, pcie_rx_bytes;
Reading architecture, mig, gpm_supported, gpu_instance, compute_instance;
