// Short vectors of float32 for the C++ kernels, as wide as the instruction set in use has them.
//
// The types are those of the compilers' vector extension: + - * / and comparisons work lane by lane, a comparison gives
// a mask (`Words`, lanes of all ones or zeros) that `select` takes, and a scalar operand stands for all lanes. What the
// extension lacks is below, with a plain version for the instruction set "plain". native.py defines the macro
// INSTRUCTION_SET_... (autoresearch_common/instruction_set.py).
#pragma once

#include <cmath>

#include "native.h"

#if defined(INSTRUCTION_SET_AVX512_BF16) || defined(INSTRUCTION_SET_AVX512)
#define VECTOR_AVX512 1
#include <immintrin.h>
#elif defined(INSTRUCTION_SET_AVX2)
#define VECTOR_AVX2 1
#include <immintrin.h>
#elif defined(INSTRUCTION_SET_NEON_BF16) || defined(INSTRUCTION_SET_NEON)
#define VECTOR_NEON 1
#include <arm_neon.h>
#endif

namespace autoresearch {

#if VECTOR_AVX512
constexpr int LANES = 16;
#elif VECTOR_AVX2
constexpr int LANES = 8;
#else
constexpr int LANES = 4;
#endif

typedef float Floats __attribute__((vector_size(4 * LANES)));
typedef int32_t Words __attribute__((vector_size(4 * LANES)));
typedef uint32_t Bits __attribute__((vector_size(4 * LANES)));
typedef uint16_t Halves __attribute__((vector_size(2 * LANES)));  // of bfloat16 or float16

constexpr int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

#define VECTOR_INLINE inline __attribute__((always_inline))

VECTOR_INLINE Bits bits_of(Floats x) { return reinterpret_cast<Bits>(x); }
VECTOR_INLINE Floats floats_of(Bits x) { return reinterpret_cast<Floats>(x); }

// A difference, for x - 0 is x even where x is -0, and needs no instruction.
VECTOR_INLINE Floats splat(float x) { return x - Floats{}; }

VECTOR_INLINE Floats select(Words mask, Floats where_set, Floats elsewhere) { return mask ? where_set : elsewhere; }

// a b + c. The compilers contract this to one rounding wherever the instruction set has it.
VECTOR_INLINE Floats fma(Floats a, Floats b, Floats c) { return a * b + c; }

// NaN in `x` stays NaN; `limit` is a number. (Of two operands x86 hands out the second where one is NaN.)
VECTOR_INLINE Floats at_most(Floats x, Floats limit) {
#if VECTOR_AVX512
    return (Floats)_mm512_min_ps((__m512)limit, (__m512)x);
#elif VECTOR_AVX2
    return (Floats)_mm256_min_ps((__m256)limit, (__m256)x);
#else
    return x > limit ? limit : x;
#endif
}

VECTOR_INLINE Floats at_least(Floats x, Floats limit) {
#if VECTOR_AVX512
    return (Floats)_mm512_max_ps((__m512)limit, (__m512)x);
#elif VECTOR_AVX2
    return (Floats)_mm256_max_ps((__m256)limit, (__m256)x);
#else
    return x < limit ? limit : x;
#endif
}

VECTOR_INLINE Floats square_root(Floats x) {
#if VECTOR_AVX512
    return (Floats)_mm512_sqrt_ps((__m512)x);
#elif VECTOR_AVX2
    return (Floats)_mm256_sqrt_ps((__m256)x);
#elif VECTOR_NEON
    return (Floats)vsqrtq_f32((float32x4_t)x);
#else
    for (int i = 0; i < LANES; ++i) x[i] = std::sqrt(x[i]);
    return x;
#endif
}

// 1 / x to one or two units in the last place for x that are neither subnormal nor 0 and below 2^126; a quotient is
// slower. NaN stays NaN.
VECTOR_INLINE Floats reciprocal(Floats x) {
#if VECTOR_AVX512
    const Floats guess = (Floats)_mm512_rcp14_ps((__m512)x);
    return guess * (2.0f - x * guess);
#elif VECTOR_AVX2
    const Floats guess = (Floats)_mm256_rcp_ps((__m256)x);
    return guess * (2.0f - x * guess);
#else
    return 1.0f / x;
#endif
}

// 2^x by a polynomial of degree N - 1 in what x is off the nearest integer.
template <int N>
VECTOR_INLINE Floats exp2_by(const float (&coefficients)[N], Floats x) {
    const auto power = [&](Floats r) {
        Floats p = splat(coefficients[N - 1]);
        for (int i = N - 2; i >= 0; --i) p = fma(p, r, splat(coefficients[i]));
        return p;
    };
#if VECTOR_AVX512
    const Floats r = (Floats)_mm512_reduce_ps((__m512)x, 0);  // x less the nearest integer
    return (Floats)_mm512_scalef_ps((__m512)power(r), (__m512)(x - r));
#else
    // Adding 1.5 * 2^23 rounds to an integer, which then stands in the low bits of the sum.
    const Floats shifted = x + 12582912.0f;
    return floats_of(bits_of(power(x - (shifted - 12582912.0f))) + (bits_of(shifted) << 23));
#endif
}

// The polynomials of least relative error for |r| <= 1/2 (linear programming on 4001 Chebyshev nodes).
constexpr float EXP2[] = {1.0f,           0.693147182f,   0.240226477f,   0.055503495f,
                          0.00961828232f, 0.00133961986f, 0.000154218564f};
constexpr float EXP2_ROUGH[] = {0.999999285f, 0.693121672f, 0.240247354f, 0.0559186637f, 0.00957053155f};

// 2^x for -126 <= x <= 127 with a relative error below 1.2e-7, exact for integers; NaN stays NaN.
VECTOR_INLINE Floats exp2_of(Floats x) { return exp2_by(EXP2, x); }

// The same with a relative error below 3e-6, for what is rounded to bfloat16 or summed with many others.
VECTOR_INLINE Floats exp2_rough(Floats x) { return exp2_by(EXP2_ROUGH, x); }

// The same for x <= 127 without a lower limit: below -126 the result is 0 or subnormal.
template <int N>
VECTOR_INLINE Floats exp2_to_zero(const float (&coefficients)[N], Floats x) {
#if VECTOR_AVX512
    return exp2_by(coefficients, x);
#else
    return select(x < -126.0f, Floats{}, exp2_by(coefficients, at_least(x, splat(-126.0f))));
#endif
}

// e^x; arguments below -87 count as -87 and above 88 as 88, NaN stays NaN. log2 e and the product with
// it are rounded, so the relative error is 1.2e-7 and |x| times 8e-8.
VECTOR_INLINE Floats exp_of(Floats x) {
    return exp2_of(at_most(at_least(x, splat(-87.0f)), splat(88.0f)) * 1.44269504088896341f);
}

VECTOR_INLINE Floats load(const float* from) {
    Floats x;
    std::memcpy(&x, from, sizeof x);
    return x;
}

VECTOR_INLINE Floats load(const bfloat16* from) {
    Halves x;
    std::memcpy(&x, from, sizeof x);
#if VECTOR_AVX512
    // gcc widens in two halves.
    return (Floats)_mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i)x), 16);
