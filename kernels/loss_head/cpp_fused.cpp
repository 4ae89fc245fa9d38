// Linear head and softcapped cross entropy in one pass: the loss and, where wanted, dx and dw, without logits in memory.
//
// With u = exp(2 z / cap) and q = 1 / (1 + u) the capped logit is cap tanh(z / cap) = cap - 2 cap q, and its derivative
// 4 u q^2. As the cap bounds it, e = exp(-2 cap q) lies in [exp(-2 cap), 1]: the softmax needs no maximum, and
// g = e u q^2 can be multiplied before the sum over the classes is known. Of the three products
//     logits = x w'      dx = factor G w      dw = G' (factor x),      factor = 4 share / sum e
// the first two run over the classes that the cache holds, the last one over a block of rows. G has 0 in the target's
// place: what (softmax - onehot) comes to there, -u q^2 (sum of the other e) without cancellation, is the largest part of
// both gradients and is added in float32.

#include <algorithm>
#include <cmath>

#include "gemm.h"

using namespace autoresearch;

namespace {

constexpr int64_t IGNORED = -1;
// Rows whose G is kept at a time: 8 MB in bfloat16 for 8192 classes.
constexpr int64_t BLOCK = 86 * ROWS;
// Bytes of the packed weights that a thread multiplies all its rows with while its cache holds them, and the classes
// that these may be at most: a tile's G lies in the innermost cache meanwhile.
constexpr int64_t CHUNK_BYTES = 256 << 10, CHUNK_CLASSES = 512;
// Above this the exponentials would leave float32's range: rows are taken relative to their largest logit instead.
constexpr float LARGEST_CAP = 40.0f;
// Below this many logits starting the threads costs more than the work.
constexpr int64_t PARALLEL_LOGITS = 4096;
constexpr float LOG2_E = 1.44269504088896341f, LN_2 = 0.693147180559945f;

struct Sizes {
    int64_t rows, width, classes;
};

struct Problem {
    Sizes n;
    const int64_t* targets;
    const float* shares;  // the cotangent of each row's loss, `share_stride` apart
    int64_t share_stride;
    float cap;
};

// Memory of a call: packed operands, and what a block of rows has to remember, see `run`.
template <typename P>
struct Scratch {
    P *w_logits, *w_dx, *x, *g, *x_scaled;
    float *dx, *dw, *sums, *references, *at_targets;

