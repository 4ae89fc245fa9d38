// The run time of Metal kernels on the CPU: one launch over the whole grid.
#include "waiting.h"
#if defined(MSL_CHECKED)
#include "hooks.h"
#endif

#include <stdlib.h>

namespace msl_rt {
namespace {

void place_threads() {
    const Launch& l = *launch;
    uint32_t size[3], groups[3];
    for (int axis = 0; axis < 3; ++axis) {
        groups[axis] = (l.grid[axis] + l.group[axis] - 1) / l.group[axis];
        uint32_t start = group_position[axis] * l.group[axis];
        size[axis] = l.grid[axis] - start < l.group[axis] ? l.grid[axis] - start : l.group[axis];
    }
    thread_count = size[0] * size[1] * size[2];
    simdgroup_count = (thread_count + WIDTH - 1) / WIDTH;
    unsigned threads = l.fibers ? thread_count : 1;
    for (unsigned i = 0; i < threads; ++i) {
        Fiber& fiber = fibers[i];
        fiber.finished = false;
        Thread& thread = fiber.thread;
        uint32_t place[3] = {i % size[0], i / size[0] % size[1], i / size[0] / size[1]};
        for (int axis = 0; axis < 3; ++axis) {
            thread.position_in_threadgroup[axis] = place[axis];
            thread.position_in_grid[axis] = group_position[axis] * l.group[axis] + place[axis];
            thread.threadgroup_position[axis] = group_position[axis];
            thread.grid[axis] = l.grid[axis];
            thread.groups[axis] = groups[axis];
            thread.group_size[axis] = size[axis];
            thread.nominal_group_size[axis] = l.group[axis];
        }
        thread.index_in_threadgroup = i;
        thread.lane = i % WIDTH;
        thread.simdgroup = i / WIDTH;
        thread.simdgroups = simdgroup_count;
        thread.nominal_simdgroups = (l.group[0] * l.group[1] * l.group[2] + WIDTH - 1) / WIDTH;
    }
}

void run_threadgroup() {
    place_threads();
    memset(arena, 0xff, arena_used + ARENA_RED_ZONE);
#if defined(MSL_CHECKED)
    shadow_threadgroup();
#endif
    if (!launch->fibers) {
        current = &fibers[0];
        start_context(fibers[0].context, reinterpret_cast<char*>(stacks), launch->stack_bytes, plain_main);
        switch_context(scheduler, fibers[0].context);
        return;
    }
    for (unsigned i = 0; i < simdgroup_count; ++i) {
        Simdgroup& group = simdgroups[i];
        unsigned lanes = thread_count - i * WIDTH < WIDTH ? thread_count - i * WIDTH : WIDTH;
        group.alive = group.ready = lanes == WIDTH ? ~0u : (1u << lanes) - 1;
        group.waiting = group.barrier = 0;
        group.completed = 0;
        group.mixed = false;
    }
    for (unsigned i = 0; i < thread_count; ++i) {
        auto* stack = reinterpret_cast<char*>(stacks + i * launch->stack_bytes);
        start_context(fibers[i].context, stack, launch->stack_bytes, fiber_main);
    }
    run_fibers();
}

void run_grid() {
    uint64_t groups[3], total = 1;
    for (int axis = 0; axis < 3; ++axis) {
        groups[axis] = (uint64_t(launch->grid[axis]) + launch->group[axis] - 1) / launch->group[axis];
        total *= groups[axis];
    }
    for (uint64_t i = 0; i < total && !launch->aborted; ++i) {
        uint64_t at = launch->reverse ? total - 1 - i : i;
        group_number = static_cast<uint32_t>(at);
        group_position[0] = static_cast<uint32_t>(at % groups[0]);
        group_position[1] = static_cast<uint32_t>(at / groups[0] % groups[1]);
        group_position[2] = static_cast<uint32_t>(at / groups[0] / groups[1]);
        run_threadgroup();
    }
    current = nullptr;
}

}  // namespace
}  // namespace msl_rt

// Runs a grid. Returns 0, or 1 where memory for buffers and stacks could not be had.
extern "C" __attribute__((visibility("default"))) int msl_launch(msl_rt::Launch* request) {
    using namespace msl_rt;
    launch = request;
    arena_used = arena_declared = 0;
    for (Variable& variable : variables) variable.known = false;
    unsigned threads = launch->group[0] * launch->group[1] * launch->group[2];
    unsigned stack_count = launch->fibers ? threads : 1;
    fibers = static_cast<Fiber*>(calloc(stack_count, sizeof(Fiber)));
    bool ready = fibers && place_buffers() && place_stacks(stack_count);
#if defined(MSL_CHECKED)
    ready = ready && shadow_begin();
#endif
    if (ready) {
        catch_faults();
        run_grid();
        release_faults();
        collect_outputs();
#if defined(MSL_CHECKED)
        shadow_end();
#endif
    }
    release_memory();
    free(fibers);
    fibers = nullptr;
    launch = nullptr;
    return ready ? 0 : 1;
}