#else
    return floats_of(__builtin_convertvector(x, Bits) << 16);
#endif
}

VECTOR_INLINE Floats load(const float16* from) {
#if VECTOR_AVX512
    return (Floats)_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
#elif VECTOR_AVX2
    return (Floats)_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
#else
    Floats x;
    for (int i = 0; i < LANES; ++i) x[i] = widen(from[i]);
    return x;
#endif
}

VECTOR_INLINE void store(float* to, Floats x) { std::memcpy(to, &x, sizeof x); }

// Rounds to nearest, ties to even, subnormals included; a NaN becomes quiet.
VECTOR_INLINE Halves narrow_to_bfloat16(Floats x) {
    const Bits bits = bits_of(x), rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16, quiet = (bits >> 16) | 0x40u;
    return __builtin_convertvector((Bits)select(x != x, floats_of(quiet), floats_of(rounded)), Halves);
}

VECTOR_INLINE void store(bfloat16* to, Floats x) {
#if defined(INSTRUCTION_SET_AVX512_BF16)
    // One instruction rounds, but makes subnormals 0: those are left to what follows.
    if (__builtin_expect(!_mm512_fpclass_ps_mask((__m512)x, 0x20), 1)) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), (__m256i)_mm512_cvtneps_pbh((__m512)x));
        return;
    }
