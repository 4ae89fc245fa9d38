// The checker of the checked build. The compiler calls it before every access to memory; for each piece of an output or
// of a threadgroup variable it remembers who wrote it last, who read it, and which bytes were ever written.
//
// Two accesses to the same bytes, one of them a write and not both atomic, race unless they are ordered: by one thread,
// by a threadgroup barrier for that kind of memory between them, or, inside a simdgroup, by a simdgroup barrier.
// Nothing orders different threadgroups. Of readers the latest two (of different threads) are remembered.
#pragma once
#include <stdlib.h>

#include "memory.h"

namespace msl_rt {

struct Access {
    uint32_t group, group_epoch, simd_epoch, code;
    uint16_t thread;
    uint8_t bytes;  // of the piece, one bit each; 0 for none
    bool atomic;
};

// A piece of at most 8 bytes: one element, or part of a larger one.
struct Cell {
    Access write, read, earlier_read;
    uint32_t stamp;
    uint8_t written;
};

enum Space : int { DEVICE = 0, THREADGROUP = 1 };
enum Mode : int { READ = 0, WRITE = 1, UPDATE = 2 };

struct PendingWrite {  // a write over another thread's, about to happen: is it the same value?
    const unsigned char* address;
    unsigned bytes;
    unsigned char before[16];
    Finding finding;
};

inline Cell* buffer_cells[256];
inline Cell arena_cells[ARENA_BYTES];      // indexed by the first byte of the piece
inline uint8_t arena_owner[ARENA_BYTES];   // 1 + number of the variable that a byte belongs to, 0 for none
inline uint32_t stamp;                     // of the running threadgroup; arena cells with another one are stale
inline PendingWrite pending;

inline void settle_write() {
    if (!pending.bytes) return;
    bool same = !memcmp(pending.before, pending.address, pending.bytes);
    pending.finding.kind = same ? SAME_VALUE : RACE;
    pending.bytes = 0;
    report(pending.finding);
}

inline bool ordered(const Access& before, const Access& now) {
    if (before.group != now.group) return false;
    if (before.thread == now.thread || before.group_epoch != now.group_epoch) return true;
    return before.thread / WIDTH == now.thread / WIDTH && before.simd_epoch != now.simd_epoch;
}

inline bool conflicts(const Access& before, const Access& now) {
    return before.bytes & now.bytes && !(before.atomic && now.atomic) && !ordered(before, now);
}

struct Target {  // what an access hit
    const unsigned char* base;
    const char* name;
    unsigned element, piece;
    Space space;
};

inline void describe(Finding& found, const Target& target, int64_t offset, const Access& now, bool writes) {
    found.thread = now.thread;
    found.writes = writes;
    found.code = now.code;
    found.index = (offset - (offset < 0 ? int64_t(target.element) - 1 : 0)) / int64_t(target.element);
    copy_name(found, target.name);
}

inline void report_access(Kind kind, const Target& target, int64_t offset, const Access& now, bool writes) {
    Finding found{};
    found.kind = kind;
    describe(found, target, offset, now, writes);
    report(found);
}

inline void group_of_number(uint32_t number, uint32_t* position) {
    for (int axis = 0; axis < 3; ++axis) {
        uint32_t groups = (launch->grid[axis] + launch->group[axis] - 1) / launch->group[axis];
        position[axis] = axis < 2 ? number % groups : number;
        number /= groups;
    }
}

inline void report_race(const Target& target, int64_t offset, const Access& now, const Access& before, bool writes,
                        bool wrote, const unsigned char* address, unsigned bytes) {
    Finding found{};
    found.kind = RACE;
    describe(found, target, offset, now, writes);
    found.other_thread = before.thread;
    found.other_writes = wrote;
    found.other_code = before.code;
    group_of_number(before.group, found.other_group);
    if (writes && wrote && bytes <= sizeof pending.before) {
        pending.address = address;
        pending.bytes = bytes;
        memcpy(pending.before, address, bytes);
        pending.finding = found;
    } else {
        report(found);
    }
}

inline void access_cell(Cell& cell, const Target& target, int64_t offset, const Access& now, Mode mode,
                        const unsigned char* address, unsigned bytes) {
    if (mode != WRITE && (cell.written & now.bytes) != now.bytes) {
        report_access(UNINITIALISED, target, offset, now, false);
        cell.written |= now.bytes;  // once is enough
    }
    if (conflicts(cell.write, now)) {
        report_race(target, offset, now, cell.write, mode != READ, true, address, bytes);
    }
    if (mode == READ) {
        if (cell.read.thread != now.thread || cell.read.group != now.group) cell.earlier_read = cell.read;
        cell.read = now;
        return;
    }
    const Access& reader = conflicts(cell.read, now) ? cell.read : cell.earlier_read;
    if (conflicts(reader, now)) report_race(target, offset, now, reader, true, false, address, bytes);
    cell.write = now;
    cell.written |= now.bytes;
}

inline Access access_now(Space space, void* caller, bool atomic) {
    const Thread& thread = current->thread;
    return {group_number, group_epochs[space], simdgroups[thread.simdgroup].epochs[space],
            static_cast<uint32_t>(code_offset(caller)), static_cast<uint16_t>(thread.index_in_threadgroup), 0, atomic};
}

inline void access_pieces(Cell* cells, bool by_byte, const Target& target, int64_t offset, size_t bytes, Access now,
                          Mode mode) {
    int64_t end = offset + int64_t(bytes), piece = target.piece;
    for (int64_t start = offset / piece * piece; start < end; start += piece) {
        int64_t from = start < offset ? offset : start, to = start + piece < end ? start + piece : end;
        now.bytes = static_cast<uint8_t>(((1u << (to - from)) - 1) << (from - start));
        Cell& cell = cells[by_byte ? start : start / piece];
        if (by_byte && cell.stamp != stamp) {
            cell = Cell{};
            cell.stamp = stamp;
        }
        access_cell(cell, target, from, now, mode, target.base + from, static_cast<unsigned>(to - from));
    }
}

inline unsigned piece_of(unsigned element) { return element & 7 ? element & -element : 8; }

inline Variable& nearest_variable(int64_t offset) {
    unsigned best = 0;
    int64_t least = INT64_MAX;
    for (unsigned i = 0; i < MOST_VARIABLES; ++i) {
        if (!variables[i].known) continue;
        int64_t start = int64_t(variables[i].offset), end = start + int64_t(variables[i].bytes);
        int64_t distance = offset < start ? start - offset : offset - end;
        if (distance < least) least = distance, best = i;
    }
    return variables[best];
}

inline void access_arena(const unsigned char* at, size_t bytes, Mode mode, void* caller, bool atomic) {
    int64_t offset = at - arena;
    Access now = access_now(THREADGROUP, caller, atomic);
    unsigned owner = arena_owner[offset];
    const Variable& variable = owner ? variables[owner - 1] : nearest_variable(offset);
    int64_t inside = offset - int64_t(variable.offset);
    Target target{arena + variable.offset, variable.name, variable.element, piece_of(variable.element), THREADGROUP};
    if (!owner || inside + bytes > variable.bytes) {
        int64_t first = owner ? int64_t(variable.bytes) : inside;
        report_access(mode == READ ? READ_OUTSIDE : WRITE_OUTSIDE, target, first, now, mode != READ);
        return;
    }
    access_pieces(arena_cells + variable.offset, true, target, inside, bytes, now, mode);
}

inline void access_heap(const unsigned char* at, size_t bytes, Mode mode, void* caller, bool atomic) {
    Region& region = *region_of(at);
    const Buffer& buffer = *region.buffer;
    Access now = access_now(DEVICE, caller, atomic);
    auto element = static_cast<unsigned>(buffer.element);
    Target target{region.base + buffer.first, buffer.name, element, piece_of(element), DEVICE};
    int64_t inside = at - region.base, offset = inside - int64_t(buffer.first);
    if (inside < 0 || inside + bytes > region.bytes) {
        int64_t first = inside < 0 || inside >= int64_t(region.bytes) ? offset : int64_t(region.bytes - buffer.first);
        report_access(mode == READ ? READ_OUTSIDE : WRITE_OUTSIDE, target, first, now, mode != READ);
    } else if (!buffer.writable) {
        if (mode != READ) {
            report_access(INPUT_WRITTEN, target, offset, now, true);
        } else if (buffer.gaps) {
            int64_t last = (inside + int64_t(bytes) - 1) / buffer.element;
            for (int64_t k = inside / buffer.element; k <= last; ++k) {
                if (buffer.gaps[k]) return report_access(GAP_READ, target, offset, now, false);
            }
        }
    } else {
        access_pieces(buffer_cells[&region - regions], false, target, offset, bytes, now, mode);
    }
}

inline void access(const void* address, size_t bytes, Mode mode, void* caller, bool atomic) {
    auto* at = static_cast<const unsigned char*>(address);
    bool in_arena = at >= arena && at < arena + ARENA_BYTES;
    if (!current || (!in_arena && (at < heap || at >= heap + heap_bytes))) return;
    settle_write();
    if (in_arena) access_arena(at, bytes, mode, caller, atomic);
    else access_heap(at, bytes, mode, caller, atomic);
}

inline bool shadow_begin() {
    memset(arena_owner, 0, sizeof arena_owner);
    pending.bytes = 0;
    for (int i = 0; i < launch->buffer_count; ++i) {
        const Buffer& buffer = launch->buffers[i];
        buffer_cells[i] = nullptr;
        if (!buffer.writable) continue;
        size_t count = buffer.bytes / piece_of(static_cast<unsigned>(buffer.element)) + 1;
        buffer_cells[i] = static_cast<Cell*>(calloc(count, sizeof(Cell)));
        if (!buffer_cells[i]) return false;
        for (size_t k = 0; buffer.initialised && k < count; ++k) buffer_cells[i][k].written = 0xff;
    }
    return true;
}

inline void shadow_threadgroup() { ++stamp; }

inline void shadow_variable(const Variable& variable) {
    auto number = static_cast<uint8_t>(&variable - variables + 1);
    memset(arena_owner + variable.offset, number, variable.bytes);
}

inline void shadow_end() {
    settle_write();
    for (int i = 0; i < launch->buffer_count; ++i) {
        const Buffer& buffer = launch->buffers[i];
        if (!buffer_cells[i]) continue;
        unsigned piece = piece_of(static_cast<unsigned>(buffer.element));
        auto whole = static_cast<uint8_t>((1u << piece) - 1);
        int64_t total = int64_t(buffer.bytes / piece), missing = 0, first = 0;
        for (int64_t k = total - 1; k >= 0; --k) {
            if ((buffer_cells[i][k].written & whole) != whole) ++missing, first = k;
        }
        free(buffer_cells[i]);
        if (!missing || launch->aborted) continue;
        Finding found{};
        found.kind = NEVER_WRITTEN;
        found.waiting = static_cast<int32_t>(missing);
        found.elsewhere = static_cast<int32_t>(total);
        found.index = first;
        copy_name(found, buffer.name);
        report(found);
    }
}

}  // namespace msl_rt
