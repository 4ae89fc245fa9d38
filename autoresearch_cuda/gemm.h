// Matrix products in registers and caches for the C++ kernels: packing of operands, and the micro-kernel.
//
// A product's operands are packed as elements of a type P: bfloat16 where the instruction set has dot products of pairs
// (VDPBF16PS, BFDOT; sums in float32, subnormals count as 0), else float32. `Packed<T>` is the P for arguments of type T;
// float32 and float16 arguments are packed as float32, so that they lose nothing. `GROUP<P>` neighbours along the summed
// axis stand beside each other: 2 or 1.
//
//   left operand    a(row, group): GROUP elements at a + row row_stride + group group_stride: rows of a matrix that is
//                   stored along the summed axis, or the columns of a packed panel
//   right operand   panels of PANEL columns: [groups][PANEL][GROUP], see pack_panel
//   result          a tile of up to ROWS rows and PANEL columns in float32
//
// Blocks that fit the caches, threads, and what is done with a tile are the kernel's affair.
#pragma once

#include <type_traits>
#include <utility>

#include "vector.h"

namespace autoresearch {

#if defined(INSTRUCTION_SET_AVX512_BF16) || defined(INSTRUCTION_SET_NEON_BF16)
constexpr bool DOT_PRODUCTS = true;
#else
constexpr bool DOT_PRODUCTS = false;
#endif

template <typename T>
using Packed = std::conditional_t<DOT_PRODUCTS && std::is_same_v<T, bfloat16>, bfloat16, float>;

template <typename P>
constexpr int64_t GROUP = sizeof(P) == 2 ? 2 : 1;

// A tile's accumulators, the vectors of a panel and one of the left operand have to fit the registers: 32 of AVX-512 and
// NEON, 16 of the others.
constexpr int ROWS = 6;
#if VECTOR_AVX512 || VECTOR_NEON
constexpr int COLUMNS = 4;  // vectors in a row of a tile
#else
constexpr int COLUMNS = 2;
#endif
constexpr int64_t PANEL = COLUMNS * LANES;

template <typename P>
constexpr int64_t groups_of(int64_t n) {
    return round_up(n, GROUP<P>) / GROUP<P>;
}

// Elements of a packed panel, and of a packed right operand of `depth` rows and `columns` columns.
template <typename P>
constexpr int64_t panel_size(int64_t depth) {
    return groups_of<P>(depth) * PANEL * GROUP<P>;
}
template <typename P>
constexpr int64_t panels_size(int64_t depth, int64_t columns) {
    return round_up(columns, PANEL) / PANEL * panel_size<P>(depth);
}

// sum + a b, lane by lane for float, or over the two neighbours in every lane for pairs of bfloat16.
#if defined(INSTRUCTION_SET_AVX512_BF16)
typedef __m512bh Pairs;
VECTOR_INLINE Pairs load_group(const bfloat16* from) { return (Pairs)_mm512_loadu_si512(from); }
VECTOR_INLINE Pairs splat_group(const bfloat16* from) {
    int32_t pair;
    std::memcpy(&pair, from, sizeof pair);
    return (Pairs)_mm512_set1_epi32(pair);
}
VECTOR_INLINE Floats multiply_add(Pairs a, Pairs b, Floats sum) {
    return (Floats)_mm512_dpbf16_ps((__m512)sum, a, b);
}
#elif defined(INSTRUCTION_SET_NEON_BF16)
typedef bfloat16x8_t Pairs;
VECTOR_INLINE Pairs load_group(const bfloat16* from) {
    return vreinterpretq_bf16_u16(vld1q_u16(reinterpret_cast<const uint16_t*>(from)));
}
VECTOR_INLINE Pairs splat_group(const bfloat16* from) {
    uint32_t pair;
    std::memcpy(&pair, from, sizeof pair);
    return vreinterpretq_bf16_u32(vdupq_n_u32(pair));
}
VECTOR_INLINE Floats multiply_add(Pairs a, Pairs b, Floats sum) {
    return (Floats)vbfdotq_f32((float32x4_t)sum, a, b);
}
#endif
VECTOR_INLINE Floats load_group(const float* from) { return load(from); }
VECTOR_INLINE Floats splat_group(const float* from) { return splat(*from); }
VECTOR_INLINE Floats multiply_add(Floats a, Floats b, Floats sum) { return fma(a, b, sum); }

// tile[row][column] = sum over the groups of a(row, group) panel(group, column), for the tile's rows and its vectors of
// columns: COLUMNS, or fewer of a panel.
//
// Not inlined: what is done with the tile afterwards would take registers from the loop.
template <int N, int C, typename P>
__attribute__((noinline)) void multiply(const P* a, int64_t row_stride, int64_t group_stride, const P* panel,
                                        int64_t groups, Floats (&tile)[N][C]) {
    Floats sums[N][C];
    for (int r = 0; r < N; ++r)
        for (int c = 0; c < C; ++c) tile[r][c] = sums[r][c] = Floats{};
    if (groups < 1) return;
    do {
        decltype(load_group(panel)) right[C];
        for (int c = 0; c < C; ++c) right[c] = load_group(panel + c * LANES * GROUP<P>);
        for (int r = 0; r < N; ++r) {
            const auto left = splat_group(a + r * row_stride);
            for (int c = 0; c < C; ++c) sums[r][c] = multiply_add(left, right[c], sums[r][c]);
        }
        a += group_stride;
        panel += PANEL * GROUP<P>;
    } while (--groups);
    for (int r = 0; r < N; ++r)
        for (int c = 0; c < C; ++c) tile[r][c] = sums[r][c];
}

// The same for a number of rows, 1 to ROWS, that is known at run time only; the tile's other rows stay as they are.
template <typename P>
void multiply_rows(int64_t rows, const P* a, int64_t row_stride, int64_t group_stride, const P* panel, int64_t groups,
                   Floats (&tile)[ROWS][COLUMNS]) {
    const auto run = [&](auto count) {
        constexpr int N = decltype(count)::value;
        multiply<N>(a, row_stride, group_stride, panel, groups, reinterpret_cast<Floats(&)[N][COLUMNS]>(tile));
    };
    switch (rows) {
        case 1: return run(std::integral_constant<int, 1>{});
        case 2: return run(std::integral_constant<int, 2>{});
        case 3: return run(std::integral_constant<int, 3>{});
        case 4: return run(std::integral_constant<int, 4>{});
        case 5: return run(std::integral_constant<int, 5>{});
        default: return run(std::integral_constant<int, 6>{});
    }
}

// A vector of float32 as elements of a packed operand: LANES of them, one after the other.
VECTOR_INLINE void store_packed(float* to, Floats x) { store(to, x); }
VECTOR_INLINE void store_packed(bfloat16* to, Floats x) {
#if defined(INSTRUCTION_SET_AVX512_BF16)
    // Subnormals become 0, as they count in the products.
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), (__m256i)_mm512_cvtneps_pbh((__m512)x));
#else
    store(to, x);
