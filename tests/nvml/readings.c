/* What a device measures at a time, and what may come between the reading and its reader. */
#include "played.h"

#include <math.h>
#include <string.h>
#include <time.h>

#define AVERAGE_S 1.0           /* nvmlDeviceGetPowerUsage and POWER_AVERAGE, on Ampere and later */
#define UTILIZATION_S (1.0 / 6) /* the shortest sampling period of nvmlDeviceGetUtilizationRates */
#define PCIE_S 0.02             /* of nvmlDeviceGetPcieThroughput */
#define POLL_S 0.005            /* while a reading hangs */

Scenario played;
int users;

/* ---- time ---- */

double seconds_now(void) {
    if (played.clock.cell)
        return value_now(played.clock);
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (now.tv_sec * 1000000000LL + now.tv_nsec - played.epoch_ns) / 1e9;
}

void pass(double seconds) {
    if (played.clock.cell)
        return;
    struct timespec rest = {(time_t)seconds, (long)(fmod(seconds, 1) * 1e9)};
    nanosleep(&rest, NULL);
}

/* ---- what a device measures; NaN: not supported ---- */

static double value(const Device *d, int curve, double t) {
    return curve_given(&d->curves[curve]) ? curve_value(&d->curves[curve], t) : NAN;
}

static double integral(const Device *d, int curve, double from, double to) {
    const Curve *c = &d->curves[curve];
    return c->count ? curve_integral(c, to) - curve_integral(c, from) : NAN;
}

double mean(const Device *d, int curve, double from, double to) {
    return integral(d, curve, from, to) / (to - from);
}

/* the last time at which a reading was refreshed */
static double refreshed(const Device *d, int period, double t) {
    double every = given(d, period);
    return every > 0 ? floor(t / every) * every : t;
}

double power_instant_mw(const Device *d, double t) {
    t = refreshed(d, N_power_update_s, t);
    return 1000 * mean(d, C_power_w, t - given(d, N_power_window_s), t);
}

double power_average_mw(const Device *d, double t) {
    t = refreshed(d, N_power_update_s, t);
    return 1000 * mean(d, C_power_w, t - AVERAGE_S, t);
}

double energy_mj(const Device *d, double t) {
    t = refreshed(d, N_counter_update_s, t);
    return floor(1000 * (given(d, N_energy_before_j) + integral(d, C_power_w, 0, t)));
}

double events(const Device *d, double t) {
    unsigned long long bits = 0;
    for (const Event *e = d->events; e < d->events + d->event_count; e++)
        if (value_now(e->from) <= t && t < value_now(e->until))
            bits |= e->bits;
    return isnan(given(d, N_event_reasons_supported)) ? NAN : (double)bits;
}

static double of_slice(const Device *d, int number) { return d->whole ? given(d, number) : NAN; }

static double utilization(const Device *d, int curve, double t) {
    return given(d, N_mig) == 1 ? NAN : mean(d, curve, t - UTILIZATION_S, t); /* unknown under MIG */
}

static double pcie_kb_per_s(const Device *d, int curve, double t) {
    return mean(d, curve, t - PCIE_S, t) / 1000;
}

#define NUMBER(name, number, factor) \
    double name(const Device *d, double t) { return (void)t, factor * given(d, number); }
#define VALUE(name, curve) \
    double name(const Device *d, double t) { return value(d, curve, t); }
#define TOTAL(name, curve, unit) \
    double name(const Device *d, double t) { return floor(integral(d, curve, 0, t) / (unit)); }
NUMBER(power_limit_mw, N_power_limit_w, 1000)
NUMBER(default_power_limit_mw, N_default_power_limit_w, 1000)
NUMBER(sm_max_mhz, N_sm_max_mhz, 1)
NUMBER(memory_max_mhz, N_memory_max_mhz, 1)
NUMBER(architecture, N_architecture, 1)
NUMBER(events_supported, N_event_reasons_supported, 1)
NUMBER(mig, N_mig, 1)
NUMBER(gpm_supported, N_gpm, 1)
VALUE(sm_mhz, C_sm_mhz)
VALUE(memory_mhz, C_memory_mhz)
VALUE(temperature_c, C_temperature_c)
VALUE(memory_temperature_c, C_memory_temperature_c)
VALUE(memory_used, C_memory_used_bytes)
TOTAL(nvlink_tx_kib, C_nvlink_tx_bytes_per_s, 1024)
TOTAL(nvlink_rx_kib, C_nvlink_rx_bytes_per_s, 1024)
TOTAL(pcie_tx_bytes, C_pcie_tx_bytes_per_s, 1)
TOTAL(pcie_rx_bytes, C_pcie_rx_bytes_per_s, 1)
double gpu_percent(const Device *d, double t) { return utilization(d, C_gpu_percent, t); }
double memory_percent(const Device *d, double t) { return utilization(d, C_memory_percent, t); }
double pcie_tx_kb(const Device *d, double t) { return pcie_kb_per_s(d, C_pcie_tx_bytes_per_s, t); }
double pcie_rx_kb(const Device *d, double t) { return pcie_kb_per_s(d, C_pcie_rx_bytes_per_s, t); }
double gpu_instance(const Device *d, double t) { return (void)t, of_slice(d, N_gpu_instance); }
double compute_instance(const Device *d, double t) { return (void)t, of_slice(d, N_compute_instance); }

/* ---- every reading goes through here: faults, costs, time ---- */

int fate(nvmlDevice_t device, const char *what) {
    if (!users)
        return NVML_ERROR_UNINITIALIZED;
    if (!device)
        return NVML_ERROR_INVALID_ARGUMENT;
    for (int i = 0; i < played.cost_count; i++)
        if (strcmp(played.costs[i].what, what) == 0)
            pass(played.costs[i].seconds);
    Device *whole = device->whole ? device->whole : device;
    for (Fault *f = whole->faults; f < whole->faults + whole->fault_count; f++) {
        double t = seconds_now();
        if ((strcmp(f->what, "*") && strcmp(f->what, what)) || t < value_now(f->from) || t >= value_now(f->until))
            continue;
        if (__atomic_add_fetch(&f->calls, 1, __ATOMIC_RELAXED) % f->every)
            continue;
        if (f->error != PLAY_STALL)
            return f->error;
        while (!played.clock.cell && seconds_now() < value_now(f->until))
            pass(POLL_S);
    }
    return NVML_SUCCESS;
}

nvmlReturn_t measure(nvmlDevice_t d, const char *what, Reading *reading, double *out) {
    int how = fate(d, what);
    if (how > 0)
        return how;
    *out = how == PLAY_ZERO ? 0 : reading(d, seconds_now());
    return isnan(*out) ? NVML_ERROR_NOT_SUPPORTED : NVML_SUCCESS;
}

nvmlReturn_t measure_uint(nvmlDevice_t d, const char *what, Reading *reading, unsigned *out) {
    double found;
    nvmlReturn_t how = measure(d, what, reading, &found);
    if (how == NVML_SUCCESS)
        *out = (unsigned)llround(found);
    return how;
}

nvmlReturn_t measure_ull(nvmlDevice_t d, const char *what, Reading *reading, unsigned long long *out) {
    double found;
    nvmlReturn_t how = measure(d, what, reading, &found);
    if (how == NVML_SUCCESS)
        *out = (unsigned long long)found;
    return how;
}