    // Lays everything out in `memory`; returns the bytes that it must have.
    int64_t lay_out(const Sizes& n, bool gradient, void* memory) {
        Arena arena(memory);
        const int64_t block = std::min(BLOCK, round_up(n.rows, ROWS));
        arena.take(w_logits, panels_size<P>(n.width, n.classes));
        arena.take(x, block * groups_of<P>(n.width) * GROUP<P>);
        arena.take(sums, block * LANES);
        arena.take(references, block);
        if (gradient) {
            // As many classes as its left operand has.
            arena.take(w_dx, panels_size<P>(round_up(n.classes, PANEL), n.width));
            arena.take(g, panels_size<P>(block, n.classes));
            arena.take(x_scaled, panels_size<P>(block, n.width));
            arena.take(dx, block * round_up(n.width, PANEL));
            arena.take(dw, n.classes * n.width);
            arena.take(at_targets, block);
        }
        return arena.bytes();
    }
};

struct Squashed {
    Floats log2_e, slope;  // of e, relative to the row's reference; u q^2
};

// The general form, for caps of any size: tanh(z / cap) = m / (m + 2) with m = exp(2 z / cap) - 1 without cancellation.
Squashed squash_wide(Floats z, float cap, float reference) {
    const Floats t = at_least(at_most(z * (2.0f / cap * LOG2_E), splat(100.0f)), splat(-100.0f));
    const Floats n = (t + 12582912.0f) - 12582912.0f, r = t - n, scale = exp2_of(n);
    Floats p = splat(EXP2[6]);
    for (int i = 5; i > 0; --i) p = fma(p, r, splat(EXP2[i]));
    const Floats m = fma(scale, p * r, scale - 1.0f), d = m + 2.0f;
    const Words saturated = (t >= 100.0f) | (t <= -100.0f);
    return {(m / d * cap - reference) * LOG2_E, select(saturated, Floats{}, (m + 1.0f) / (d * d))};
}

template <bool WIDE, bool ROUGH>
VECTOR_INLINE Squashed squash(Floats z, float cap, float reference) {
    if constexpr (WIDE) return squash_wide(z, cap, reference);
    const Floats t = at_most(z * (2.0f / cap * LOG2_E), splat(126.0f));
    const Floats u = ROUGH ? exp2_to_zero(EXP2_ROUGH, t) : exp2_to_zero(EXP2, t);
    const Floats q = reciprocal(u + 1.0f);
    return {q * (-2.0f * cap * LOG2_E), q * q * u};
}

enum class Pass { MAXIMUM, LOSS, GRADIENT };

// A row of a tile of logits: adds the exponentials to `sums`, the target's excepted; what they come to in G.
template <Pass PASS, bool WIDE, bool ROUGH>
VECTOR_INLINE void squash_row(const Floats (&z)[COLUMNS], float cap, float reference, int64_t classes, int64_t target,
                              float* sums, Floats (&g)[COLUMNS]) {
    Floats e[COLUMNS], slope[COLUMNS];
    for (int c = 0; c < COLUMNS; ++c) {
        const Squashed s = squash<WIDE, ROUGH>(z[c], cap, reference);
        e[c] = WIDE ? exp2_to_zero(EXP2, s.log2_e) : ROUGH ? exp2_by(EXP2_ROUGH, s.log2_e) : exp2_of(s.log2_e);
        slope[c] = s.slope;
    }
    if (__builtin_expect(classes < PANEL, 0))
        for (int c = 0; c < COLUMNS; ++c) {
            // Not by a factor of 0: a row that is not finite has NaN for logits here.
            e[c] = select(first_lanes(classes - c * LANES), e[c], Floats{});
            slope[c] = select(first_lanes(classes - c * LANES), slope[c], Floats{});
        }
    if (__builtin_expect(target >= 0 && target < PANEL, 0))
        for (int c = 0; c < COLUMNS; ++c) {
            const int64_t lane = target - c * LANES;
            e[c] = select(first_lanes(lane + 1) & ~first_lanes(lane), Floats{}, e[c]);
        }
    Floats total = e[0];
    for (int c = 1; c < COLUMNS; ++c) total += e[c];
    store(sums, load(sums) + total);
    if constexpr (PASS == Pass::GRADIENT)
        for (int c = 0; c < COLUMNS; ++c) g[c] = e[c] * slope[c];
}

// ROWS rows from `row` on of a block and the classes of `panels` panels from `first` on: their sums and, with
// Pass::GRADIENT, their part of G and of dx.
template <Pass PASS, bool WIDE, bool ROUGH, typename P>
void tile_of_rows(const Problem& problem, const Scratch<P>& s, const int64_t* targets, int64_t row, int64_t padded,
                  int64_t first, int64_t panels) {
    constexpr int64_t G = GROUP<P>;
    const int64_t width = groups_of<P>(problem.n.width), classes = round_up(problem.n.classes, PANEL);
    alignas(64) P by_row[ROWS][CHUNK_CLASSES];
    for (int64_t panel = first; panel < first + panels; ++panel) {
        Floats tile[ROWS][COLUMNS];
        multiply<ROWS>(s.x + row * width * G, width * G, G, s.w_logits + panel * panel_size<P>(problem.n.width), width,
                       tile);
        const int64_t left = problem.n.classes - panel * PANEL;
        if constexpr (PASS == Pass::MAXIMUM) {
            for (int i = 0; i < ROWS; ++i)
                for (int c = 0; c < COLUMNS; ++c) {
                    const Floats z = select(first_lanes(left - c * LANES), tile[i][c], splat(-INFINITY));
                    const Floats most = load(s.sums + (row + i) * LANES);
                    store(s.sums + (row + i) * LANES, select(z > most, z, most));
                }
            continue;
        }
        for (int i = 0; i < ROWS; i += int(G)) {
            Floats g[G][COLUMNS];
            for (int h = 0; h < G; ++h) {
                const int64_t r = row + i + h;
                squash_row<PASS, WIDE, ROUGH>(tile[i + h], problem.cap, s.references[r], left, targets[r] - panel * PANEL,
                                              s.sums + r * LANES, g[h]);
            }
            if constexpr (PASS == Pass::GRADIENT)
                store_group(g, by_row[i] + (panel - first) * PANEL, CHUNK_CLASSES,
                            s.g + (panel * (padded / G) + (row + i) / G) * PANEL * G);
        }
    }
    if constexpr (PASS == Pass::GRADIENT) {
        const int64_t wide = round_up(problem.n.width, PANEL);
        for (int64_t k = 0; k < wide; k += PANEL) {
            Floats tile[ROWS][COLUMNS];
            const P* w = s.w_dx + k / PANEL * panel_size<P>(classes) + first * PANEL * PANEL;
            multiply<ROWS>(by_row[0], CHUNK_CLASSES, G, w, panels * PANEL / G, tile);
            add_tile(tile, s.dx + row * wide + k, wide);
        }
    }
}

// After all classes: the row's loss, its dx, and for dw its row of x and the target's gradient. The target's logit has the
// largest part in the loss; it is computed again here without rounding the weights.
template <bool WIDE, typename P, typename T>
void finish_row(const Problem& problem, const Scratch<P>& s, const T* x, const float* w, int64_t start, int64_t row,
                int64_t padded, float* losses, float* dx) {
    constexpr int64_t G = GROUP<P>;
    const int64_t at = start + row, width = problem.n.width, wide = round_up(width, PANEL);
    const int64_t target = at < problem.n.rows ? problem.targets[at] : IGNORED;
    const bool counted = target != IGNORED;
    Floats products{};
    for (int64_t k = 0; counted && k < width; k += LANES)
        products = fma(load_some(x + at * width + k, width - k), load_some(w + target * width + k, width - k), products);
    const Squashed squashed = squash<WIDE, false>(splat(sum(products)), problem.cap, s.references[row]);
    const float own = exp2_to_zero(EXP2, squashed.log2_e)[0], slope = squashed.slope[0];
    const float others = counted ? sum(load(s.sums + row * LANES)) : 0.0f, all = others + own;
    if (losses && at < problem.n.rows) {
        const float loss = own > others ? std::log1p(others / own) : std::log(all) - squashed.log2_e[0] * LN_2;
        losses[at] = counted ? loss : 0.0f;
    }
    if (!dx) return;
    const float factor = counted ? 4.0f * problem.shares[at * problem.share_stride] / all : 0.0f;
    const float at_target = counted ? -others * slope * factor : 0.0f;
    s.at_targets[row] = at_target;
    for (int64_t k = 0; k < wide; k += LANES) {
        const Floats scaled = counted ? load_some(x + at * width + k, width - k) * factor : Floats{};
        P* to = s.x_scaled + k / PANEL * panel_size<P>(padded) + row / G * PANEL * G + k % PANEL * G + row % G;
        alignas(64) P lanes[LANES];
        store_packed(lanes, scaled);
        for (int i = 0; i < LANES; ++i) to[i * G] = lanes[i];
        if (at >= problem.n.rows || k >= width) continue;
        Floats value{};
        if (counted) {
            const Floats own_weights = load_some(w + target * width + k, width - k);
            value = fma(own_weights, splat(at_target), load(s.dx + row * wide + k) * factor);
        }
        store_some(dx + at * width + k, value, width - k);
    }
}

// dw of a panel of classes gets what a block of rows adds, in float32; `to` (which may be s.dw) gets the sum.
template <typename P, typename T, typename To>
void add_to_weights(const Problem& problem, const Scratch<P>& s, const T* x, int64_t start, int64_t padded, int64_t panel,
                    To* to) {
    constexpr int64_t G = GROUP<P>;
    const int64_t width = problem.n.width, first = panel * PANEL, here = std::min(PANEL, problem.n.classes - first);
    if (start == 0) std::fill_n(s.dw + first * width, here * width, 0.0f);
    for (int64_t r = start; r < std::min(start + padded, problem.n.rows); ++r) {
        const int64_t target = problem.targets[r];
        if (target < first || target >= first + here) continue;
        float* own = s.dw + target * width;
        const float at_target = s.at_targets[r - start];
        for (int64_t k = 0; k < width; ++k) own[k] += at_target * widen(x[r * width + k]);
    }
    for (int64_t k = 0; k < width; k += PANEL)
        for (int64_t v = 0; v < here; v += ROWS) {
            Floats tile[ROWS][COLUMNS];
            const int64_t count = std::min<int64_t>(ROWS, here - v);
            multiply_rows(count, s.g + panel * panel_size<P>(padded) + v * G, G, PANEL * G,
                          s.x_scaled + k / PANEL * panel_size<P>(padded), padded / G, tile);
            for (int64_t i = 0; i < count; ++i)
                for (int c = 0; c < COLUMNS; ++c) {
                    const int64_t at = (first + v + i) * width + k + c * LANES, left = width - k - c * LANES;
                    store_some(to + at, load_some(s.dw + at, left) + tile[i][c], left);
                }
        }
}

// dx and dw may be null, then losses only; `references` are 0 where the cap is not WIDE.
template <bool WIDE, typename P, typename T, typename D>
void run(const Problem& problem, const T* x, const float* w, float* losses, float* dx, D* dw,
         const Scratch<P>& s) {
    constexpr bool ROUGH = std::is_same_v<T, bfloat16>;
    const Sizes& n = problem.n;
    const int64_t panels = round_up(n.classes, PANEL) / PANEL, width = groups_of<P>(n.width) * GROUP<P>;
    const int64_t chunk_fits = CHUNK_BYTES / (2 * round_up(n.width, PANEL) * int64_t(sizeof(P))) / PANEL;
    const int64_t chunk = std::clamp<int64_t>(chunk_fits, 1, CHUNK_CLASSES / PANEL);
    const int64_t blocks = (n.rows + BLOCK - 1) / BLOCK;
#pragma omp parallel if (n.rows * n.classes > PARALLEL_LOGITS)
    {
        pack_panels(w, 1, n.width, n.width, n.classes, s.w_logits);
        if (dx) pack_panels(w, n.width, 1, n.classes, n.width, s.w_dx, panels * PANEL);
        for (int64_t block = 0; block < blocks; ++block) {
            const int64_t start = block * BLOCK, rows = std::min(BLOCK, n.rows - start), padded = round_up(rows, ROWS);
            // The same thread has the same tiles in all of these loops.
            int64_t targets[ROWS];
            const auto targets_of = [&](int64_t row) {
                for (int i = 0; i < ROWS; ++i) targets[i] = row + i < rows ? problem.targets[start + row + i] : IGNORED;
                return targets - row;
            };
            const auto over_classes = [&](auto pass) {
                for (int64_t first = 0; first < panels; first += chunk)
#pragma omp for schedule(static) nowait
                    for (int64_t row = 0; row < padded; row += ROWS)
                        tile_of_rows<decltype(pass)::value, WIDE, ROUGH>(problem, s, targets_of(row), row, padded, first,
                                                                         std::min(chunk, panels - first));
            };
#pragma omp for schedule(static) nowait
            for (int64_t row = 0; row < padded; row += ROWS)
                for (int64_t r = row; r < row + ROWS; ++r) {
                    // Ignored rows count as 0, so that what is not finite there stays there.
                    if (r < rows && problem.targets[start + r] != IGNORED)
                        pack_rows(x + (start + r) * n.width, n.width, 1, n.width, s.x + r * width);
                    else
                        std::fill_n(s.x + r * width, width, P{});
                    std::fill_n(s.sums + r * LANES, LANES, WIDE ? -INFINITY : 0.0f);
                    s.references[r] = 0.0f;
                    if (dx) std::fill_n(s.dx + r * round_up(n.width, PANEL), round_up(n.width, PANEL), 0.0f);
                }
            if constexpr (WIDE) {
                over_classes(std::integral_constant<Pass, Pass::MAXIMUM>{});
#pragma omp for schedule(static) nowait
                for (int64_t row = 0; row < padded; row += ROWS)
                    for (int64_t r = row; r < row + ROWS; ++r) {
                        const float most = largest(load(s.sums + r * LANES)) / problem.cap;
                        s.references[r] = problem.cap * std::tanh(most);
                        std::fill_n(s.sums + r * LANES, LANES, 0.0f);
                    }
            }
            if (dx)
                over_classes(std::integral_constant<Pass, Pass::GRADIENT>{});
            else
                over_classes(std::integral_constant<Pass, Pass::LOSS>{});
#pragma omp for schedule(static)
            for (int64_t row = 0; row < padded; row += ROWS)
                for (int64_t r = row; r < row + ROWS; ++r) finish_row<WIDE>(problem, s, x, w, start, r, padded, losses, dx);
            if (!dx) continue;
#pragma omp for schedule(static)
            for (int64_t panel = 0; panel < panels; ++panel) {
                if (block + 1 < blocks)
                    add_to_weights(problem, s, x, start, padded, panel, s.dw);
                else
                    add_to_weights(problem, s, x, start, padded, panel, dw);
            }
        }
    }
}

}  // namespace

