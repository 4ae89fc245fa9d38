// Causal sliding-window attention by blocks, forward and backward; scores never reach memory.
//
// q, g, y, dq (B, T, H, D), k, v, dk, dv (B, T, K, D) of one type, row-major, H a multiple of K; tops, totals, centres,
// offsets (B, H, T) float32. Key j is visible to query i when 0 <= i - j <= window: blocks of keys without a visible
// pair are skipped. WIDTH = D, at most 128; any other than a multiple of 8 is filled up with zeros.
//
// forward: y, and of each query the highest score (tops) and the sum of the exponentials of the scores less that
//          (totals): as one number, the logarithm of the sum, they would lose digits that the slopes need. One
//          threadgroup per 32 queries of a head, 8 per simdgroup; 16 keys at a time. Grid (ceil(T / 32) 128, H, B).
// queries: dq, and the mean of each query's slopes (of its weights) by its weights, in two parts: centres, offsets. One
//          threadgroup per 16 queries of a head, 16 keys at a time, twice over: the mean comes first. Grid
//          (ceil(T / 16) 128, H, B). The mean could be had from y as well, with two products fewer, but it is taken
//          from the slopes, and is exact enough for that only if it is made of the very same numbers.
// keys:    dk, dv. One threadgroup per 16 keys of a key head, 16 queries at a time of each head that shares it; grid
//          (ceil(T / 16) 128, K, B).
//
// All with 128 threads, four simdgroups. Threadgroup memory for D = 128 in float32: 22 KB forward, 21 KB backward.
// Scores, weights and sums are float32; weights and their slopes are rounded to the arrays' type before a product. How
// a simdgroup matrix lies in the lanes is nowhere assumed, but that all float matrices lie alike.

constant constexpr int THREADS = 128;
constant constexpr int BLOCK = 16;        // keys, and backward queries
constant constexpr int QUERIES = 32;      // forward
constant constexpr float LOWEST = -3e38f; // below every score, and no infinity, whose differences are not numbers

// WIDTH filled up to whole 8 x 8 blocks, and the stride of a row in threadgroup memory.
constexpr int padded(int width) { return (width + 7) / 8 * 8; }
constexpr int stride_of(int width) { return padded(width) + 8; }

inline bool visible(int query, int key, int length, int window) {
    return query < length && key <= query && query - key <= window;
}

// `count` rows, from number `first` on, of a head: zero beyond the array's end and beyond its width.
template <int WIDTH, typename T, typename P>
inline void stage(threadgroup T* tile, P source, int count, int first, int length, int row_stride, int thread_index) {
    for (int i = thread_index; i < count * padded(WIDTH); i += THREADS) {
        int row = i / padded(WIDTH), column = i % padded(WIDTH);
        T value = T(0.0f);
        if (first + row < length && column < WIDTH) {
            value = source[size_t(first + row) * row_stride + column];
        }
        tile[row * stride_of(WIDTH) + column] = value;
    }
}

// The mean of slopes by weights, as a centre, the slope of the heaviest weight, and what the mean is off it: where one
// weight is nearly 1, slopes less their mean are small, and keep their digits only as differences from that centre.
struct Mean {
    float centre;
    float heaviest;
    float weights;
    float offset;
};

inline Mean with_slope(Mean mean, float weight, float slope) {
    if (weight > mean.heaviest) {
        mean.offset += mean.weights * (mean.centre - slope);
        mean.centre = slope;
        mean.heaviest = weight;
    }
    mean.offset += weight * (slope - mean.centre);
    mean.weights += weight;
    return mean;
}

inline Mean joined(Mean a, Mean b) {
    bool other = b.heaviest > a.heaviest;
    float centre = other ? b.centre : a.centre;
    float offset = a.offset + b.offset + (other ? a.weights * (a.centre - centre) : b.weights * (b.centre - centre));
    return Mean{centre, max(a.heaviest, b.heaviest), a.weights + b.weights, offset};
}