#endif
}

// Two vectors whose lanes are neighbours along the summed axis, as groups: a[0] b[0] a[1] b[1] ...; 2 LANES elements.
VECTOR_INLINE void store_pairs(bfloat16* to, Floats a, Floats b) {
#if defined(INSTRUCTION_SET_AVX512_BF16)
    alignas(64) static constexpr uint16_t order[] = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                                     8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    const __m512i both = (__m512i)_mm512_cvtne2ps_pbh((__m512)b, (__m512)a);
    _mm512_storeu_si512(to, _mm512_permutexvar_epi16(_mm512_load_si512(order), both));
#else
    const Bits low = __builtin_convertvector(narrow_to_bfloat16(a), Bits);
    const Bits both = low | __builtin_convertvector(narrow_to_bfloat16(b), Bits) << 16;
    std::memcpy(to, &both, sizeof both);
#endif
}

VECTOR_INLINE void load_pairs(const bfloat16* from, Floats& a, Floats& b) {
    Bits both;
    std::memcpy(&both, from, sizeof both);
    a = floats_of(both << 16);
    b = floats_of(both & 0xffff0000u);
}

// A group of rows of a tile as one group of a panel whose summed axis are the tile's rows.
template <typename P>
VECTOR_INLINE void store_panel_group(const Floats (&rows)[GROUP<P>][COLUMNS], P* to) {
    for (int c = 0; c < COLUMNS; ++c) {
        if constexpr (GROUP<P> == 2)
            store_pairs(to + c * LANES * 2, rows[0][c], rows[1][c]);
        else
            store_packed(to + c * LANES, rows[0][c]);
    }
}

