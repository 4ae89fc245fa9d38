// Softcapped cross entropy, z = cap tanh(logits / cap), of logits (N, V) with targets (N,); -1 is ignored.
//
// forward:  one threadgroup of THREADS threads per row; grid (THREADS, N, 1). Reads the row once.
//           losses, tops, sums (N,) float32: the loss, the row's highest z, and the sum of exp(z - top). The logsumexp is
//           kept in two parts, because as one number of the cap's size it would lose digits that gradients need.
// backward: THREADS threads take SPAN = 4 THREADS neighbouring classes of one row; grid (ceil(V / SPAN) THREADS, N, 1).
//           gradient (N, V) in the logits' type. Nothing is shared between threads.
//
// THREADS is a multiple of 32. Arithmetic is float32 whatever the logits' type.

// A running sum of exponentials: `sum` of exp(z - top) over the values seen, `top` their maximum so far.
struct Tally {
    float top;
    float sum;
};

// One exponential per value. A NaN does not become the maximum, but makes the sum NaN.
inline Tally with_value(Tally seen, float z) {
    float distance = z - seen.top;
    float smaller = precise::exp(-abs(distance));
    seen.sum = distance > 0.0f ? seen.sum * smaller + 1.0f : seen.sum + smaller;
    seen.top = max(seen.top, z);
    return seen;
}

inline Tally joined(Tally a, Tally b) {
    float top = max(a.top, b.top);
    return Tally{top, a.sum * precise::exp(a.top - top) + b.sum * precise::exp(b.top - top)};
}

// The tally of all 32 lanes, in every lane.
inline Tally simd_joined(Tally mine) {
    for (ushort step = 16; step > 0; step /= 2) {
        Tally other = Tally{simd_shuffle_xor(mine.top, step), simd_shuffle_xor(mine.sum, step)};
        mine = joined(mine, other);
    }
    return mine;
}

//! kernel forward(logits, targets, softcap) -> (losses, tops, sums)
threadgroup float part_tops[32];
threadgroup float part_sums[32];
uint row = threadgroup_position_in_grid.y;
uint thread_index = thread_position_in_threadgroup.x;
uint lane = thread_index_in_simdgroup;
int classes = logits_shape[1];
auto values = logits + size_t(row) * classes;

// -cap is below every z: with it as the first maximum there is no infinity to take differences of.
Tally seen = Tally{-softcap, 0.0f};
for (int first = 4 * int(thread_index); first < classes; first += 4 * THREADS) {
    for (int i = first; i < min(first + 4, classes); ++i) {
        seen = with_value(seen, softcap * precise::tanh(float(values[i]) / softcap));
    }
}
seen = simd_joined(seen);
if (lane == 0) {
    part_tops[simdgroup_index_in_threadgroup] = seen.top;
    part_sums[simdgroup_index_in_threadgroup] = seen.sum;
}
threadgroup_barrier(mem_flags::mem_threadgroup);
if (simdgroup_index_in_threadgroup == 0) {
    bool used = lane < THREADS / 32;
    seen = simd_joined(Tally{used ? part_tops[lane] : -softcap, used ? part_sums[lane] : 0.0f});
    if (lane == 0) {
        int target = int(targets[row]);
        float loss = 0.0f;
        if (target != -1) {
            // A target that is no class has no loss: not a number, rather than a read outside of the row.
            bool known = target >= 0 && target < classes;
            float picked = known ? softcap * precise::tanh(float(values[target]) / softcap) : NAN;
            loss = seen.top - picked + precise::log(seen.sum);
        }
        losses[row] = loss;
        tops[row] = seen.top;
        sums[row] = seen.sum;
    }
}

//! kernel backward(logits, targets, softcap, tops, sums, shares) -> (gradient)
uint row = thread_position_in_grid.y;
int classes = logits_shape[1];
int target = int(targets[row]);
float share = shares[row];
float top = tops[row], sum = sums[row];
size_t start = size_t(row) * classes;
int first = 4 * int(thread_position_in_grid.x);
for (int i = first; i < min(first + 4, classes); ++i) {
    float slope = 0.0f;
    if (target != -1) {
        float x = float(logits[start + i]) / softcap;
        float weight = precise::exp(softcap * precise::tanh(x) - top) / sum - (i == target ? 1.0f : 0.0f);
        // 1 - tanh(x)^2, which as a difference would lose its digits near the cap.
        float decay = precise::exp(-2.0f * abs(x));
        slope = weight * (4.0f * decay / ((1.0f + decay) * (1.0f + decay))) * share;
    }
    gradient[start + i] = static_cast<T>(slope);
}