inline Mean from_lane(Mean mean, ushort distance) {
    return Mean{simd_shuffle_xor(mean.centre, distance), simd_shuffle_xor(mean.heaviest, distance),
                simd_shuffle_xor(mean.weights, distance), simd_shuffle_xor(mean.offset, distance)};
}

// An 8 x 8 block times a factor per row to rows first.. and columns column.. of a head; `factor`: that of row lane / 4.
template <int WIDTH, typename T>
inline void write_block(simdgroup_matrix<float, 8, 8> block, threadgroup float* scratch, device T* target, int first,
                        int column, int length, int row_stride, float factor, int lane) {
    simdgroup_store(block, scratch, 8);
    simdgroup_barrier(mem_flags::mem_threadgroup);
    int row = first + lane / 4;
    for (int i = lane % 4 * 2; i < lane % 4 * 2 + 2; ++i) {
        if (row < length && column + i < WIDTH) {
            target[size_t(row) * row_stride + column + i] = T(scratch[lane / 4 * 8 + i] * factor);
        }
    }
    simdgroup_barrier(mem_flags::mem_threadgroup);
}

//! kernel forward(q, k, v, window, scale) -> (y, tops, totals)
constexpr int PARTS = padded(WIDTH) / 8;
constexpr int STRIDE = stride_of(WIDTH);
threadgroup T tiles[QUERIES * STRIDE];
threadgroup float score_tiles[QUERIES * BLOCK];
threadgroup T weight_tiles[QUERIES * BLOCK];
threadgroup float shrink_tiles[QUERIES * 8];
int thread_index = int(thread_position_in_threadgroup.x);
int simdgroup = int(simdgroup_index_in_threadgroup), lane = int(thread_index_in_simdgroup);
int length = q_shape[1], heads = q_shape[2], key_heads = k_shape[2];
int head = int(threadgroup_position_in_grid.y), batch = int(threadgroup_position_in_grid.z);
size_t query_start = (size_t(batch) * length * heads + head) * WIDTH;
size_t key_start = (size_t(batch) * length * key_heads + head / (heads / key_heads)) * WIDTH;
int first_query = int(threadgroup_position_in_grid.x) * QUERIES;
int first_row = first_query + simdgroup * 8, row = first_row + lane / 4;
threadgroup T* key_tile = tiles;
threadgroup T* value_tile = tiles + BLOCK * STRIDE;
threadgroup float* scores = score_tiles + simdgroup * 8 * BLOCK;
threadgroup T* weights = weight_tiles + simdgroup * 8 * BLOCK;
threadgroup float* shrinks = shrink_tiles + simdgroup * 64;

stage<WIDTH, T>(tiles, q + query_start, QUERIES, first_query, length, heads * WIDTH, thread_index);
threadgroup_barrier(mem_flags::mem_threadgroup);
simdgroup_matrix<T, 8, 8> queries[PARTS];
simdgroup_matrix<float, 8, 8> sums[PARTS];
for (int part = 0; part < PARTS; ++part) {
    simdgroup_load(queries[part], tiles + simdgroup * 8 * STRIDE + part * 8, STRIDE);
    sums[part] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
}

