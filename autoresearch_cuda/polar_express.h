// The Polar Express iteration on a stack of matrices, each of which stays in a core's cache: X <- a X + (b A + c A^2) X
// with A = X X'. `stack` is the entry.
//
// Worked out for Y (long, short), X or its transpose, so that A = Y' Y and Y <- a Y + Y P with P = b A + c A^2. Y, A and P
// are kept in the two forms that products take (gemm.h): by rows, and in panels. Both hold words of GROUP elements, and
// since A and P are symmetric one form is the transpose of the other, word by word: of A and A^2 only the tiles on and
// above the diagonal blocks are computed, and the rest is transposed.
#pragma once

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <memory>
#include <utility>
#ifdef _OPENMP
#include <omp.h>
#endif

#include "gemm.h"

namespace autoresearch::polar_express {

using P = Packed<bfloat16>;
constexpr int64_t G = GROUP<P>;
constexpr int64_t WORDS = PANEL / G;  // in a row of a panel's width
// a, b, c of each step; further steps repeat the last (Amsel et al., "The Polar Express", arXiv 2505.16932; 2 % safety).
constexpr int64_t TRIPLES = 5;
constexpr float COEFFICIENTS[TRIPLES][3] = {
    {8.156554524902461f, -22.48329292557795f, 15.878769915207462f},
    {4.042929935166739f, -2.808917465908714f, 0.5000178451051316f},
    {3.8916678022926607f, -2.772484153217685f, 0.5060648178503393f},
    {3.285753657755655f, -2.3681294933425376f, 0.46449024233003106f},
    {2.3465413258596377f, -1.7097828382687081f, 0.42323551169305323f},
};
// Below this many operations starting the threads costs more than the work.
constexpr int64_t PARALLEL_OPERATIONS = 1 << 20;

// The threads that share one matrix.
struct Team {
    int64_t id, size;

    void wait() const {
        if (size > 1) {
#pragma omp barrier
        }
    }
};

template <int H, int... I>
VECTOR_INLINE void exchange(Words& a, Words& b, std::integer_sequence<int, I...>) {
    const Words low = __builtin_shufflevector(a, b, ((I & H) ? LANES + I - H : I)...);
    b = __builtin_shufflevector(a, b, ((I & H) ? LANES + I : I + H)...);
    a = low;
}

// The lanes with bit H of vectors without bit H change places with the others', bit by bit.
template <int H = LANES / 2>
VECTOR_INLINE void transpose(Words (&block)[LANES]) {
    for (int i = 0; i < LANES; ++i)
        if (!(i & H)) exchange<H>(block[i], block[i | H], std::make_integer_sequence<int, LANES>{});
    if constexpr (H > 1) transpose<H / 2>(block);
}

VECTOR_INLINE Words load_words(const P* from) {
    Words x;
    std::memcpy(&x, from, sizeof x);
    return x;
}
VECTOR_INLINE void store_words(P* to, Words x) { std::memcpy(to, &x, sizeof x); }

// A matrix in both forms: rows[row][stride], and panels of PANEL columns, [groups][PANEL][GROUP].
struct Matrix {
    P *rows, *panels;
    int64_t stride, groups;

