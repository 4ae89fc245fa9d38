// Simdgroup and quadgroup collectives. Every lane hands in its value and waits until the others did; lanes that have
// finished, or wait elsewhere, are not active and take no part. `line` is the line of the call.
#pragma once
#include "math.h"
#include "runtime.h"

#define MSL_LINE int line = __builtin_LINE()

namespace msl {
namespace metal {

constexpr unsigned msl_SIMD_WIDTH = msl_rt::WIDTH;

template <typename T> inline T msl_read_slot(const msl_rt::Round* round, unsigned lane) {
    T value;
    __builtin_memcpy(&value, round->slots[lane], sizeof value);
    return value;
}

template <typename T> inline msl_rt::Round* msl_gather(const T& value, int operation, int line) {
    static_assert(sizeof(T) <= msl_rt::SLOT_BYTES, "too large a type for a simdgroup operation");
    return ::msl_exchange(&value, sizeof value, operation, line);
}

// What another lane brought. A lane that is not active has nothing: all bits set, and a note in the report.
template <typename T> inline T msl_from_lane(const msl_rt::Round* round, unsigned lane, int line) {
    if (lane < msl_SIMD_WIDTH && round->active >> lane & 1) return msl_read_slot<T>(round, lane);
    msl_inactive_lane(line);
    T nothing;
    __builtin_memset(&nothing, 0xff, sizeof nothing);
    return nothing;
}

// Reductions run over a fixed tree: lane i takes lane i + 16, then + 8, and so on. bfloat is reduced in float.
template <typename T> struct msl_reduction_type { using type = T; };
template <> struct msl_reduction_type<bfloat> { using type = float; };
template <int N> struct msl_reduction_type<vec<bfloat, N>> { using type = vec<float, N>; };

template <typename T, typename Combine>
inline T msl_reduce_lanes(const msl_rt::Round* round, unsigned first, unsigned width, Combine combine) {
    using Wide = typename msl_reduction_type<T>::type;
    Wide values[msl_SIMD_WIDTH];
    bool there[msl_SIMD_WIDTH];
    for (unsigned i = 0; i < width; ++i) {
        there[i] = round->active >> (first + i) & 1;
        if (there[i]) values[i] = Wide(msl_read_slot<T>(round, first + i));
    }
    for (unsigned step = width / 2; step; step /= 2) {
        for (unsigned i = 0; i < step; ++i) {
            if (!there[i + step]) continue;
            values[i] = there[i] ? Wide(combine(values[i], values[i + step])) : values[i + step];
            there[i] = true;
        }
    }
    return T(values[0]);
}

template <typename T, typename Combine>
MSL_UNCHECKED T msl_simd_reduce(T value, int operation, int line, Combine combine) {
    msl_rt::Round* round = msl_gather(value, operation, line);
    T result;
    if (!round->computed) {  // the first lane to come here does it for all
        result = msl_reduce_lanes<T>(round, 0, msl_SIMD_WIDTH, combine);
        __builtin_memcpy(round->result, &result, sizeof result);
        round->computed = true;
    }
    __builtin_memcpy(&result, round->result, sizeof result);
    return result;
}

template <typename T, typename Combine>
MSL_UNCHECKED T msl_quad_reduce(T value, int operation, int line, Combine combine) {
    msl_rt::Round* round = msl_gather(value, operation, line);
    return msl_reduce_lanes<T>(round, msl_lane() / msl_rt::QUAD * msl_rt::QUAD, msl_rt::QUAD, combine);
}

// Sums over the active lanes before this one, in order; `inclusive` adds its own.
template <typename T, typename Combine>
MSL_UNCHECKED T msl_simd_prefix(T value, bool inclusive, T start, int line, Combine combine) {
    using Wide = typename msl_reduction_type<T>::type;
    msl_rt::Round* round = msl_gather(value, msl_rt::PREFIX, line);
    Wide sum = Wide(start);
    for (unsigned i = 0; i < msl_lane() + inclusive; ++i) {
        if (round->active >> i & 1) sum = Wide(combine(sum, Wide(msl_read_slot<T>(round, i))));
    }
    return T(sum);
}

struct msl_combine_sum { template <typename T> T operator()(T a, T b) const { return T(a + b); } };
struct msl_combine_product { template <typename T> T operator()(T a, T b) const { return T(a * b); } };
struct msl_combine_and { template <typename T> T operator()(T a, T b) const { return T(a & b); } };
struct msl_combine_or { template <typename T> T operator()(T a, T b) const { return T(a | b); } };
struct msl_combine_xor { template <typename T> T operator()(T a, T b) const { return T(a ^ b); } };
struct msl_combine_min { template <typename T> T operator()(T a, T b) const { return min(a, b); } };
struct msl_combine_max { template <typename T> T operator()(T a, T b) const { return max(a, b); } };

#define MSL_REDUCTION(name, OPERATION, combine)                                                          \
    template <typename T> inline T simd_##name(T value, MSL_LINE) {                                      \
        return msl_simd_reduce(value, msl_rt::OPERATION, line, combine{});                                   \
    }                                                                                                    \
    template <typename T> inline T quad_##name(T value, MSL_LINE) {                                      \
        return msl_quad_reduce(value, 100 + msl_rt::OPERATION, line, combine{});                             \
    }