// Of this lane's row: the highest score so far, and the sum of the exponentials of the scores less that.
float top = LOWEST, total = 0.0f;
int end = min(length, first_query + QUERIES);
for (int key = max(0, first_query - window) / BLOCK * BLOCK; key < end; key += BLOCK) {
    threadgroup_barrier(mem_flags::mem_threadgroup);
    stage<WIDTH, T>(key_tile, k + key_start, BLOCK, key, length, key_heads * WIDTH, thread_index);
    stage<WIDTH, T>(value_tile, v + key_start, BLOCK, key, length, key_heads * WIDTH, thread_index);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    // Whole simdgroups have nothing to see: in the last blocks the first queries, in the first ones the last.
    if (first_row >= length || key > first_row + 7 || key + BLOCK - 1 < first_row - window) {
        continue;
    }
    for (int half_block = 0; half_block < 2; ++half_block) {
        simdgroup_matrix<float, 8, 8> products = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
        for (int part = 0; part < PARTS; ++part) {
            simdgroup_matrix<T, 8, 8> keys;
            simdgroup_load(keys, key_tile + half_block * 8 * STRIDE + part * 8, STRIDE, ulong2(0, 0), true);
            simdgroup_multiply_accumulate(products, queries[part], keys, products);
        }
        simdgroup_store(products, scores + half_block * 8, BLOCK);
    }
    simdgroup_barrier(mem_flags::mem_threadgroup);
    // Four lanes to a row, four keys to a lane.
    int place = lane / 4 * BLOCK + lane % 4 * 4;
    float mine[4];
    float highest = top;
    for (int i = 0; i < 4; ++i) {
        mine[i] = scores[place + i] * scale;
        if (visible(row, key + lane % 4 * 4 + i, length, window)) {
            highest = max(highest, mine[i]);
        }
    }
    highest = max(highest, simd_shuffle_xor(highest, ushort(1)));
    highest = max(highest, simd_shuffle_xor(highest, ushort(2)));
    float sum = 0.0f;
    for (int i = 0; i < 4; ++i) {
        bool seen = visible(row, key + lane % 4 * 4 + i, length, window);
        float weight = seen ? precise::exp(mine[i] - highest) : 0.0f;
        sum += weight;
        weights[place + i] = T(weight);
    }
    sum += simd_shuffle_xor(sum, ushort(1));
    sum += simd_shuffle_xor(sum, ushort(2));
    float shrink = precise::exp(top - highest);
    total = total * shrink + sum;
    top = highest;
    shrinks[lane * 2] = shrink;
    shrinks[lane * 2 + 1] = shrink;
    simdgroup_barrier(mem_flags::mem_threadgroup);
    // Element by element: in a product with a diagonal matrix one row's NaN would reach the others.
    simdgroup_matrix<float, 8, 8> shrinking;
    simdgroup_load(shrinking, shrinks, 8);
    for (int part = 0; part < PARTS; ++part) {
        sums[part].thread_elements()[0] *= shrinking.thread_elements()[0];
        sums[part].thread_elements()[1] *= shrinking.thread_elements()[1];
    }
    for (int half_block = 0; half_block < 2; ++half_block) {
        simdgroup_matrix<T, 8, 8> shares, values;
        simdgroup_load(shares, weights + half_block * 8, BLOCK);
        for (int part = 0; part < PARTS; ++part) {
            simdgroup_load(values, value_tile + half_block * 8 * STRIDE + part * 8, STRIDE);
            simdgroup_multiply_accumulate(sums[part], shares, values, sums[part]);
        }
    }
}
simdgroup_barrier(mem_flags::mem_threadgroup);
for (int part = 0; part < PARTS; ++part) {
    write_block<WIDTH, T>(
        sums[part], scores, y + query_start, first_row, part * 8, length, heads * WIDTH, 1.0f / total, lane);
}
if (lane % 4 == 0 && row < length) {
    size_t at = (size_t(batch) * heads + head) * length + row;
    tops[at] = top;
    totals[at] = total;
}