// Bytes of scratch memory that a call with these sizes needs.
extern "C" int loss_head_scratch(int64_t rows, int64_t width, int64_t classes, int dtype, int gradient, int64_t* bytes) {
    return dispatch(dtype, [&](auto tag) {
        *bytes = Scratch<Packed<decltype(tag)>>().lay_out({rows, width, classes}, gradient, nullptr);
        return 0;
    });
}

// losses (rows) float32; loss: their mean over the targets that count, or null. dx (rows, width) and dw (classes, width)
// may both be null; dx is float32, dw bfloat16 where `narrow` (for bfloat16 x only), else float32. shares: the cotangent of each row's loss, or null for
// 1 / (targets that count). Returns 1 + the first row whose target is no class, else 0.
extern "C" int loss_head(const void* x, const float* w, const int64_t* targets, const float* shares, int64_t rows,
                         int64_t width, int64_t classes, float cap, int dtype, float* losses, float* loss, float* dx,
                         void* dw, int64_t narrow, void* memory) {
    int64_t counted = 0;
    for (int64_t r = 0; r < rows; ++r) {
        if (targets[r] < IGNORED || targets[r] >= classes) return int(r + 1);
        counted += targets[r] != IGNORED;
    }
    const float mean = counted ? 1.0f / float(counted) : 0.0f;
    const Problem problem{{rows, width, classes}, targets, shares ? shares : &mean, shares ? 1 : 0, cap};
    const int status = dispatch(dtype, [&](auto tag) {
        using T = decltype(tag);
        using P = Packed<T>;
        Scratch<P> scratch;
        scratch.lay_out(problem.n, dx != nullptr, memory);
        const auto start = [&](auto kept) {
            using D = decltype(kept);
            const auto begin = cap > LARGEST_CAP ? run<true, P, T, D> : run<false, P, T, D>;
            begin(problem, static_cast<const T*>(x), w, losses, dx, static_cast<D*>(dw), scratch);
            if (dw && rows == 0) std::memset(dw, 0, classes * width * sizeof(D));
        };
        if constexpr (std::is_same_v<T, bfloat16>) {
            if (narrow) {
                start(bfloat16{});
                return 0;
            }
        }
        start(float{});
        return 0;
    });
    if (loss) {
        // In the order of the rows, so that the sum does not depend on the number of threads; 0 / 0 is NaN.
        double total = 0.0;
        for (int64_t r = 0; r < rows; ++r) total += losses[r];
        *loss = float(total / double(counted));
    }
    return status;
}
