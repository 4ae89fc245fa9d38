// Causal sliding-window attention by tiles of queries, forward and backward: key j is visible to query i when
// 0 <= i - j <= window, and products skip what is not.
//
// A tile's scores over all keys that it sees stay in the cache, so softmax needs no running maximum. Backward works
// them out again; nothing is kept but q, k and v. It goes by queries first (dq, and all weights P and slopes dS of some
// heads, packed), then by keys (dv = P' g, dk = dS' q). Sums are in the same order whatever the number of threads.

#include <algorithm>
#include <new>

#include "gemm.h"

#ifdef _OPENMP
#include <omp.h>
#endif

using namespace autoresearch;

namespace {

// Queries that share operands while these are in the nearest cache; even, so that groups of two stay together.
constexpr int64_t BLOCK = 4 * ROWS;

struct Shape {
    int64_t batch, length, heads, key_heads, width, window;
    float scale;  // of the scores

    int64_t members() const { return heads / key_heads; }
    // Elements in a row of scores: tiles read and write whole vectors beyond the sequence's end.
    int64_t row() const { return round_up(length, PANEL) + PANEL; }
    int64_t first_seen(int64_t query) const { return std::max<int64_t>(0, query - window); }
};

// (B, T, H, D) with a dense last axis.
template <typename T>
struct Array {
    T* data;
    int64_t batch, row, head;  // strides in elements

    T* at(int64_t b, int64_t t, int64_t h) const { return data + b * batch + t * row + h * head; }
};

// How many key heads are taken at a time: one for each thread, which mostly stays with it and what is packed of it.
int64_t heads_at_once(const Shape& shape) {
#ifdef _OPENMP
    return std::min<int64_t>(shape.batch * shape.key_heads, omp_get_max_threads());
#else
    return 1;
#endif
}

// Memory handed out in pieces.
class Arena {
   public:
    explicit Arena(int64_t bytes) : start_(::operator new(bytes, ALIGNED)), next_(static_cast<char*>(start_)) {}
    ~Arena() { ::operator delete(start_, ALIGNED); }
    Arena(const Arena&) = delete;

    template <typename T>
    T* take(int64_t count) {
        T* result = reinterpret_cast<T*>(next_);
        next_ += round_up(count * int64_t(sizeof(T)), 64);
        return result;
    }