//! kernel queries(g, q, k, v, tops, totals, window, scale) -> (dq, centres, offsets)
constexpr int PARTS = padded(WIDTH) / 8;
constexpr int STRIDE = stride_of(WIDTH);
threadgroup T first_tile[BLOCK * STRIDE];
threadgroup T second_tile[BLOCK * STRIDE];
threadgroup float score_tiles[4 * 64];
threadgroup float slope_tiles[4 * 64];
threadgroup T slopes[BLOCK * BLOCK];
threadgroup float halves[2 * BLOCK * 4];
int thread_index = int(thread_position_in_threadgroup.x);
int simdgroup = int(simdgroup_index_in_threadgroup), lane = int(thread_index_in_simdgroup);
int length = q_shape[1], heads = q_shape[2], key_heads = k_shape[2];
int head = int(threadgroup_position_in_grid.y), batch = int(threadgroup_position_in_grid.z);
size_t query_start = (size_t(batch) * length * heads + head) * WIDTH;
size_t key_start = (size_t(batch) * length * key_heads + head / (heads / key_heads)) * WIDTH;
int first_query = int(threadgroup_position_in_grid.x) * BLOCK;
// Of the 16 x 16 scores each simdgroup takes a quarter: 8 queries and 8 keys.
int upper = simdgroup / 2 * 8, left = simdgroup % 2 * 8;
int row = first_query + upper + lane / 4;
size_t row_at = (size_t(batch) * heads + head) * length + row;
float row_top = row < length ? tops[row_at] : 0.0f, row_total = row < length ? totals[row_at] : 1.0f;
threadgroup float* scores = score_tiles + simdgroup * 64;
threadgroup float* weight_slopes = slope_tiles + simdgroup * 64;