    P* panel(int64_t number) const { return panels + number * groups * PANEL * G; }
};

// A tile whose first row is the first of a group: to `rows`, and to `panel` at its first group.
template <typename E>
void keep(const Floats (&tile)[ROWS][COLUMNS], int64_t count, E* rows, int64_t stride, E* panel) {
    for (int64_t r = 0; r < count; r += G, panel += PANEL * G)
        for (int c = 0; c < COLUMNS; ++c) {
            if constexpr (GROUP<E> == 2) {
                store_pairs(panel + c * LANES * G, tile[r][c], tile[r + 1][c]);
                store_packed(rows + (r + 1) * stride + c * LANES, tile[r + 1][c]);
            } else {
                store_packed(panel + c * LANES, tile[r][c]);
            }
            store_packed(rows + r * stride + c * LANES, tile[r][c]);
        }
}

// Calls work(row, rows, column's panel) for the tiles of a symmetric matrix in the blocks on and above the diagonal.
template <typename Work>
void upper_tiles(int64_t size, Team team, Work work) {
    int64_t number = 0;
    for (int64_t right = 0; right * PANEL < size; ++right)
        for (int64_t left = 0; left <= right; ++left) {
            const int64_t end = std::min((left + 1) * PANEL, round_up(size, G));
            for (int64_t row = left * PANEL; row < end; row += ROWS)
                if (number++ % team.size == team.id) work(row, std::min<int64_t>(ROWS, end - row), right);
        }
}

// Fills the blocks below the diagonal of a symmetric matrix; by_rows: in that form, too.
inline void mirror(const Matrix& m, int64_t size, bool by_rows, Team team) {
    const auto copy = [](const P* from, int64_t from_stride, P* to, int64_t to_stride) {
        Words block[LANES];
        for (int i = 0; i < LANES; ++i) block[i] = load_words(from + i * from_stride);
        transpose(block);
        for (int i = 0; i < LANES; ++i) store_words(to + i * to_stride, block[i]);
    };
    int64_t number = 0;
    for (int64_t upper = 0; upper * PANEL < size; ++upper)
        for (int64_t lower = upper + 1; lower * PANEL < size; ++lower)
            for (int64_t line = 0; line < PANEL; line += LANES) {
                if (number++ % team.size != team.id) continue;
                for (int64_t word = 0; word < WORDS; word += LANES) {
                    // Row `line` of the upper block by rows is column `line` of the lower one by panels, and the reverse.
                    copy(m.rows + (upper * PANEL + line) * m.stride + lower * PANEL + word * G, m.stride,
                         m.panel(upper) + ((lower * WORDS + word) * PANEL + line) * G, PANEL * G);
                    if (by_rows)
                        copy(m.panel(lower) + ((upper * WORDS + word) * PANEL + line) * G, PANEL * G,
                             m.rows + (lower * PANEL + line) * m.stride + upper * PANEL + word * G, m.stride);
                }
            }
}

struct Iteration {
    int64_t length, width;  // of Y; the longer and the shorter side
    Matrix y, gram, poly;

    Iteration(int64_t length, int64_t width, P* scratch) : length(length), width(width) {
        const int64_t stride = round_up(width, PANEL);
        for (Matrix* m : {&y, &gram, &poly}) {
            const int64_t rows = m == &y ? round_up(length, G) : stride;
            *m = {scratch, scratch + rows * stride, stride, rows / G};
            scratch += 2 * rows * stride;
        }
    }

    // Elements of `scratch`, which has to be aligned to 64 bytes.
    static int64_t scratch_size(int64_t length, int64_t width) {
        const int64_t stride = round_up(width, PANEL);
        return 2 * stride * (round_up(length, G) + 2 * stride);
    }

    void step(float a, float b, float c, P* strip, Team team) {
        upper_tiles(width, team, [&](int64_t row, int64_t rows, int64_t panel) {
            Floats tile[ROWS][COLUMNS];
            multiply_rows(rows, y.panel(row / PANEL) + row % PANEL * G, G, PANEL * G, y.panel(panel), y.groups, tile);
            keep(tile, rows, gram.rows + row * gram.stride + panel * PANEL, gram.stride,
                 gram.panel(panel) + row * PANEL);
        });
        team.wait();
        mirror(gram, width, true, team);
        team.wait();
        const int64_t groups = groups_of<P>(width);
        upper_tiles(width, team, [&](int64_t row, int64_t rows, int64_t panel) {
            Floats tile[ROWS][COLUMNS];
            const P* left = gram.rows + row * gram.stride;
            multiply_rows(rows, left, gram.stride, G, gram.panel(panel), groups, tile);
            combine(tile, rows, c, left + panel * PANEL, gram.stride, b);
            keep(tile, rows, poly.rows + row * poly.stride + panel * PANEL, poly.stride,
                 poly.panel(panel) + row * PANEL);
        });
        team.wait();
        mirror(poly, width, false, team);
        team.wait();
        const int64_t blocks = round_up(round_up(length, G), ROWS) / ROWS;
        for (int64_t block = team.id; block < blocks; block += team.size) {
            const int64_t row = block * ROWS, rows = std::min<int64_t>(ROWS, round_up(length, G) - row);
            P* left = y.rows + row * y.stride;
            for (int64_t panel = 0; panel * PANEL < width; ++panel) {
                Floats tile[ROWS][COLUMNS];
                multiply_rows(rows, left, y.stride, G, poly.panel(panel), groups, tile);
                combine(tile, rows, 1.0f, left + panel * PANEL, y.stride, a);
                keep(tile, rows, strip + panel * PANEL, y.stride, y.panel(panel) + row * PANEL);
            }
            std::memcpy(static_cast<void*>(left), strip, rows * y.stride * sizeof(P));
        }
        team.wait();
    }