   private:
    static constexpr std::align_val_t ALIGNED{64};
    void* start_;
    char* next_;
};

// A head (T, D) as right operand: [D / PANEL] panels that sum over the positions, or [T / PANEL] that sum over D.
template <typename P, typename T>
void pack_head(const T* from, int64_t stride, int64_t length, int64_t width, P* to) {
    for (int64_t c = 0; c < width; c += PANEL, to += panel_size<P>(length))
        pack_panel(from, stride, 1, length, width, c, to);
}

template <typename P, typename T>
void pack_transposed(const T* from, int64_t stride, int64_t length, int64_t width, P* to) {
    for (int64_t t = 0; t < length; t += PANEL, to += panel_size<P>(width))
        pack_panel(from, 1, stride, width, length, t, to);
}

// A block's rows as left operand, with rows of 0 up to whole tiles.
template <typename P, typename T>
void pack_block(const T* from, int64_t stride, int64_t rows, int64_t depth, int64_t width, P* to) {
    pack_rows(from, stride, rows, width, to);
    std::fill(to + rows * depth, to + round_up(rows, ROWS) * depth, P{});
}

// Whole vectors of keys, those that a tile of queries from `first` on sees.
struct Keys {
    int64_t first, end;
};

Keys seen(const Shape& shape, int64_t first) {
    return {shape.first_seen(first) / LANES * LANES, round_up(std::min(first + ROWS, shape.length), LANES)};
}

template <int C, typename P>
void multiply_to(const P* left, int64_t depth, const P* panel, float* out, int64_t row) {
    Floats tile[ROWS][C];
    multiply(left, depth, GROUP<P>, panel, depth / GROUP<P>, tile);
    for (int r = 0; r < ROWS; ++r)
        for (int c = 0; c < C; ++c) store(out + r * row + c * LANES, tile[r][c]);
}

// out[query][key] = sum over `depth` of left[query] times the transposed panels, for a tile's queries and some keys.
template <typename P>
void scores_of(const P* left, int64_t depth, const P* panels, Keys keys, float* out, int64_t row) {
    for (int64_t key = keys.first; key < keys.end;) {
        const int64_t within = key % PANEL, vectors = std::min(PANEL - within, keys.end - key) / LANES;
        const P* panel = panels + (key - within) * depth + within * GROUP<P>;
        switch (vectors) {
            case 1: multiply_to<1>(left, depth, panel, out + key, row); break;
            case 2: multiply_to<2>(left, depth, panel, out + key, row); break;
            case 3: multiply_to<std::min(3, COLUMNS)>(left, depth, panel, out + key, row); break;
            default: multiply_to<COLUMNS>(left, depth, panel, out + key, row);
        }
        key += vectors * LANES;
    }
}

// Calls body(key, only_visible) for every vector of keys; only_visible(x, y) has x where the query sees the key, else y,
// and costs nothing where it sees all.
template <typename Body>
VECTOR_INLINE void for_keys(const Shape& shape, int64_t query, Keys keys, Body body) {
    const int64_t from = shape.first_seen(query);
    for (int64_t key = keys.first; key < keys.end; key += LANES) {
        if (key >= from && key + LANES <= query + 1)
            body(key, [](Floats x, Floats) { return x; });
        else
            body(key, [&](Floats x, Floats hidden) {
                return select(first_lanes(query + 1 - key) & ~first_lanes(from - key), x, hidden);
            });
    }
}

// Calls keep(key, e) with e = exp(scale (score - the row's largest)), 0 where hidden, and returns the sum of all e.
template <typename T, typename Keep>
VECTOR_INLINE float exponentials(const Shape& shape, int64_t query, Keys keys, const float* scores, Keep keep) {
    Floats most = splat(-INFINITY), total{};
    for_keys(shape, query, keys, [&](int64_t key, auto only_visible) {
        most = at_least(most, only_visible(load(scores + key), most));
    });
    const float top = largest(most), scale = shape.scale * 1.44269504088896341f;
    for_keys(shape, query, keys, [&](int64_t key, auto only_visible) {
        const Floats x = at_least((load(scores + key) - top) * scale, splat(-126.0f));
        const Floats e = only_visible(std::is_same_v<T, bfloat16> ? exp2_rough(x) : exp2_of(x), Floats{});
        total += e;
        keep(key, e);
    });
    return sum(total);
}

// tile = sum over the keys that queries from `first` on see of left[query][key] times a panel over the positions.
template <typename P>
void sum_over_keys(const Shape& shape, int64_t first, const P* left, const P* panel, Floats (&tile)[ROWS][COLUMNS]) {
    constexpr int64_t G = GROUP<P>;
    const int64_t from = shape.first_seen(first) / G;
    const int64_t groups = groups_of<P>(std::min(first + ROWS, shape.length)) - from;
    multiply(left + from * G, shape.row(), G, panel + from * PANEL * G, groups, tile);
}

// The first `rows` of a tile times a factor each, to as many of its columns as there are.
template <typename T>
void write(Floats (&tile)[ROWS][COLUMNS], int64_t rows, const float* factors, T* to, int64_t stride, int64_t columns) {
    for (int64_t r = 0; r < rows; ++r)
        for (int c = 0; c < COLUMNS; ++c)
            store_some(to + r * stride + c * LANES, tile[r][c] * factors[r], columns - c * LANES);
}

template <typename T>
void forward(const Shape& shape, Array<const T> q, Array<const T> k, Array<const T> v, Array<T> y) {
    using P = Packed<T>;
    const int64_t length = shape.length, width = shape.width, row = shape.row(), members = shape.members();
    const int64_t depth = groups_of<P>(width) * GROUP<P>, units = shape.batch * shape.key_heads;
    const int64_t blocks = (length + BLOCK - 1) / BLOCK, most = heads_at_once(shape);
    const int64_t k_size = panels_size<P>(width, length), size = k_size + panels_size<P>(length, width);
    Arena shared(most * size * sizeof(P));
    P* const operands = shared.take<P>(most * size);
#pragma omp parallel
    {
        Arena own(BLOCK * (depth + row) * sizeof(P) + ROWS * row * sizeof(float) + 3 * 64);
        P* const queries = own.take<P>(BLOCK * depth);
        P* const weights = own.take<P>(BLOCK * row);
        float* const scores = own.take<float>(ROWS * row);
        for (int64_t start = 0; start < units; start += most) {
            const int64_t here = std::min(most, units - start);
#pragma omp for schedule(static)
            for (int64_t task = 0; task < 2 * here; ++task) {
                const int64_t slot = task / 2;
                const int64_t b = (start + slot) / shape.key_heads, h = (start + slot) % shape.key_heads;
                P* to = operands + slot * size;
                if (task % 2) pack_head(v.at(b, 0, h), v.row, length, width, to + k_size);
                else pack_transposed(k.at(b, 0, h), k.row, length, width, to);
            }
#pragma omp for schedule(static)
            for (int64_t task = 0; task < here * members * blocks; ++task) {
                const int64_t slot = task / (members * blocks), member = task / blocks % members;
                const int64_t b = (start + slot) / shape.key_heads;
                const int64_t h = (start + slot) % shape.key_heads * members + member;
                const int64_t first = task % blocks * BLOCK, end = std::min(first + BLOCK, length);
                const P* keys = operands + slot * size;
                pack_block(q.at(b, first, h), q.row, end - first, depth, width, queries);
                float factors[BLOCK];
                for (int64_t query = first; query < end; ++query) {
                    const int64_t r = query - first;
                    const Keys range = seen(shape, query - r % ROWS);
                    if (r % ROWS == 0) scores_of(queries + r * depth, depth, keys, range, scores, row);
                    const float* from = scores + r % ROWS * row;
                    factors[r] = 1.0f / exponentials<T>(shape, query, range, from, [&](int64_t key, Floats e) {
                        store_packed(weights + r * row + key, e);
                    });
                }
                for (int64_t c = 0; c < width; c += PANEL) {
                    const P* values = keys + k_size + c / PANEL * panel_size<P>(length);
                    for (int64_t query = first; query < end; query += ROWS) {
                        Floats tile[ROWS][COLUMNS];
                        sum_over_keys(shape, query, weights + (query - first) * row, values, tile);
                        const int64_t rows = std::min<int64_t>(ROWS, end - query);
                        write(tile, rows, factors + query - first, y.at(b, query, h) + c, y.row, width - c);
                    }
                }
            }
        }
    }
}

// The operands of a key head and of the query heads that share it, one after the other.
template <typename P>
struct Operands {
    int64_t across, along, square, members;  // sizes in elements: panels over D and over the positions; weights

