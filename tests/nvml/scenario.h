/* What is played: devices, and how each of their quantities runs over time. scenario.py writes the text that is read. */
#pragma once

#include <stddef.h>

/* A number that is fixed, or one that the test may change at any time (`@N`: cell N of a file that both map). */
typedef struct {
    double constant;
    volatile double *cell; /* NULL: the constant counts */
} Value;

/* first + (last - first) s / seconds + amplitude sin(2 pi s / period), s seconds after the piece's start */
typedef struct {
    double start, seconds, first, last, amplitude, period;
    double before; /* the curve's integral up to `start` */
} Piece;

/* Pieces one after the other from 0 s on; afterwards the last value stays, or all begins again. */
typedef struct {
    Piece *pieces;
    int count;
    int repeats;
    Value steered; /* where it has a cell, the curve is whatever the test says */
} Curve;

/* What a device has. X(name): a number, and a curve over time; what a scenario does not give is not supported. */
#define NUMBERS(X) \
    X(memory_total_bytes) X(memory_reserved_bytes) X(power_limit_w) X(default_power_limit_w) X(sm_max_mhz) \
    X(memory_max_mhz) X(compute_major) X(compute_minor) X(architecture) X(mig) X(gpm) X(gpu_instance) \
    X(compute_instance) X(event_reasons_supported) X(power_update_s) X(power_window_s) X(counter_update_s) \
    X(energy_before_j)
#define CURVES(X) \
    X(power_w) X(memory_used_bytes) X(gpu_percent) X(memory_percent) X(sm_mhz) X(memory_mhz) X(temperature_c) \
    X(memory_temperature_c) X(pcie_tx_bytes_per_s) X(pcie_rx_bytes_per_s) X(nvlink_tx_bytes_per_s) \
    X(nvlink_rx_bytes_per_s) X(gpm_graphics_percent) X(gpm_sm_percent) X(gpm_occupancy_percent) \
    X(gpm_tensor_percent) X(gpm_dram_percent)

#define AS_NUMBER(name) N_##name,
#define AS_CURVE(name) C_##name,
enum { NUMBERS(AS_NUMBER) NUMBER_COUNT };
enum { CURVES(AS_CURVE) CURVE_COUNT };

/* From `from` until `until`, reading `what` ("*": anything) returns `error`; every `every`-th time only. */
enum { PLAY_ZERO = -1, PLAY_STALL = -2 }; /* instead of an error: reads as 0; does not return before `until` */
typedef struct {
    char what[32];
    Value from, until;
    int error, every, calls;
} Fault;

typedef struct {
    Value pid, bytes, from, until; /* bytes -1: NVML cannot tell */
    int graphics;
} Process;

typedef struct {
    unsigned long long bits;
    Value from, until;
} Event;

#define MOST 16
typedef struct Device {
    char uuid[96], name[96], bus_id[32];
    double numbers[NUMBER_COUNT]; /* NaN: not given */
    Curve curves[CURVE_COUNT];
    Fault faults[MOST];
    Process processes[MOST];
    Event events[MOST];
    int fault_count, process_count, event_count;
    Value told; /* its cell, if it has one, gets what was last told of the memory in use */
    struct Device *whole; /* of a MIG slice: the device that it is a part of */
    int index;            /* among the devices, or among the slices of one */
} Device;

typedef struct {
    char driver[80], nvml[80];
    int cuda;
    int init_error;
    long long epoch_ns; /* the monotonic clock's time at 0 s */
    Value clock;        /* with a cell: that many seconds have passed, whatever the clock says */
    Device devices[MOST];
    int device_count;
    struct {
        char what[32];
        double seconds;
    } costs[MOST]; /* how long reading something takes */
    int cost_count;
    double *cells;
} Scenario;

#define CELLS 64

/* Reads the file; a line that makes no sense ends the process, since a test that plays something else proves nothing. */
void scenario_read(Scenario *scenario, const char *path);

double value_now(Value value);
double curve_value(const Curve *curve, double t);
double curve_integral(const Curve *curve, double t); /* from 0 to t */
int curve_given(const Curve *curve);