stage<WIDTH, T>(first_tile, q + query_start, BLOCK, first_query, length, heads * WIDTH, thread_index);
stage<WIDTH, T>(second_tile, g + query_start, BLOCK, first_query, length, heads * WIDTH, thread_index);
threadgroup_barrier(mem_flags::mem_threadgroup);
simdgroup_matrix<T, 8, 8> queries[PARTS], cotangents[PARTS];
simdgroup_matrix<float, 8, 8> sums[(PARTS + 1) / 2];
for (int part = 0; part < PARTS; ++part) {
    simdgroup_load(queries[part], first_tile + upper * STRIDE + part * 8, STRIDE);
    simdgroup_load(cotangents[part], second_tile + upper * STRIDE + part * 8, STRIDE);
    sums[part / 2] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
}
int end = min(length, first_query + BLOCK);
Mean mean = Mean{0.0f, 0.0f, 0.0f, 0.0f};
for (int pass = 0; pass < 2; ++pass) {
    for (int key = max(0, first_query - window) / BLOCK * BLOCK; key < end; key += BLOCK) {
        threadgroup_barrier(mem_flags::mem_threadgroup);
        stage<WIDTH, T>(first_tile, k + key_start, BLOCK, key, length, key_heads * WIDTH, thread_index);
        stage<WIDTH, T>(second_tile, v + key_start, BLOCK, key, length, key_heads * WIDTH, thread_index);
        threadgroup_barrier(mem_flags::mem_threadgroup);
        simdgroup_matrix<float, 8, 8> products = make_filled_simdgroup_matrix<float, 8, 8>(0.0f), others = products;
        simdgroup_matrix<T, 8, 8> factor, values;
        for (int part = 0; part < PARTS; ++part) {
            simdgroup_load(factor, first_tile + left * STRIDE + part * 8, STRIDE, ulong2(0, 0), true);
            simdgroup_load(values, second_tile + left * STRIDE + part * 8, STRIDE, ulong2(0, 0), true);
            simdgroup_multiply_accumulate(products, queries[part], factor, products);
            simdgroup_multiply_accumulate(others, cotangents[part], values, others);
        }
        simdgroup_store(products, scores, 8);
        simdgroup_store(others, weight_slopes, 8);
        simdgroup_barrier(mem_flags::mem_threadgroup);
        for (int i = lane % 4 * 2; i < lane % 4 * 2 + 2; ++i) {
            int at = lane / 4 * 8 + i;
            float slope = 0.0f;
            if (visible(row, key + left + i, length, window)) {
                float weight = precise::exp(scores[at] * scale - row_top) / row_total;
                if (pass == 0) {
                    mean = with_slope(mean, weight, weight_slopes[at]);
                } else {
                    slope = weight * (weight_slopes[at] - mean.centre - mean.offset) * scale;
                }
            }
            slopes[(upper + lane / 4) * BLOCK + left + i] = T(slope);
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        if (pass == 0) {
            continue;
        }
        // Of dq a simdgroup takes 8 queries and every second block of columns.
        for (int half_block = 0; half_block < 2; ++half_block) {
            simdgroup_load(factor, slopes + upper * BLOCK + half_block * 8, BLOCK);
            for (int part = simdgroup % 2; part < PARTS; part += 2) {
                simdgroup_load(values, first_tile + half_block * 8 * STRIDE + part * 8, STRIDE);
                simdgroup_multiply_accumulate(sums[part / 2], factor, values, sums[part / 2]);
            }
        }
    }
    if (pass == 0) {
        // A row's keys are with four lanes of two simdgroups.
        mean = joined(mean, from_lane(mean, 1));
        mean = joined(mean, from_lane(mean, 2));
        threadgroup float* mine = halves + (upper + lane / 4) * 8;
        if (lane % 4 == 0) {
            mine[simdgroup % 2 * 4] = mean.centre;
            mine[simdgroup % 2 * 4 + 1] = mean.heaviest;
            mine[simdgroup % 2 * 4 + 2] = mean.weights;
            mine[simdgroup % 2 * 4 + 3] = mean.offset;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        mean = joined(Mean{mine[0], mine[1], mine[2], mine[3]}, Mean{mine[4], mine[5], mine[6], mine[7]});
        if (simdgroup % 2 == 0 && lane % 4 == 0 && row < length) {
            centres[row_at] = mean.centre;
            offsets[row_at] = mean.offset;
        }
    }
}
for (int part = simdgroup % 2; part < PARTS; part += 2) {
    write_block<WIDTH, T>(
        sums[part / 2], scores, dq + query_start, first_query + upper, part * 8, length, heads * WIDTH, 1.0f, lane);
}

//! kernel keys(g, q, k, v, tops, totals, centres, offsets, window, scale) -> (dk, dv)
constexpr int PARTS = padded(WIDTH) / 8;
constexpr int STRIDE = stride_of(WIDTH);
threadgroup T first_tile[BLOCK * STRIDE];
threadgroup T second_tile[BLOCK * STRIDE];
threadgroup float score_tiles[4 * 64];
threadgroup float slope_tiles[4 * 64];
threadgroup T weights[BLOCK * BLOCK];
threadgroup T slopes[BLOCK * BLOCK];
int thread_index = int(thread_position_in_threadgroup.x);
int simdgroup = int(simdgroup_index_in_threadgroup), lane = int(thread_index_in_simdgroup);
int length = q_shape[1], heads = q_shape[2], key_heads = k_shape[2];
int key_head = int(threadgroup_position_in_grid.y), batch = int(threadgroup_position_in_grid.z);
int shared_by = heads / key_heads;
size_t key_start = (size_t(batch) * length * key_heads + key_head) * WIDTH;
int first_key = int(threadgroup_position_in_grid.x) * BLOCK;
int upper = simdgroup / 2 * 8, left = simdgroup % 2 * 8;
threadgroup float* scores = score_tiles + simdgroup * 64;
threadgroup float* weight_slopes = slope_tiles + simdgroup * 64;

stage<WIDTH, T>(first_tile, k + key_start, BLOCK, first_key, length, key_heads * WIDTH, thread_index);
stage<WIDTH, T>(second_tile, v + key_start, BLOCK, first_key, length, key_heads * WIDTH, thread_index);
threadgroup_barrier(mem_flags::mem_threadgroup);
simdgroup_matrix<T, 8, 8> keys[PARTS], values[PARTS];
simdgroup_matrix<float, 8, 8> key_sums[(PARTS + 1) / 2], value_sums[(PARTS + 1) / 2];
for (int part = 0; part < PARTS; ++part) {
    simdgroup_load(keys[part], first_tile + left * STRIDE + part * 8, STRIDE, ulong2(0, 0), true);
    simdgroup_load(values[part], second_tile + left * STRIDE + part * 8, STRIDE, ulong2(0, 0), true);
    key_sums[part / 2] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
    value_sums[part / 2] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
}
// As a difference, which cannot overflow however wide the window is.
int end = window < length - first_key - BLOCK ? first_key + BLOCK + window : length;
for (int head = key_head * shared_by; head < (key_head + 1) * shared_by; ++head) {
    size_t query_start = (size_t(batch) * length * heads + head) * WIDTH;
    size_t rows_at = (size_t(batch) * heads + head) * length;
    for (int query = first_key; query < end; query += BLOCK) {
        threadgroup_barrier(mem_flags::mem_threadgroup);
        stage<WIDTH, T>(first_tile, q + query_start, BLOCK, query, length, heads * WIDTH, thread_index);
        stage<WIDTH, T>(second_tile, g + query_start, BLOCK, query, length, heads * WIDTH, thread_index);
        threadgroup_barrier(mem_flags::mem_threadgroup);
        simdgroup_matrix<float, 8, 8> products = make_filled_simdgroup_matrix<float, 8, 8>(0.0f), others = products;
        simdgroup_matrix<T, 8, 8> factor, rows;
        for (int part = 0; part < PARTS; ++part) {
            simdgroup_load(factor, first_tile + upper * STRIDE + part * 8, STRIDE);
            simdgroup_load(rows, second_tile + upper * STRIDE + part * 8, STRIDE);
            simdgroup_multiply_accumulate(products, factor, keys[part], products);
            simdgroup_multiply_accumulate(others, rows, values[part], others);
        }
        simdgroup_store(products, scores, 8);
        simdgroup_store(others, weight_slopes, 8);
        simdgroup_barrier(mem_flags::mem_threadgroup);
        int row = query + upper + lane / 4;
        float row_top = row < length ? tops[rows_at + row] : 0.0f;
        float row_total = row < length ? totals[rows_at + row] : 1.0f;
        float centre = row < length ? centres[rows_at + row] : 0.0f;
        float offset = row < length ? offsets[rows_at + row] : 0.0f;
        for (int i = lane % 4 * 2; i < lane % 4 * 2 + 2; ++i) {
            int at = lane / 4 * 8 + i, to = (upper + lane / 4) * BLOCK + left + i;
            float weight = 0.0f, slope = 0.0f;
            if (visible(row, first_key + left + i, length, window)) {
                weight = precise::exp(scores[at] * scale - row_top) / row_total;
                slope = weight * (weight_slopes[at] - centre - offset) * scale;
            }
            weights[to] = T(weight);
            slopes[to] = T(slope);
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        // Of dk and dv a simdgroup takes 8 keys and every second block of columns.
        for (int half_block = 0; half_block < 2; ++half_block) {
            simdgroup_matrix<T, 8, 8> shares;
            simdgroup_load(shares, weights + half_block * 8 * BLOCK + upper, BLOCK, ulong2(0, 0), true);
            simdgroup_load(factor, slopes + half_block * 8 * BLOCK + upper, BLOCK, ulong2(0, 0), true);
            for (int part = simdgroup % 2; part < PARTS; part += 2) {
                simdgroup_load(rows, second_tile + half_block * 8 * STRIDE + part * 8, STRIDE);
                simdgroup_multiply_accumulate(value_sums[part / 2], shares, rows, value_sums[part / 2]);
                simdgroup_load(rows, first_tile + half_block * 8 * STRIDE + part * 8, STRIDE);
                simdgroup_multiply_accumulate(key_sums[part / 2], factor, rows, key_sums[part / 2]);
            }
        }
    }
}
for (int part = simdgroup % 2; part < PARTS; part += 2) {
    int first = first_key + upper;
    write_block<WIDTH, T>(
        key_sums[part / 2], scores, dk + key_start, first, part * 8, length, key_heads * WIDTH, 1.0f, lane);
    write_block<WIDTH, T>(
        value_sums[part / 2], scores, dv + key_start, first, part * 8, length, key_heads * WIDTH, 1.0f, lane);
}