    explicit Operands(const Shape& shape)
        : across(panels_size<P>(shape.width, shape.length)),
          along(panels_size<P>(shape.length, shape.width)),
          square(groups_of<P>(shape.length) * GROUP<P> * shape.row()),
          members(shape.members()) {}

    int64_t size() const { return 2 * across + along + 2 * members * (along + square); }
    P* keys_across(P* start) const { return start; }
    P* values_across(P* start) const { return start + across; }
    P* keys(P* start) const { return start + 2 * across; }
    P* queries(P* start, int64_t member) const { return keys(start) + (1 + 2 * member) * along; }
    P* cotangents(P* start, int64_t member) const { return queries(start, member) + along; }
    // [query groups][row()][GROUP]: left operands of a tile of keys.
    P* weights(P* start, int64_t member) const { return queries(start, members) + 2 * member * square; }
    P* slopes(P* start, int64_t member) const { return weights(start, member) + square; }
};

// The gradient of the heaviest weight in a row of them, whose exponential is exactly 1.
float heaviest(Keys keys, const float* exponentials, const float* gradients) {
    Floats most = splat(-INFINITY);
    for (int64_t key = keys.first; key < keys.end; key += LANES)
        most = at_least(most, select(load(exponentials + key) == 1.0f, load(gradients + key), most));
    return largest(most);
}

// Weights P and slopes dS of a tile of queries from scores and the weights' gradients dP, to `weights` and `slopes` of
// the whole head and to rows of `own_slopes`. dS = P (dP - sum(P dP)), with sums of the very same P. Where one weight is
// nearly 1, little is left of that difference: but for bfloat16, the heaviest weight's dP is taken off all others first.
template <typename T, typename P = Packed<T>>
void differentiate(const Shape& shape, int64_t first, float* scores, const float* gradients, P* weights, P* slopes,
                   P* own_slopes) {
    constexpr int64_t G = GROUP<P>;
    const int64_t row = shape.row(), rows = std::min<int64_t>(ROWS, shape.length - first);
    const Keys range = seen(shape, first);
    constexpr bool CENTRED = !std::is_same_v<T, bfloat16>;
    float factors[ROWS], centres[ROWS] = {}, means[ROWS];
    for (int64_t r = 0; r < rows; ++r) {
        float* e = scores + r * row;
        const float* gradient = gradients + r * row;
        Floats dot{};
        const float total = exponentials<T>(shape, first + r, range, e, [&](int64_t key, Floats x) {
            store(e + key, x);
            if (!CENTRED) dot += x * load(gradient + key);
        });
        factors[r] = 1.0f / total;
        if (CENTRED) {
            centres[r] = heaviest(range, e, gradient);
            for (int64_t key = range.first; key < range.end; key += LANES)
                dot += load(e + key) * (load(gradient + key) - centres[r]);
        }
        means[r] = sum(dot) * factors[r];
    }
    // Tiles of keys touch some hidden ones before.
    const int64_t touched = shape.first_seen(first - ROWS) / LANES * LANES;
    for (int64_t r = 0; r < rows; r += G) {
        P* const w = weights + (first + r) * row;
        P* const s = slopes + (first + r) * row;
        std::fill(w + touched * G, w + range.first * G, P{});
        std::fill(s + touched * G, s + range.first * G, P{});
        for (int64_t key = range.first; key < range.end; key += LANES) {
            Floats p[G] = {}, ds[G] = {};
            for (int64_t j = 0; j < G && r + j < rows; ++j) {
                p[j] = load(scores + (r + j) * row + key) * factors[r + j];
                Floats gradient = load(gradients + (r + j) * row + key);
                if (CENTRED) gradient -= centres[r + j];
                ds[j] = p[j] * (gradient - means[r + j]);
                store_packed(own_slopes + (r + j) * row + key, ds[j]);
            }
            if constexpr (G == 2) {
                store_pairs(w + key * G, p[0], p[1]);
                store_pairs(s + key * G, ds[0], ds[1]);
            } else {
                store_packed(w + key, p[0]);
                store_packed(s + key, ds[0]);
            }
        }
    }
}

// dk or dv of a tile of keys: the sum over the queries that see them of weights times panels, over all heads that share
// these keys.
template <typename P>
void sum_over_queries(const Shape& shape, const Operands<P>& sizes, int64_t key, const P* weights, const P* panel,
                      Floats (&sums)[ROWS][COLUMNS]) {
    constexpr int64_t G = GROUP<P>;
    const int64_t from = key / G;
    const int64_t groups = groups_of<P>(std::min(shape.length, key + ROWS + shape.window)) - from;
    for (int64_t member = 0; member < sizes.members; ++member) {
        Floats tile[ROWS][COLUMNS];
        multiply(weights + 2 * member * sizes.square + (from * shape.row() + key) * G, G, shape.row() * G,
                 panel + 2 * member * sizes.along + from * PANEL * G, groups, tile);
        for (int r = 0; r < ROWS; ++r)
            for (int c = 0; c < COLUMNS; ++c) sums[r][c] = member ? sums[r][c] + tile[r][c] : tile[r][c];
    }
}

template <typename T>
void backward(const Shape& shape, Array<const T> g, Array<const T> q, Array<const T> k, Array<const T> v, Array<T> dq,
              Array<T> dk, Array<T> dv) {
    using P = Packed<T>;
    const int64_t length = shape.length, width = shape.width, row = shape.row(), members = shape.members();
    const int64_t depth = groups_of<P>(width) * GROUP<P>, units = shape.batch * shape.key_heads;
    const int64_t blocks = (length + BLOCK - 1) / BLOCK, tiles = (length + ROWS - 1) / ROWS;
    const Operands<P> sizes(shape);
    const int64_t most = heads_at_once(shape);
    Arena shared(most * sizes.size() * sizeof(P));
    P* const operands = shared.take<P>(most * sizes.size());
    float ones[ROWS], scales[ROWS];
    std::fill(ones, ones + ROWS, 1.0f);
    std::fill(scales, scales + ROWS, shape.scale);
#pragma omp parallel
    {
        Arena own(BLOCK * (2 * depth + row) * sizeof(P) + 2 * ROWS * row * sizeof(float) + 5 * 64);
        P* const queries = own.take<P>(BLOCK * depth);
        P* const cotangents = own.take<P>(BLOCK * depth);
        P* const slopes = own.take<P>(BLOCK * row);
        float* const scores = own.take<float>(ROWS * row);
        float* const gradients = own.take<float>(ROWS * row);
        for (int64_t start = 0; start < units; start += most) {
            const int64_t here = std::min(most, units - start), packs = 3 + 2 * members;
#pragma omp for schedule(static)
            for (int64_t task = 0; task < here * packs; ++task) {
                const int64_t slot = task / packs, kind = task % packs, member = (kind - 3) / 2;
                const int64_t b = (start + slot) / shape.key_heads, h = (start + slot) % shape.key_heads;
                P* to = operands + slot * sizes.size();
                const int64_t query_head = h * members + member;
                if (kind == 0) pack_transposed(k.at(b, 0, h), k.row, length, width, sizes.keys_across(to));
                else if (kind == 1) pack_transposed(v.at(b, 0, h), v.row, length, width, sizes.values_across(to));
                else if (kind == 2) pack_head(k.at(b, 0, h), k.row, length, width, sizes.keys(to));
                else if (kind % 2) pack_head(q.at(b, 0, query_head), q.row, length, width, sizes.queries(to, member));
                else pack_head(g.at(b, 0, query_head), g.row, length, width, sizes.cotangents(to, member));
            }
#pragma omp for schedule(static)
            for (int64_t task = 0; task < here * members * blocks; ++task) {
                const int64_t slot = task / (members * blocks), member = task / blocks % members;
                const int64_t b = (start + slot) / shape.key_heads;
                const int64_t h = (start + slot) % shape.key_heads * members + member;
                const int64_t first = task % blocks * BLOCK, end = std::min(first + BLOCK, length);
                P* const at = operands + slot * sizes.size();
                pack_block(q.at(b, first, h), q.row, end - first, depth, width, queries);
                pack_block(g.at(b, first, h), g.row, end - first, depth, width, cotangents);
                for (int64_t r = 0; r < end - first; r += ROWS) {
                    const Keys range = seen(shape, first + r);
                    scores_of(queries + r * depth, depth, sizes.keys_across(at), range, scores, row);
                    scores_of(cotangents + r * depth, depth, sizes.values_across(at), range, gradients, row);
                    differentiate<T>(shape, first + r, scores, gradients, sizes.weights(at, member),
                                     sizes.slopes(at, member), slopes + r * row);
                }
                for (int64_t c = 0; c < width; c += PANEL) {
                    const P* keys = sizes.keys(at) + c / PANEL * panel_size<P>(length);
                    for (int64_t query = first; query < end; query += ROWS) {
                        Floats tile[ROWS][COLUMNS];
                        sum_over_keys(shape, query, slopes + (query - first) * row, keys, tile);
                        const int64_t rows = std::min<int64_t>(ROWS, end - query);
                        write(tile, rows, scales, dq.at(b, query, h) + c, dq.row, width - c);
                    }
                }
            }
#pragma omp for schedule(static)
            for (int64_t task = 0; task < here * tiles; ++task) {
                const int64_t slot = task / tiles, key = task % tiles * ROWS;
                const int64_t rows = std::min<int64_t>(ROWS, length - key);
                const int64_t b = (start + slot) / shape.key_heads, h = (start + slot) % shape.key_heads;
                P* const at = operands + slot * sizes.size();
                for (int64_t c = 0; c < width; c += PANEL) {
                    const int64_t panel = c / PANEL * panel_size<P>(length);
                    Floats sums[ROWS][COLUMNS];
                    sum_over_queries(shape, sizes, key, sizes.weights(at, 0), sizes.cotangents(at, 0) + panel, sums);
                    write(sums, rows, ones, dv.at(b, key, h) + c, dv.row, width - c);
                    sum_over_queries(shape, sizes, key, sizes.slopes(at, 0), sizes.queries(at, 0) + panel, sums);
                    write(sums, rows, scales, dk.at(b, key, h) + c, dk.row, width - c);
                }
            }
        }
    }
}

Shape shape_of(const int64_t* sizes) {
    return {sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], sizes[5], 1.0f / std::sqrt(float(sizes[4]))};
}

