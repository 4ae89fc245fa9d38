// What the compiled kernel and the run time agree on. The run time is compiled once per build kind and linked to every
// kernel; all of it lies inside the kernel's shared object, so that two kernels share no state.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include <type_traits>

#if defined(MSL_CHECKED)
// Inside these, accesses are not reported to the checker: they are the library's own, or reported by hand.
#define MSL_UNCHECKED __attribute__((no_sanitize("thread"), noinline))
#else
#define MSL_UNCHECKED inline
#endif
// Inlined, so that an access to the caller's memory carries the caller's line.
#define MSL_INLINE inline __attribute__((always_inline))

namespace msl_rt {

constexpr unsigned WIDTH = 32;         // threads of a simdgroup
constexpr unsigned QUAD = 4;           // threads of a quadgroup
constexpr unsigned MOST_THREADS = 1024;
constexpr unsigned SLOT_BYTES = 64;    // largest value that a collective takes

// Values of the attributes of one thread, as [[...]] of the kernel's signature name them.
struct Thread {
    uint32_t position_in_grid[3], position_in_threadgroup[3], threadgroup_position[3];
    uint32_t grid[3], groups[3], group_size[3], nominal_group_size[3];
    uint32_t index_in_threadgroup, lane, simdgroup, simdgroups, nominal_simdgroups;
};

// One completed simdgroup collective: what every lane brought, and a result that the first reader computes for all.
struct Round {
    alignas(16) unsigned char slots[WIDTH][SLOT_BYTES];
    alignas(16) unsigned char result[WIDTH * 16];
    uint32_t active;  // lanes that took part
    bool computed;
};

enum Operation : int {
    SUM = 1, PRODUCT, MINIMUM, MAXIMUM, BIT_AND, BIT_OR, BIT_XOR, SHUFFLE, PREFIX, VOTE, MATRIX, BARRIER
};

}  // namespace msl_rt

extern "C" {
// The kernel's body for one thread; defined in the generated source.
void msl_kernel(void* const* buffers, const msl_rt::Thread* thread);

// Defined in the run time. `line` is the source line of the call.
msl_rt::Round* msl_exchange(const void* value, unsigned bytes, int operation, int line);
unsigned msl_lane();
void msl_threadgroup_barrier(unsigned flags, int line);
void msl_simdgroup_barrier(unsigned flags, int line);
void* msl_threadgroup_variable(unsigned id, size_t bytes, size_t align, unsigned element, const char* name);
void msl_inactive_lane(int line);
void msl_float_atomic();
void msl_atomic_access(const void* address, unsigned bytes, int writes, void* caller);
void msl_matrix_product(const msl_rt::Round* round, float* product);
}

// A threadgroup variable of the kernel: the same object for all threads of a threadgroup.
template <typename T> inline T& msl_threadgroup(unsigned id, const char* name) {
    using Element = std::remove_all_extents_t<T>;
    size_t align = alignof(T) < 16 ? 16 : alignof(T);
    return *static_cast<T*>(msl_threadgroup_variable(id, sizeof(T), align, sizeof(Element), name));
}