    // tile <- scale tile + other_scale other
    static void combine(Floats (&tile)[ROWS][COLUMNS], int64_t rows, float scale, const P* other, int64_t stride,
                        float other_scale) {
        for (int64_t r = 0; r < rows; ++r)
            for (int c = 0; c < COLUMNS; ++c)
                tile[r][c] = fma(load(other + r * stride + c * LANES), splat(other_scale), tile[r][c] * scale);
    }

    // Y from a matrix (length, width), or its transpose from one (width, length), times `scale`.
    template <typename T>
    void read(const T* g, bool transposed, float scale, Team team) {
        if (!transposed) {
            for (int64_t row = team.id * G; row < round_up(length, G); row += team.size * G)
                for (int64_t column = 0; column < y.stride; column += PANEL) {
                    Floats tile[ROWS][COLUMNS];
                    for (int64_t r = 0; r < G; ++r)
                        for (int c = 0; c < COLUMNS; ++c) {
                            const int64_t first = column + c * LANES, left = row + r < length ? width - first : 0;
                            tile[r][c] = load_some(g + (row + r) * width + first, left) * scale;
                        }
                    keep(tile, G, y.rows + row * y.stride + column, y.stride, y.panel(column / PANEL) + row * PANEL);
                }
            return;
        }
        const int64_t step = LANES * G;
        for (int64_t first = team.id * step; first < length; first += team.size * step)
            for (int64_t column = 0; column < y.stride; column += LANES) {
                Words block[LANES];
                for (int i = 0; i < LANES; ++i) {
                    P line[LANES * G];
                    for (int64_t k = 0; k < G; ++k) {
                        const int64_t start = first + k * LANES, left = column + i < width ? length - start : 0;
                        store_packed(line + k * LANES, load_some(g + (column + i) * length + start, left) * scale);
                    }
                    block[i] = load_words(line);
                }
                transpose(block);
                P* panel = y.panel(column / PANEL) + column % PANEL * G;
                for (int64_t i = 0; i < LANES && first / G + i < y.groups; ++i) {
                    const int64_t group = first / G + i;
                    store_words(panel + group * PANEL * G, block[i]);
                    P* row = y.rows + group * G * y.stride + column;
                    if constexpr (G == 2) {
                        const Halves low = __builtin_convertvector(block[i], Halves);
                        const Halves high = __builtin_convertvector(block[i] >> 16, Halves);
                        std::memcpy(static_cast<void*>(row), &low, sizeof low);
                        std::memcpy(static_cast<void*>(row + y.stride), &high, sizeof high);
                    } else {
                        store_words(row, block[i]);
                    }
                }
            }
    }

