// The Polar Express iteration on a stack of matrices g (N, R, C): normalisation, symmetric products, and the update.
//
// measure:   partial sums of squares. g (N, R, C) of any float type -> partials (N, P) float32, P <= THREADS; grid
//            (P THREADS, N, 1): threadgroup p takes every P-th run of THREADS elements of its matrix.
// normalise: x = g / (1.02 |g| + 1e-6), bfloat16. Each thread takes 4 neighbouring elements; grid (ceil(R C / 4)
//            rounded up to whole threadgroups, N, 1).
// symmetric: out = alpha M M' (+ beta S) (N, n, n) bfloat16, where M (n, depth) is a matrix of m (N, n, depth), or the
//            transpose of one of m (N, depth, n). One threadgroup per tile of 32 x 32 on or below the diagonal; what
//            lies above is the mirror image and is only written; grid (n' (n' + 1) / 2 THREADS, 1, N),
//            n' = ceil(n / 32).
// combine:   out = a x + left right (N, R, C) bfloat16, left (N, R, depth), right (N, depth, C); one threadgroup per
//            tile of 32 x 32; grid (ceil(C / 32) THREADS, ceil(R / 32), N).
//
// THREADS = 128: four simdgroups, each with a quarter of the tile, 16 x 16, in float32 accumulators. Operands go
// through threadgroup memory, which is where ragged edges are filled up with zeros: 5 KB, and 4 KB for the result.

constant constexpr int TILE = 32;
constant constexpr int SIDE = 16;              // of a simdgroup's quarter
constant constexpr int DEPTH = 32;             // of the strips of the operands that are in threadgroup memory at a time
constant constexpr int STRIDE = DEPTH + 8;     // of their rows, so that rows begin in different banks

// Rows first_row.. and columns first_k.. of a (rows, depth) matrix, zero outside of it; TRANSPOSED: of its transpose's
// storage.
template <bool TRANSPOSED, typename P>
inline void stage(threadgroup bfloat16_t* strip, P matrix, int rows, int depth, int first_row, int first_k,
                  int thread_index, int threads) {
    for (int i = thread_index; i < TILE * DEPTH; i += threads) {
        int row = TRANSPOSED ? i % TILE : i / DEPTH, k = TRANSPOSED ? i / TILE : i % DEPTH;
        int r = first_row + row, c = first_k + k;
        bfloat16_t value = bfloat16_t(0.0f);
        if (r < rows && c < depth) {
            value = matrix[TRANSPOSED ? size_t(c) * rows + r : size_t(r) * depth + c];
        }
        strip[row * STRIDE + k] = value;
    }
}

// sums (2 x 2 blocks of 8 x 8) += this simdgroup's quarter of left right', both strips of TILE rows.
inline void multiply(thread simdgroup_matrix<float, 8, 8>* sums, const threadgroup bfloat16_t* left,
                     const threadgroup bfloat16_t* right, int simdgroup) {
    const threadgroup bfloat16_t* upper = left + simdgroup / 2 * SIDE * STRIDE;
    const threadgroup bfloat16_t* other = right + simdgroup % 2 * SIDE * STRIDE;
    for (int k = 0; k < DEPTH; k += 8) {
        simdgroup_matrix<bfloat16_t, 8, 8> a[2], b[2];
        for (int i = 0; i < 2; ++i) {
            simdgroup_load(a[i], upper + i * 8 * STRIDE + k, STRIDE);
            simdgroup_load(b[i], other + i * 8 * STRIDE + k, STRIDE, ulong2(0, 0), true);
        }
        for (int i = 0; i < 4; ++i) {
            simdgroup_multiply_accumulate(sums[i], a[i / 2], b[i % 2], sums[i]);
        }
    }
}

inline void keep(const thread simdgroup_matrix<float, 8, 8>* sums, threadgroup float* tile, int simdgroup) {
    threadgroup float* quarter = tile + simdgroup / 2 * SIDE * TILE + simdgroup % 2 * SIDE;
    for (int i = 0; i < 4; ++i) {
        simdgroup_store(sums[i], quarter + i / 2 * 8 * TILE + i % 2 * 8, TILE);
    }
}

//! kernel measure(g) -> (partials)
threadgroup float shared[32];
int size = g_shape[1] * g_shape[2];
auto matrix = g + size_t(threadgroup_position_in_grid.y) * size;
int parts = int(threadgroups_per_grid.x), part = int(threadgroup_position_in_grid.x);
float squares = 0.0f;
for (int i = part * THREADS + int(thread_position_in_threadgroup.x); i < size; i += parts * THREADS) {
    squares += float(matrix[i]) * float(matrix[i]);
}
squares = group_sum(
    squares, shared, thread_index_in_simdgroup, simdgroup_index_in_threadgroup, simdgroups_per_threadgroup);
if (thread_position_in_threadgroup.x == 0) {
    partials[threadgroup_position_in_grid.y * parts + part] = squares;
}