#endif
    const Halves narrowed = narrow_to_bfloat16(x);
    std::memcpy(to, &narrowed, sizeof narrowed);
}

VECTOR_INLINE void store(float16* to, Floats x) {
#if VECTOR_AVX512
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtps_ph((__m512)x, _MM_FROUND_TO_NEAREST_INT));
#elif VECTOR_AVX2
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm256_cvtps_ph((__m256)x, _MM_FROUND_TO_NEAREST_INT));
#else
    for (int i = 0; i < LANES; ++i) to[i] = narrow<float16>(x[i]);
#endif
}

// The first `count` lanes, 0 <= count; more than LANES count as LANES. The others are 0, and memory there is not read.
template <typename T>
VECTOR_INLINE Floats load_some(const T* from, int64_t count) {
    if (count >= LANES) return load(from);
    T padded[LANES] = {};
    if (count > 0) std::memcpy(padded, from, count * sizeof(T));
    return load(padded);
}

// The first `count` lanes; memory behind them stays as it is.
template <typename T>
VECTOR_INLINE void store_some(T* to, Floats x, int64_t count) {
    if (count >= LANES) return store(to, x);
    T padded[LANES];
    store(padded, x);
    if (count > 0) std::memcpy(to, padded, count * sizeof(T));
}

// Calls body(i, count) for every vector of `count` elements, the last of which may hold fewer than LANES: for load_some
// and store_some, which are plain loads and stores in all others.
template <typename Body>
VECTOR_INLINE void for_vectors(int64_t elements, Body body) {
    int64_t i = 0;
    for (; i + LANES <= elements; i += LANES) body(i, LANES);
    if (i < elements) body(i, elements - i);
}

// A mask of the first `count` lanes.
VECTOR_INLINE Words first_lanes(int64_t count) {
    Words lane;
    for (int i = 0; i < LANES; ++i) lane[i] = i;
    return lane < int32_t(count > LANES ? LANES : count < 0 ? 0 : count);
}

VECTOR_INLINE float sum(Floats x) {
#if VECTOR_AVX512
    return _mm512_reduce_add_ps((__m512)x);
#else
    float total[LANES];
    store(total, x);
    for (int half = LANES / 2; half; half /= 2)
        for (int i = 0; i < half; ++i) total[i] += total[i + half];
    return total[0];
#endif
}

// A sum over many vectors, lane by lane in runs: rounding grows with the length of a run and with their number only.
struct Sum {
    static constexpr int RUN = 32;
    Floats run{}, total{};
    int added = 0;

    VECTOR_INLINE void operator+=(Floats x) {
        run += x;
        if (++added == RUN) total += run, run = Floats{}, added = 0;
    }
    VECTOR_INLINE float value() const { return sum(total + run); }
};

// values[i] = 1 / sqrt(values[i] / divisor + offset), for whole vectors: roots and quotients of rows that are worked on
// together wait for each other no more.
VECTOR_INLINE void reciprocal_roots(float* values, int count, float divisor, float offset) {
    for (int i = 0; i < count; i += LANES) store(values + i, 1.0f / square_root(load(values + i) / divisor + offset));
}

// The largest lane; a NaN is never the largest unless all are.
VECTOR_INLINE float largest(Floats x) {
    float most = x[0];
    for (int i = 1; i < LANES; ++i) most = x[i] > most || most != most ? x[i] : most;
    return most;
}

}  // namespace autoresearch