    // The reverse of `read`, to bfloat16.
    void write(bfloat16* x, bool transposed, Team team) {
        if (!transposed) {
            for (int64_t row = team.id; row < length; row += team.size)
                for (int64_t column = 0; column < width; column += LANES)
                    store_some(x + row * width + column, load(y.rows + row * y.stride + column), width - column);
            return;
        }
        const int64_t step = LANES * G;
        for (int64_t first = team.id * step; first < length; first += team.size * step)
            for (int64_t column = 0; column < width; column += LANES) {
                Words block[LANES];
                const P* panel = y.panel(column / PANEL) + column % PANEL * G;
                for (int64_t i = 0; i < LANES; ++i) {
                    const int64_t group = std::min(first / G + i, y.groups - 1);
                    block[i] = load_words(panel + group * PANEL * G);
                }
                transpose(block);
                for (int64_t i = 0; i < LANES && column + i < width; ++i) {
                    P line[LANES * G];
                    store_words(line, block[i]);
                    for (int64_t k = 0; k < G; ++k) {
                        const int64_t start = first + k * LANES;
                        store_some(x + (column + i) * length + start, load(line + k * LANES), length - start);
                    }
                }
            }
    }
};

template <typename T>
float norm(const T* g, int64_t size) {
    Floats sums[4] = {};
    for (int64_t i = 0; i < size; i += 4 * LANES)
        for (int k = 0; k < 4; ++k) {
            const Floats v = load_some(g + i + k * LANES, size - i - k * LANES);
            sums[k] = fma(v, v, sums[k]);
        }
    return std::sqrt(sum((sums[0] + sums[1]) + (sums[2] + sums[3])));
}

template <typename T>
void one_matrix(const T* g, bfloat16* x, int64_t rows, int64_t columns, int64_t steps, P* scratch, P* strip, Team team) {
    // A square matrix goes by X X', as in the baseline: with X' X the error of a row that one entry dominates was up to 5
    // times the baseline's.
    const bool wide = rows <= columns;
    Iteration iteration(wide ? columns : rows, wide ? rows : columns, scratch);
    iteration.read(g, wide, 1.0f / (norm(g, rows * columns) * 1.02f + 1e-6f), team);
    team.wait();
    for (int64_t step = 0; step < steps; ++step) {
        const auto& [a, b, c] = COEFFICIENTS[std::min(step, TRIPLES - 1)];
        iteration.step(a, b, c, strip, team);
    }
    iteration.write(x, wide, team);
    team.wait();
}

struct Scratch {
    std::unique_ptr<P[]> owner;
    P* data;

    explicit Scratch(int64_t size) : owner(new P[size + 64 / sizeof(P)]), data(owner.get()) {
        const auto address = reinterpret_cast<uintptr_t>(data);
        data += (round_up(address, 64) - address) / sizeof(P);
    }
};

// x (count, rows, columns) from g, both contiguous.
template <typename T>
void stack(const T* g, bfloat16* x, int64_t count, int64_t rows, int64_t columns, int64_t steps) {
    const int64_t length = std::max(rows, columns), width = std::min(rows, columns), size = rows * columns;
    const int64_t scratch_size = Iteration::scratch_size(length, width), strip_size = ROWS * round_up(width, PANEL);
    const bool parallel = count * steps * width * width * length > PARALLEL_OPERATIONS;
    const Scratch shared(scratch_size);
    const auto one = [&](int64_t n, P* scratch, P* strip, Team team) {
        one_matrix(g + n * size, x + n * size, rows, columns, steps, scratch, strip, team);
    };
#pragma omp parallel if (parallel)
    {
        Team team{0, 1};
#ifdef _OPENMP
        team = {omp_get_thread_num(), omp_get_num_threads()};
#endif
        const Scratch strip(strip_size);
        // Each thread has matrices of its own; what is left over they share.
        const int64_t alone = count / team.size;
        if (alone) {
            const Scratch own(team.id ? scratch_size : 0);
            for (int64_t n = 0; n < alone; ++n)
                one(team.id * alone + n, team.id ? own.data : shared.data, strip.data, {0, 1});
        }
        team.wait();
        for (int64_t n = alone * team.size; n < count; ++n) one(n, shared.data, strip.data, team);
    }
}

}  // namespace autoresearch::polar_express