template <typename T>
Array<T> strided(T* data, const int64_t* strides) {
    return {data, strides[0], strides[1], strides[2]};
}

template <typename T>
Array<T> contiguous(void* data, const Shape& shape, int64_t heads) {
    return {static_cast<T*>(data), shape.length * heads * shape.width, heads * shape.width, shape.width};
}

}  // namespace

// sizes: B, T, H, K, D and the window, at most T. strides: of B, T and heads, in elements, for each argument in turn;
// results are contiguous.
extern "C" int windowed_attention_forward(const void* q, const void* k, const void* v, void* y, const int64_t* sizes,
                                          const int64_t* strides, int dtype) {
    const Shape shape = shape_of(sizes);
    return dispatch(dtype, [&](auto tag) {
        using T = decltype(tag);
        forward<T>(shape, strided(static_cast<const T*>(q), strides), strided(static_cast<const T*>(k), strides + 3),
                   strided(static_cast<const T*>(v), strides + 6), contiguous<T>(y, shape, shape.heads));
        return 0;
    });
}

extern "C" int windowed_attention_backward(const void* g, const void* q, const void* k, const void* v, void* dq,
                                           void* dk, void* dv, const int64_t* sizes, const int64_t* strides,
                                           int dtype) {
    const Shape shape = shape_of(sizes);
    return dispatch(dtype, [&](auto tag) {
        using T = decltype(tag);
        backward<T>(shape, strided(static_cast<const T*>(g), strides), strided(static_cast<const T*>(q), strides + 3),
                    strided(static_cast<const T*>(k), strides + 6), strided(static_cast<const T*>(v), strides + 9),
                    contiguous<T>(dq, shape, shape.heads), contiguous<T>(dk, shape, shape.key_heads),
                    contiguous<T>(dv, shape, shape.key_heads));
        return 0;
    });
}