//! kernel normalise(g, partials) -> (x)
threadgroup float shared[32];
int size = g_shape[1] * g_shape[2], parts = partials_shape[1];
int thread_index = int(thread_position_in_threadgroup.x);
size_t start = size_t(threadgroup_position_in_grid.y) * size;
float squares = thread_index < parts ? partials[threadgroup_position_in_grid.y * parts + thread_index] : 0.0f;
squares = group_sum(
    squares, shared, thread_index_in_simdgroup, simdgroup_index_in_threadgroup, simdgroups_per_threadgroup);
float norm = precise::sqrt(squares) * 1.02f + 1e-6f;
int first = 4 * int(thread_position_in_grid.x);
for (int i = first; i < min(first + 4, size); ++i) {
    x[start + i] = bfloat16_t(float(g[start + i]) / norm);
}

//! kernel symmetric(m, s, alpha, beta) -> (out)
threadgroup bfloat16_t upper[TILE * STRIDE];
threadgroup bfloat16_t lower[TILE * STRIDE];
threadgroup float tile[TILE * TILE];
int thread_index = int(thread_position_in_threadgroup.x);
int simdgroup = int(simdgroup_index_in_threadgroup);
size_t number = threadgroup_position_in_grid.z;
int n = m_shape[TRANSPOSED ? 2 : 1], depth = m_shape[TRANSPOSED ? 1 : 2];
auto matrix = m + number * n * depth;

// Tiles are counted along the rows of the lower triangle; the root can come out one off.
int index = int(threadgroup_position_in_grid.x);
int i = int((precise::sqrt(8.0f * float(index) + 1.0f) - 1.0f) / 2.0f);
i = i * (i + 1) / 2 > index ? i - 1 : i;
i = (i + 1) * (i + 2) / 2 <= index ? i + 1 : i;
int first_row = i * TILE, first_column = (index - i * (i + 1) / 2) * TILE;

simdgroup_matrix<float, 8, 8> sums[4];
for (int block = 0; block < 4; ++block) {
    sums[block] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
}
for (int k = 0; k < depth; k += DEPTH) {
    stage<TRANSPOSED>(upper, matrix, n, depth, first_row, k, thread_index, THREADS);
    stage<TRANSPOSED>(lower, matrix, n, depth, first_column, k, thread_index, THREADS);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    multiply(sums, upper, lower, simdgroup);
    threadgroup_barrier(mem_flags::mem_threadgroup);
}
keep(sums, tile, simdgroup);
threadgroup_barrier(mem_flags::mem_threadgroup);
// Neighbouring threads write neighbouring elements, of the tile first and then of its mirror image.
for (int mirrored = 0; mirrored < (first_row == first_column ? 1 : 2); ++mirrored) {
    for (int place = thread_index; place < TILE * TILE; place += THREADS) {
        int r = place / TILE, c = place % TILE;
        int row = r + (mirrored ? first_column : first_row), column = c + (mirrored ? first_row : first_column);
        if (row < n && column < n) {
            size_t to = (number * n + row) * n + column;
            float value = alpha * tile[mirrored ? c * TILE + r : place];
            out[to] = bfloat16_t(ADD ? value + beta * float(s[to]) : value);
        }
    }
}

//! kernel combine(x, left, right, a) -> (out)
threadgroup bfloat16_t upper[TILE * STRIDE];
threadgroup bfloat16_t lower[TILE * STRIDE];
threadgroup float tile[TILE * TILE];
int thread_index = int(thread_position_in_threadgroup.x);
int simdgroup = int(simdgroup_index_in_threadgroup);
size_t number = threadgroup_position_in_grid.z;
int rows = x_shape[1], columns = x_shape[2], depth = left_shape[2];
auto first_factor = left + number * rows * depth;
auto second_factor = right + number * depth * columns;
int first_row = int(threadgroup_position_in_grid.y) * TILE, first_column = int(threadgroup_position_in_grid.x) * TILE;

simdgroup_matrix<float, 8, 8> sums[4];
for (int block = 0; block < 4; ++block) {
    sums[block] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
}
for (int k = 0; k < depth; k += DEPTH) {
    stage<false>(upper, first_factor, rows, depth, first_row, k, thread_index, THREADS);
    stage<true>(lower, second_factor, columns, depth, first_column, k, thread_index, THREADS);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    multiply(sums, upper, lower, simdgroup);
    threadgroup_barrier(mem_flags::mem_threadgroup);
}
keep(sums, tile, simdgroup);
threadgroup_barrier(mem_flags::mem_threadgroup);
for (int place = thread_index; place < TILE * TILE; place += THREADS) {
    int row = first_row + place / TILE, column = first_column + place % TILE;
    if (row < rows && column < columns) {
        size_t to = (number * rows + row) * columns + column;
        out[to] = bfloat16_t(tile[place] + a * float(x[to]));
    }
}
