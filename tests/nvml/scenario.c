/* The scenario's text and the mathematics of its curves. */
#include "scenario.h"

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define AS_TEXT(name) #name,
static const char *const number_names[] = {NUMBERS(AS_TEXT)};
static const char *const curve_names[] = {CURVES(AS_TEXT)};

double value_now(Value value) { return value.cell ? *value.cell : value.constant; }

int curve_given(const Curve *curve) { return curve->count > 0 || curve->steered.cell; }

static double piece_value(const Piece *p, double s) {
    double line = p->first + (p->last - p->first) * s / p->seconds;
    return p->amplitude ? line + p->amplitude * sin(2 * M_PI * s / p->period) : line;
}

static double piece_integral(const Piece *p, double s) {
    double line = p->first * s + (p->last - p->first) * s * s / (2 * p->seconds);
    double turn = 2 * M_PI / p->period;
    return p->amplitude ? line + p->amplitude / turn * (1 - cos(turn * s)) : line;
}

static const Piece *piece_at(const Curve *curve, double t) {
    int low = 0, high = curve->count;
    while (high - low > 1) {
        int middle = (low + high) / 2;
        if (curve->pieces[middle].start <= t)
            low = middle;
        else
            high = middle;
    }
    return &curve->pieces[low];
}

static double curve_end(const Curve *curve) {
    const Piece *last = &curve->pieces[curve->count - 1];
    return last->start + last->seconds;
}

double curve_value(const Curve *curve, double t) {
    if (curve->steered.cell)
        return value_now(curve->steered);
    double end = curve_end(curve);
    if (t < 0)
        t = 0;
    if (curve->repeats)
        t = fmod(t, end);
    if (t >= end)
        return curve->pieces[curve->count - 1].last;
    const Piece *piece = piece_at(curve, t);
    return piece_value(piece, t - piece->start);
}

double curve_integral(const Curve *curve, double t) {
    double end = curve_end(curve), rounds = 0, rest = 0;
    const Piece *last = &curve->pieces[curve->count - 1];
    if (t < 0)
        return curve->pieces[0].first * t;
    if (curve->repeats) {
        rounds = floor(t / end);
        t -= rounds * end;
    } else if (t > end) {
        rest = (t - end) * last->last;
        t = end;
    }
    if (rounds)
        rest = rounds * (last->before + piece_integral(last, last->seconds));
    const Piece *piece = piece_at(curve, t);
    return piece->before + piece_integral(piece, t - piece->start) + rest;
}

static const char *current_path;
static int current_line;

static void wrong(const char *why, const char *what) {
    fprintf(stderr, "played NVML: %s:%d: %s: %s\n", current_path, current_line, why, what);
    abort();
}

static double number(const char *word) {
    char *end;
    double found = word ? strtod(word, &end) : 0;
    if (!word || *end)
        wrong("not a number", word ? word : "(nothing)");
    return found;
}

static Value value(const Scenario *scenario, const char *word) {
    if (!word || *word != '@')
        return (Value){number(word), NULL};
    if (!scenario->cells || number(word + 1) >= CELLS)
        wrong("no such cell", word);
    return (Value){0, scenario->cells + (int)number(word + 1)};
}

static void copy(char *to, size_t room, const char *text) {
    if (!text || strlen(text) >= room)
        wrong("missing or too long", text ? text : "(nothing)");
    strcpy(to, text);
}

static double *map_cells(const char *path) {
    int file = open(path, O_RDWR), both = PROT_READ | PROT_WRITE;
    void *cells = file < 0 ? MAP_FAILED : mmap(NULL, CELLS * sizeof(double), both, MAP_SHARED, file, 0);
    if (cells == MAP_FAILED)
        wrong("cannot be mapped", path);
    close(file);
    return cells;
}

static int place(const char *name, const char *const *names, int count) {
    for (int i = 0; i < count; i++)
        if (strcmp(names[i], name) == 0)
            return i;
    return -1;
}

static char *word(void) { return strtok(NULL, " "); }

/* `NAME repeat`, `NAME @CELL` or `NAME SECONDS FIRST LAST AMPLITUDE PERIOD`: a curve, piece by piece */
static void read_curve(const Scenario *scenario, Curve *curve) {
    const char *first = word();
    if (first && *first == '@') {
        curve->steered = value(scenario, first);
    } else if (first && strcmp(first, "repeat") == 0) {
        curve->repeats = 1;
    } else {
        Piece piece = {.seconds = number(first)};
        piece.first = number(word());
        piece.last = number(word());
        piece.amplitude = number(word());
        piece.period = number(word());
        if (curve->count) {
            const Piece *last = &curve->pieces[curve->count - 1];
            piece.start = last->start + last->seconds;
            piece.before = last->before + piece_integral(last, last->seconds);
        }
        curve->pieces = realloc(curve->pieces, (curve->count + 1) * sizeof(Piece));
        curve->pieces[curve->count++] = piece;
    }
}