MSL_REDUCTION(sum, SUM, msl_combine_sum)
MSL_REDUCTION(product, PRODUCT, msl_combine_product)
MSL_REDUCTION(min, MINIMUM, msl_combine_min)
MSL_REDUCTION(max, MAXIMUM, msl_combine_max)
MSL_REDUCTION(and, BIT_AND, msl_combine_and)
MSL_REDUCTION(or, BIT_OR, msl_combine_or)
MSL_REDUCTION(xor, BIT_XOR, msl_combine_xor)
#undef MSL_REDUCTION

template <typename T> inline T simd_prefix_inclusive_sum(T value, MSL_LINE) {
    return msl_simd_prefix(value, true, T(0), line, msl_combine_sum{});
}
template <typename T> inline T simd_prefix_exclusive_sum(T value, MSL_LINE) {
    return msl_simd_prefix(value, false, T(0), line, msl_combine_sum{});
}
template <typename T> inline T simd_prefix_inclusive_product(T value, MSL_LINE) {
    return msl_simd_prefix(value, true, T(1), line, msl_combine_product{});
}
template <typename T> inline T simd_prefix_exclusive_product(T value, MSL_LINE) {
    return msl_simd_prefix(value, false, T(1), line, msl_combine_product{});
}

// Shuffles. `choose` is given this lane's number and tells which lane to read; a negative one keeps the own value.
template <typename T, typename Choose> MSL_UNCHECKED T msl_shuffle(T value, int line, Choose choose) {
    msl_rt::Round* round = msl_gather(value, msl_rt::SHUFFLE, line);
    int lane = choose(static_cast<int>(msl_lane()));
    return lane < 0 ? value : msl_from_lane<T>(round, static_cast<unsigned>(lane), line);
}
#define MSL_SHUFFLES(group, WIDTH)                                                                       \
    template <typename T> inline T group##_shuffle(T value, ushort lane, MSL_LINE) {                     \
        return msl_shuffle(value, line, [=](int own) { return own / WIDTH * WIDTH + lane; });                \
    }                                                                                                    \
    template <typename T> inline T group##_broadcast(T value, ushort lane, MSL_LINE) {                   \
        return msl_shuffle(value, line, [=](int own) { return own / WIDTH * WIDTH + lane; });                \
    }                                                                                                    \
    template <typename T> inline T group##_shuffle_xor(T value, ushort mask, MSL_LINE) {                 \
        return msl_shuffle(value, line, [=](int own) { return own ^ mask; });                                \
    }                                                                                                    \
    template <typename T> inline T group##_shuffle_up(T value, ushort delta, MSL_LINE) {                 \
        return msl_shuffle(value, line, [=](int own) { return own % WIDTH < delta ? -1 : own - delta; });    \
    }                                                                                                    \
    template <typename T> inline T group##_shuffle_down(T value, ushort delta, MSL_LINE) {               \
        return msl_shuffle(value, line, [=](int own) { return own % WIDTH + delta < WIDTH ? own + delta : -1; }); \
    }                                                                                                    \
    template <typename T> inline T group##_shuffle_rotate_up(T value, ushort delta, MSL_LINE) {          \
        return msl_shuffle(value, line, [=](int own) {                                                       \
            return own / WIDTH * WIDTH + (own + WIDTH - delta % WIDTH) % WIDTH;                          \
        });                                                                                              \
    }                                                                                                    \
    template <typename T> inline T group##_shuffle_rotate_down(T value, ushort delta, MSL_LINE) {        \
        return msl_shuffle(value, line, [=](int own) { return own / WIDTH * WIDTH + (own + delta) % WIDTH; }); \
    }                                                                                                    \
    template <typename T>                                                                                \
    inline T group##_shuffle_and_fill_up(T value, T filling, ushort delta, MSL_LINE) {                   \
        T moved = group##_shuffle_rotate_up(value, delta, line);                                         \
        T filled = group##_shuffle_rotate_up(filling, delta, line);                                      \
        return int(msl_lane()) % WIDTH < delta ? filled : moved;                                         \
    }                                                                                                    \
    template <typename T>                                                                                \
    inline T group##_shuffle_and_fill_down(T value, T filling, ushort delta, MSL_LINE) {                 \
        T moved = group##_shuffle_rotate_down(value, delta, line);                                       \
        T filled = group##_shuffle_rotate_down(filling, delta, line);                                    \
        return int(msl_lane()) % WIDTH + delta < WIDTH ? moved : filled;                                 \
    }
