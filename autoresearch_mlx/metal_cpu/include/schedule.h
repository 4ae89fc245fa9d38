// One threadgroup at a time, its threads as fibers that run until they wait. The order is fixed: lanes of a simdgroup
// by number, simdgroups by number. A thread that waits for others hands over to the next lane of its simdgroup directly;
// the scheduler is asked when a whole simdgroup waits.
#pragma once
#include "memory.h"
#if defined(MSL_CHECKED)
#include "shadow.h"
#endif

namespace msl_rt {

inline uint32_t lane_bit(const Fiber& fiber) { return 1u << fiber.thread.lane; }

inline Simdgroup& simdgroup_of(const Fiber& fiber) { return simdgroups[fiber.thread.simdgroup]; }

inline unsigned lowest(uint32_t lanes) { return static_cast<unsigned>(__builtin_ctz(lanes)); }

inline unsigned count(uint32_t lanes) { return static_cast<unsigned>(__builtin_popcount(lanes)); }

inline void before_switch() {
#if defined(MSL_CHECKED)
    settle_write();
#endif
}

// Leave the current fiber, which may not run now, for the next one that may.
inline void hand_over() {
    before_switch();
    Fiber& from = *current;
    Simdgroup& group = simdgroup_of(from);
    if (group.ready) {
        current = &fibers[from.thread.simdgroup * WIDTH + lowest(group.ready)];
        switch_context(from.context, current->context);
    } else {
        current = nullptr;
        switch_context(from.context, scheduler);
    }
}

// Let the lanes that wait in one collective go on. What other waiting lanes brought moves along to the next round.
inline void complete(Simdgroup& group, uint32_t lanes) {
    Round& round = group.rounds[group.completed & 1];
    round.active = lanes;
    round.computed = false;
    group.completed += 1;
    group.ready |= lanes;
    group.waiting &= ~lanes;
    Round& next = group.rounds[group.completed & 1];
    for (uint32_t left = group.waiting; left; left &= left - 1) {
        memcpy(next.slots[lowest(left)], round.slots[lowest(left)], SLOT_BYTES);
    }
}

inline void complete_if_gathered(Simdgroup& group) {
    if (group.waiting && group.waiting == group.alive && !group.mixed) complete(group, group.waiting);
}

// Every lane of the simdgroup waits, but not all in the same collective: the earliest one goes on with those it has.
inline void complete_partly(unsigned number) {
    Simdgroup& group = simdgroups[number];
    Fiber* lanes = fibers + number * WIDTH;
    int line = 0, operation = 0;
    for (uint32_t left = group.waiting; left; left &= left - 1) {
        Fiber& fiber = lanes[lowest(left)];
        if (!line || fiber.line < line) line = fiber.line, operation = fiber.operation;
    }
    uint32_t together = 0;
    Fiber* elsewhere = nullptr;
    for (uint32_t left = group.alive; left; left &= left - 1) {
        Fiber& fiber = lanes[lowest(left)];
        bool here = group.waiting & lane_bit(fiber) && fiber.line == line && fiber.operation == operation;
        if (here) together |= lane_bit(fiber);
        else elsewhere = &fiber;
    }
    Finding found{};
    // Sums and shuffles work on the lanes that are active, so a divergent one is legal; these two need all of them.
    found.kind = operation == BARRIER || operation == MATRIX ? DIVERGENT_BARRIER : DIVERGENT_COLLECTIVE;
    found.line = line;
    found.waiting = static_cast<int32_t>(count(together));
    found.elsewhere = static_cast<int32_t>(count(group.alive) - count(together));
    found.finished = static_cast<int32_t>(count(~group.alive) - (number + 1 == simdgroup_count && thread_count % WIDTH
                                                                     ? WIDTH - thread_count % WIDTH : 0));
    found.other_line = elsewhere ? elsewhere->line : 0;
    found.thread = static_cast<int32_t>(number * WIDTH + lowest(together));
    report(found);
    complete(group, together);
    group.mixed = false;
    bool first = true;
    for (uint32_t left = group.waiting; left; left &= left - 1) {
        Fiber& fiber = lanes[lowest(left)];
        if (first) group.line = fiber.line, group.operation = fiber.operation;
        else if (fiber.line != group.line || fiber.operation != group.operation) group.mixed = true;
        first = false;
    }
}

// All threads that are left wait at a threadgroup barrier: say so where that is not all of them, or not one barrier.
inline void release_barrier() {
    const Fiber* first = nullptr;
    const Fiber* other = nullptr;
    unsigned here = 0, elsewhere = 0, finished = 0;
    for (unsigned i = 0; i < thread_count; ++i) {
        if (fibers[i].finished) ++finished;
        else if (!first || fibers[i].line == first->line) first = first ? first : &fibers[i], ++here;
        else other = &fibers[i], ++elsewhere;
    }
    if (finished || elsewhere) {
        Finding found{};
        found.kind = DIVERGENT_BARRIER;
        found.line = first->line;
        found.other_line = other ? other->line : 0;
        found.waiting = static_cast<int32_t>(here);
        found.elsewhere = static_cast<int32_t>(elsewhere);
        found.finished = static_cast<int32_t>(finished);
        found.thread = static_cast<int32_t>(first->thread.index_in_threadgroup);
        report(found);
    }
    for (unsigned i = 0; i < 2; ++i) {
        if (first->flags >> i & 1) group_epochs[i] += 1;
    }
    for (unsigned i = 0; i < simdgroup_count; ++i) {
        simdgroups[i].ready = simdgroups[i].barrier;
        simdgroups[i].barrier = 0;
    }
}

// Run the fibers of one threadgroup until all of them are finished, or the launch is given up.
inline void run_fibers() {
    for (;;) {
        unsigned alive = 0;
        for (unsigned i = 0; i < simdgroup_count; ++i) {
            Simdgroup& group = simdgroups[i];
            while (group.ready || group.waiting) {
                if (!group.ready) complete_partly(i);
                current = &fibers[i * WIDTH + lowest(group.ready)];
                switch_context(scheduler, current->context);
                if (launch->aborted) return;
            }
            alive |= group.alive;
        }
        if (!alive) return;
        release_barrier();
    }
}

// The stack of every fiber starts here.
inline void fiber_main() {
    msl_kernel(kernel_arguments, &current->thread);
    Simdgroup& group = simdgroup_of(*current);
    current->finished = true;
    group.alive &= ~lane_bit(*current);
    group.ready &= ~lane_bit(*current);
    complete_if_gathered(group);
    hand_over();
    __builtin_unreachable();
}

// Kernels in which no thread waits for another run all threads of a threadgroup on one stack.
inline void run_plainly() {
    Fiber& fiber = fibers[0];
    current = &fiber;
    for (unsigned i = 0;;) {
        msl_kernel(kernel_arguments, &fiber.thread);
        before_switch();
        if (++i == thread_count) break;
        Thread& thread = fiber.thread;
        thread.index_in_threadgroup = i;
        thread.lane = i % WIDTH;
        thread.simdgroup = i / WIDTH;
        for (int axis = 0; axis < 3; ++axis) {
            thread.position_in_grid[axis] += 1;
            if (++thread.position_in_threadgroup[axis] < thread.group_size[axis]) break;
            thread.position_in_grid[axis] -= thread.group_size[axis];
            thread.position_in_threadgroup[axis] = 0;
        }
    }
    current = nullptr;
}

inline void plain_main() {
    run_plainly();
    Context& from = fibers[0].context;
    switch_context(from, scheduler);
    __builtin_unreachable();
}

}  // namespace msl_rt
