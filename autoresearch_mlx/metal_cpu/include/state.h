// What a launch is made of, and what was found in it. The structures with a C layout are mirrored by launch.py.
#pragma once
#include <string.h>

#include "fiber.h"
#include "runtime.h"

namespace msl_rt {

enum Kind : int32_t {
    DIVERGENT_BARRIER = 1, READ_OUTSIDE, WRITE_OUTSIDE, UNINITIALISED, RACE, SAME_VALUE, NEVER_WRITTEN,
    INPUT_WRITTEN, STACK_OVERFLOW, WILD_ACCESS, DIVERGENT_COLLECTIVE, INACTIVE_LANE, GAP_READ
};

struct Finding {
    int32_t kind, line, other_line, thread, other_thread, waiting, elsewhere, finished;
    int32_t writes, other_writes;
    uint32_t group[3], other_group[3];
    int64_t index;             // element of the buffer or variable
    uint64_t code, other_code;  // offsets in the shared object, 0 where there is none
    uint64_t times;
    char name[64];  // of the buffer or variable
};

struct Buffer {
    const char* name;
    unsigned char* data;        // contents; outputs are copied back to it
    const unsigned char* gaps;  // one byte per element, 1 where the element is not part of a strided array; may be null
    uint64_t bytes, first;      // size, and where element 0 of the array lies in it
    uint64_t poison;            // pattern that fills an output that nobody initialised
    int32_t element, writable, initialised, constant;
};

struct Launch {
    Buffer* buffers;
    Finding* findings;
    uint64_t object_base, threadgroup_bytes, stack_bytes;
    int32_t buffer_count, finding_capacity, finding_count, reverse, fibers, float_atomics, aborted, out_of_memory;
    uint32_t grid[3], group[3];
};

struct Simdgroup {
    uint32_t alive, ready, waiting, barrier;  // lanes: not finished; may run; in a collective; at a threadgroup barrier
    int32_t operation, line;
    bool mixed;  // the waiting lanes are not all in the same collective
    unsigned completed;
    uint32_t epochs[2];  // simdgroup barriers passed that order device and threadgroup memory
    Round rounds[2];     // the round being gathered and the one before: a lane may be one collective ahead of another
};

struct Fiber {
    Context context;
    Thread thread;
    int32_t operation, line;
    uint32_t flags;
    bool finished;
};

struct Variable {
    size_t offset, bytes;
    unsigned element;
    const char* name;
    bool known;
};

constexpr size_t RED_ZONE = size_t(1) << 20;  // bytes around every buffer that belong to none
constexpr size_t ARENA_BYTES = size_t(1) << 18;  // room for threadgroup memory: beyond the limit it still has to run
constexpr size_t ARENA_RED_ZONE = 128;
constexpr unsigned MOST_VARIABLES = 255;

struct Region {
    unsigned char* base;
    uint64_t bytes;
    Buffer* buffer;
};

extern "C" char msl_anchor;

// The state of the one launch that runs in this shared object; the caller holds a lock.
inline Launch* launch;
inline Fiber* fibers;
inline Fiber* current;
inline Simdgroup simdgroups[MOST_THREADS / WIDTH];
inline unsigned simdgroup_count, thread_count;
inline Context scheduler;
inline uint32_t group_position[3], group_number;
inline uint32_t group_epochs[2];  // threadgroup barriers passed that order device and threadgroup memory
alignas(64) inline unsigned char arena[ARENA_BYTES];
inline Variable variables[MOST_VARIABLES];
inline size_t arena_used, arena_declared;
inline Region regions[256];
inline void* kernel_arguments[256];
inline unsigned char* heap;
inline size_t heap_bytes;
inline unsigned char* stacks;
inline size_t stacks_bytes;

inline bool same_finding(const Finding& a, const Finding& b) {
    return a.kind == b.kind && a.line == b.line && a.other_line == b.other_line && a.code == b.code &&
           a.other_code == b.other_code && !strcmp(a.name, b.name);
}

// Keep a finding, or count it where the same was found before.
inline void report(Finding& found) {
    found.times = 1;
    for (int i = 0; i < 3; ++i) found.group[i] = group_position[i];
    for (int i = 0; i < launch->finding_count; ++i) {
        if (same_finding(launch->findings[i], found)) {
            launch->findings[i].times += 1;
            return;
        }
    }
    if (launch->finding_count < launch->finding_capacity) launch->findings[launch->finding_count++] = found;
}

inline void copy_name(Finding& found, const char* name) {
    strncpy(found.name, name, sizeof found.name - 1);
}

inline uint64_t code_offset(const void* address) {
    return address ? reinterpret_cast<uint64_t>(address) - launch->object_base : 0;
}

}  // namespace msl_rt
