// What a kernel calls to wait for other threads, and for its threadgroup variables.
#pragma once
#include "schedule.h"

extern "C" {

msl_rt::Round* msl_exchange(const void* value, unsigned bytes, int operation, int line) {
    using namespace msl_rt;
    Fiber& self = *current;
    Simdgroup& group = simdgroup_of(self);
    Round& round = group.rounds[group.completed & 1];
    if (bytes) memcpy(round.slots[self.thread.lane], value, bytes);
    self.operation = operation;
    self.line = line;
    if (!group.waiting) {
        group.operation = operation, group.line = line, group.mixed = false;
    } else if (group.operation != operation || group.line != line) {
        group.mixed = true;
    }
    group.waiting |= lane_bit(self);
    group.ready &= ~lane_bit(self);
    unsigned before = group.completed;
    complete_if_gathered(group);
    if (group.completed == before) hand_over();
    // Lanes left behind by partial rounds find their values in the round that took them along: the latest one.
    return &group.rounds[(group.completed - 1) & 1];
}

unsigned msl_lane() { return msl_rt::current->thread.lane; }

void msl_threadgroup_barrier(unsigned flags, int line) {
    using namespace msl_rt;
    Fiber& self = *current;
    Simdgroup& group = simdgroup_of(self);
    self.line = line;
    self.flags = flags;
    group.barrier |= lane_bit(self);
    group.ready &= ~lane_bit(self);
    hand_over();
}

void msl_simdgroup_barrier(unsigned flags, int line) {
    using namespace msl_rt;
    Round* round = msl_exchange(nullptr, 0, BARRIER, line);
    if (round->computed) return;
    round->computed = true;
    for (unsigned i = 0; i < 2; ++i) {
        if (flags >> i & 1) simdgroup_of(*current).epochs[i] += 1;
    }
}

void msl_inactive_lane(int line) {
    using namespace msl_rt;
    Finding found{};
    found.kind = INACTIVE_LANE;
    found.line = line;
    found.thread = static_cast<int32_t>(current->thread.index_in_threadgroup);
    report(found);
}

void msl_float_atomic() { msl_rt::launch->float_atomics = 1; }

// The 8x8 product of a simdgroup: every lane brought two neighbouring elements of A, B and C (float[6]).
void msl_matrix_product(const msl_rt::Round* round, float* product) {
    float a[64], b[64], sum[64];
    for (unsigned lane = 0; lane < 32; ++lane) {
        float own[6];
        memcpy(own, round->slots[lane], sizeof own);
        unsigned row = (lane / 16) * 4 + lane / 2 % 4, column = (lane / 8 % 2) * 4 + lane % 2 * 2;
        for (unsigned k = 0; k < 2; ++k) {
            a[row * 8 + column + k] = own[k];
            b[row * 8 + column + k] = own[2 + k];
            sum[row * 8 + column + k] = own[4 + k];
        }
    }
    for (unsigned row = 0; row < 8; ++row) {
        for (unsigned k = 0; k < 8; ++k) {
            for (unsigned column = 0; column < 8; ++column) {
                sum[row * 8 + column] += a[row * 8 + k] * b[k * 8 + column];
            }
        }
    }
    memcpy(product, sum, sizeof sum);
}

// Threadgroup variables get their place in the arena when the first thread reaches their declaration.
void* msl_threadgroup_variable(unsigned id, size_t bytes, size_t align, unsigned element, const char* name) {
    using namespace msl_rt;
    Variable& variable = variables[id];
    if (!variable.known) {
        size_t start = (arena_used + ARENA_RED_ZONE + align - 1) / align * align;
        if (start + bytes + ARENA_RED_ZONE > ARENA_BYTES) {
            launch->threadgroup_bytes = ARENA_BYTES;
            launch->aborted = 1;
            current = nullptr;
            static Context abandoned;
            switch_context(abandoned, scheduler);
        }
        variable = {start, bytes, element, name, true};
        arena_used = start + bytes;
        memset(arena + start, 0xff, bytes);
        arena_declared = (arena_declared + align - 1) / align * align + bytes;
        if (arena_declared > launch->threadgroup_bytes) launch->threadgroup_bytes = arena_declared;
#if defined(MSL_CHECKED)
        shadow_variable(variable);
#endif
    }
    return arena + variable.offset;
}

}  // extern "C"