// The same, and as rows, `row_stride` apart, for a product along the columns.
template <typename P>
VECTOR_INLINE void store_group(const Floats (&rows)[GROUP<P>][COLUMNS], P* by_row, int64_t row_stride, P* panel_group) {
    for (int h = 0; h < GROUP<P>; ++h)
        for (int c = 0; c < COLUMNS; ++c) store_packed(by_row + h * row_stride + c * LANES, rows[h][c]);
    store_panel_group(rows, panel_group);
}

// to[row][column] += tile[row][column], for all columns of the tile.
template <int N>
VECTOR_INLINE void add_tile(const Floats (&tile)[N][COLUMNS], float* to, int64_t row_stride) {
    for (int r = 0; r < N; ++r)
        for (int c = 0; c < COLUMNS; ++c) {
            float* at = to + r * row_stride + c * LANES;
            store(at, load(at) + tile[r][c]);
        }
}

// Rows along the summed axis, one after the other: to[row][round_up(depth, GROUP)], the rest 0.
template <typename P, typename T>
void pack_rows(const T* from, int64_t row_stride, int64_t rows, int64_t depth, P* to) {
    const int64_t padded = groups_of<P>(depth) * GROUP<P>;
    for (int64_t r = 0; r < rows; ++r, from += row_stride, to += padded) {
        if constexpr (std::is_same_v<P, T>) {
            std::memcpy(static_cast<void*>(to), from, depth * sizeof(P));
        } else {
            int64_t k = 0;
            for (; k + LANES <= depth; k += LANES) store_packed(to + k, load(from + k));
            for (; k < depth; ++k) to[k] = narrow<P>(widen(from[k]));
        }
        for (int64_t k = depth; k < padded; ++k) to[k] = P{};
    }
}

// LANES groups of neighbours along the summed axis, packed: a lane is a group.
template <typename P, typename T>
VECTOR_INLINE Floats load_groups(const T* from) {
    if constexpr (GROUP<P> == 1) {
        return load(from);
    } else if constexpr (std::is_same_v<P, T>) {
        return load(reinterpret_cast<const float*>(from));
    } else {
        P packed[LANES * GROUP<P>];
        for (int64_t i = 0; i < LANES * GROUP<P>; i += LANES) store_packed(packed + i, load(from + i));
        return load(reinterpret_cast<const float*>(packed));
    }
}

// Of a square of words, those blocks of D columns change places that lie across from each other on its diagonal.
template <int D, std::size_t... LANE>
VECTOR_INLINE void exchange(Floats& low, Floats& high, std::index_sequence<LANE...>) {
    const Floats a = low, b = high;
    low = __builtin_shufflevector(a, b, int(LANE & D ? LANE - D + LANES : LANE)...);
    high = __builtin_shufflevector(a, b, int(LANE & D ? LANE + LANES : LANE + D)...);
}

template <int D = 1>
VECTOR_INLINE void transpose(Floats (&square)[LANES]) {
    if constexpr (D < LANES) {
        for (int i = 0; i < LANES; ++i)
            if (!(i & D)) exchange<D>(square[i], square[i + D], std::make_index_sequence<LANES>{});
        transpose<2 * D>(square);
    }
}