static Device *new_device(Scenario *scenario, Device *whole) {
    if (scenario->device_count == MOST)
        wrong("more than this library can play", "device");
    Device *device = &scenario->devices[scenario->device_count++];
    for (int i = 0; i < NUMBER_COUNT; i++)
        device->numbers[i] = NAN;
    device->whole = whole;
    for (Device *other = scenario->devices; other < device; other++)
        device->index += other->whole == whole;
    return device;
}

static void *new_item(void *items, int *count, size_t size) {
    if (*count == MOST)
        wrong("more than this library can play", "of one kind");
    return (char *)items + size * (*count)++;
}

static void read_device_line(const Scenario *scenario, Device *device, const char *key) {
    int which;
    if (strcmp(key, "uuid") == 0) {
        copy(device->uuid, sizeof device->uuid, word());
    } else if (strcmp(key, "name") == 0) {
        copy(device->name, sizeof device->name, strtok(NULL, ""));
    } else if (strcmp(key, "bus_id") == 0) {
        copy(device->bus_id, sizeof device->bus_id, word());
    } else if (strcmp(key, "told") == 0) {
        device->told = value(scenario, word());
    } else if (strcmp(key, "fault") == 0) { /* fault WHAT FROM UNTIL ERROR EVERY */
        Fault *fault = new_item(device->faults, &device->fault_count, sizeof(Fault));
        copy(fault->what, sizeof fault->what, word());
        fault->from = value(scenario, word());
        fault->until = value(scenario, word());
        fault->error = (int)number(word());
        fault->every = (int)number(word());
    } else if (strcmp(key, "process") == 0) { /* process PID BYTES FROM UNTIL GRAPHICS */
        Process *process = new_item(device->processes, &device->process_count, sizeof(Process));
        process->pid = value(scenario, word());
        process->bytes = value(scenario, word());
        process->from = value(scenario, word());
        process->until = value(scenario, word());
        process->graphics = (int)number(word());
    } else if (strcmp(key, "event") == 0) { /* event BITS FROM UNTIL */
        Event *event = new_item(device->events, &device->event_count, sizeof(Event));
        event->bits = (unsigned long long)number(word());
        event->from = value(scenario, word());
        event->until = value(scenario, word());
    } else if ((which = place(key, number_names, NUMBER_COUNT)) >= 0) {
        device->numbers[which] = number(word());
    } else if ((which = place(key, curve_names, CURVE_COUNT)) >= 0) {
        read_curve(scenario, &device->curves[which]);
    } else {
        wrong("no device has this", key);
    }
}

void scenario_read(Scenario *scenario, const char *path) {
    static char line[512];
    FILE *file = path ? fopen(path, "r") : NULL;
    Device *device = NULL, *whole = NULL;
    current_path = path, current_line = 0;
    if (!file)
        wrong("cannot be read", path ? path : "(no path given)");
    *scenario = (Scenario){0};
    while (fgets(line, sizeof line, file)) {
        current_line++;
        line[strcspn(line, "\n")] = 0;
        const char *key = strtok(line, " ");
        if (!key || *key == '#')
            continue;
        if (strcmp(key, "device") == 0) {
            device = whole = new_device(scenario, NULL);
        } else if (strcmp(key, "slice") == 0) {
            device = new_device(scenario, whole);
        } else if (device) {
            read_device_line(scenario, device, key);
        } else if (strcmp(key, "driver") == 0) {
            copy(scenario->driver, sizeof scenario->driver, word());
        } else if (strcmp(key, "nvml") == 0) {
            copy(scenario->nvml, sizeof scenario->nvml, word());
        } else if (strcmp(key, "cuda") == 0) {
            scenario->cuda = (int)number(word());
        } else if (strcmp(key, "init_error") == 0) {
            scenario->init_error = (int)number(word());
        } else if (strcmp(key, "epoch_ns") == 0) {
            scenario->epoch_ns = atoll(word());
        } else if (strcmp(key, "clock") == 0) {
            scenario->clock = value(scenario, word());
        } else if (strcmp(key, "cells") == 0) {
            scenario->cells = map_cells(strtok(NULL, ""));
        } else if (strcmp(key, "cost") == 0) { /* cost WHAT SECONDS */
            int at = scenario->cost_count;
            if (at == MOST)
                wrong("more than this library can play", "costs");
            copy(scenario->costs[at].what, sizeof scenario->costs[at].what, word());
            scenario->costs[at].seconds = number(word());
            scenario->cost_count++;
        } else {
            wrong("no scenario has this", key);
        }
    }
    fclose(file);
}