MSL_SHUFFLES(simd, 32)
MSL_SHUFFLES(quad, 4)
#undef MSL_SHUFFLES

template <typename T> MSL_UNCHECKED T simd_broadcast_first(T value, MSL_LINE) {
    msl_rt::Round* round = msl_gather(value, msl_rt::SHUFFLE, line);
    return msl_read_slot<T>(round, static_cast<unsigned>(__builtin_ctz(round->active)));
}

class simd_vote {
 public:
    typedef ulong vote_t;
    explicit simd_vote(vote_t lanes = 0) : lanes_(lanes) {}
    explicit operator vote_t() const { return lanes_; }
    bool all() const { return lanes_ == 0xffffffffu; }
    bool any() const { return lanes_ != 0; }

 private:
    vote_t lanes_;
};

MSL_UNCHECKED uint msl_lanes_that(bool vote, uint& active, int line) {
    msl_rt::Round* round = msl_gather(vote, msl_rt::VOTE, line);
    active = round->active;
    uint lanes = 0;
    for (unsigned i = 0; i < msl_SIMD_WIDTH; ++i) {
        if (active >> i & 1 && msl_read_slot<bool>(round, i)) lanes |= 1u << i;
    }
    return lanes;
}
inline simd_vote simd_ballot(bool vote, MSL_LINE) {
    uint active;
    return simd_vote(msl_lanes_that(vote, active, line));
}
inline simd_vote simd_active_threads_mask(MSL_LINE) { return simd_ballot(true, line); }
inline bool simd_all(bool vote, MSL_LINE) {
    uint active, lanes = msl_lanes_that(vote, active, line);
    return lanes == active;
}
inline bool simd_any(bool vote, MSL_LINE) {
    uint active;
    return msl_lanes_that(vote, active, line) != 0;
}
inline bool simd_is_first(MSL_LINE) {
    uint active;
    msl_lanes_that(true, active, line);
    return msl_lane() == static_cast<unsigned>(__builtin_ctz(active));
}

enum class mem_flags : uint {
    mem_none = 0, mem_device = 1, mem_threadgroup = 2, mem_texture = 4, mem_threadgroup_imageblock = 8
};
inline mem_flags operator|(mem_flags a, mem_flags b) { return mem_flags(uint(a) | uint(b)); }
inline mem_flags operator&(mem_flags a, mem_flags b) { return mem_flags(uint(a) & uint(b)); }

inline void threadgroup_barrier(mem_flags flags, MSL_LINE) { msl_threadgroup_barrier(uint(flags), line); }
inline void simdgroup_barrier(mem_flags flags, MSL_LINE) { msl_simdgroup_barrier(uint(flags), line); }

}  // namespace metal
}  // namespace msl