// One panel: columns `first` to `first` + PANEL of a matrix (depth, columns) whose element (k, n) lies at
// from[k depth_stride + n column_stride]; what lies outside is 0. To [groups][PANEL][GROUP].
//
// Two cases are fast: column_stride 1, and depth_stride 1 (the panel then is a transposed copy).
template <typename P, typename T>
void pack_panel(const T* from, int64_t depth_stride, int64_t column_stride, int64_t depth, int64_t columns, int64_t first,
                P* to) {
    constexpr int64_t G = GROUP<P>;
    const int64_t groups = groups_of<P>(depth), here = columns - first < PANEL ? columns - first : PANEL;
    from += first * column_stride;
    if (column_stride == 1) {
        for (int64_t group = 0; group < groups; ++group, to += PANEL * G) {
            const T* even = from + group * G * depth_stride;
            for (int64_t n = 0; n < PANEL; n += LANES) {
                if constexpr (G == 1) {
                    store_packed(to + n, load_some(even + n, here - n));
                } else {
                    const int64_t odd = group * G + 1 < depth ? here - n : 0;
                    store_pairs(to + n * G, load_some(even + n, here - n), load_some(even + depth_stride + n, odd));
                }
            }
        }
        return;
    }
    for (int64_t n = 0; n < PANEL; n += LANES) {
        for (int64_t group = 0; group < groups; group += LANES) {
            const T* column = from + n * column_stride + group * G * depth_stride;
            const int64_t left = depth - group * G;
            Floats square[LANES];
            if (depth_stride == 1 && n + LANES <= here && left >= LANES * G) {
                for (int i = 0; i < LANES; ++i, column += column_stride) square[i] = load_groups<P>(column);
            } else {
                for (int i = 0; i < LANES; ++i, column += column_stride) {
                    T gathered[LANES * G] = {};
                    for (int64_t k = 0; n + i < here && k < LANES * G && k < left; ++k)
                        gathered[k] = column[k * depth_stride];
                    square[i] = load_groups<P>(gathered);
                }
            }
            transpose(square);
            P* out = to + (group * PANEL + n) * G;
            for (int i = 0; i < LANES && group + i < groups; ++i, out += PANEL * G)
                store(reinterpret_cast<float*>(out), square[i]);
        }
    }
}

// All panels of a matrix, shared out to the threads of the team that calls it (or to none outside of a team). Where
// `padded` is more than the depth, the panels are those of a matrix of that depth, with zeros.
template <typename P, typename T>
void pack_panels(const T* from, int64_t depth_stride, int64_t column_stride, int64_t depth, int64_t columns, P* to,
                 int64_t padded = 0) {
    const int64_t panels = round_up(columns, PANEL) / PANEL, filled = panel_size<P>(depth);
    const int64_t size = padded > depth ? panel_size<P>(padded) : filled;
#pragma omp for schedule(static)
    for (int64_t i = 0; i < panels; ++i) {
        pack_panel(from, depth_stride, column_stride, depth, columns, i * PANEL, to + i * size);
        std::memset(static_cast<void*>(to + i * size + filled), 0, (size - filled) * sizeof(P));
    }
}

// Hands out pieces of a block of memory, each at the start of a cache line; without memory it only counts bytes.
struct Arena {
    char* memory;
    int64_t used = 0;

    explicit Arena(void* from) : memory(reinterpret_cast<char*>(round_up(int64_t(uintptr_t(from)), 64))) {}

    template <typename T>
    void take(T*& pointer, int64_t count) {
        pointer = memory ? reinterpret_cast<T*>(memory + used) : nullptr;
        used += round_up(count * int64_t(sizeof(T)), 64);
    }
    // What a block has to have, wherever it begins.
    int64_t bytes() const { return used + 63; }
};

}  // namespace autoresearch
