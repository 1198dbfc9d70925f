/* What stands between the products of a decoding step. PyTorch needs some thirty operators a layer
   for it, each of which costs a few rows more to call than to compute. compiled.py compiles this
   file where there is a C compiler; where there is none, llama.py and lanes.py do the same with
   PyTorch.

   All arithmetic is in fp32. Threads share rows. */

#include "common.h"

#define WIDTH 16 /* numbers summed side by side */

/* e^x as 2^n times a polynomial (Cephes' expf), which compilers vectorize. Beyond 60, where a
   sigmoid is 0 or 1, it stands still: its inverse is then never a denormal, which is slow. NaN
   stays NaN. */
INLINE float exponential(float given) {
    float x = given;
    x = x > -60.0f ? x : -60.0f;
    x = x < 60.0f ? x : 60.0f;
    float n = floorf(x * 1.44269504f + 0.5f);
    float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    uint32_t bits = (uint32_t)((int32_t)n + 127) << 23;
    float power;
    memcpy(&power, &bits, sizeof power);
    return given == given ? p * power : given;
}

typedef struct {
    real *x;
    const real *more, *weight;
    float eps;
    int64_t width;
    real *out;
} sums;

static void norm_rows(const void *given, int64_t from, int64_t to, int64_t thread) {
    const sums *all = given;
    const int64_t width = all->width;
    (void)thread;
    for (int64_t row = from; row < to; row++) {
        real *restrict x = all->x + row * width, *restrict out = all->out + row * width;
        const real *restrict weight = all->weight;
        float sum = 0;
        if (all->more) {
            const real *restrict more = all->more + row * width;
            for (int64_t i = 0; i < width; i++) x[i] = narrow(wide(x[i]) + wide(more[i]));
        }
        for (int64_t i = 0; i < width; i++) sum += wide(x[i]) * wide(x[i]);
        float scale = 1.0f / sqrtf(sum / width + all->eps);
        for (int64_t i = 0; i < width; i++) out[i] = narrow(wide(x[i]) * scale * wide(weight[i]));
    }
}

/* Adds `more` (rows, width), unless it is NULL, to x in place; then `out` is its root-mean-square
   norm, times `weight` (width,). */
void add_norm(real *x, const real *more, const real *weight, float eps, int64_t rows,
              int64_t width, real *out, share *with, int64_t threads) {
    sums all = {x, more, weight, eps, width, out};
    divide(norm_rows, &all, rows, 1, with, threads);
}

/* What `weight` rows, four at a time if there are as many, make of x (width,). */
INLINE void dots(const real *restrict x, const real *restrict weight, int64_t rows, int64_t width,
                 real *restrict out) {
    for (; rows >= 4; rows -= 4, weight += 4 * width, out += 4) {
        float a = 0, b = 0, c = 0, d = 0;
        for (int64_t i = 0; i < width; i++) {
            a += wide(x[i]) * wide(weight[i]);
            b += wide(x[i]) * wide(weight[i + width]);
            c += wide(x[i]) * wide(weight[i + 2 * width]);
            d += wide(x[i]) * wide(weight[i + 3 * width]);
        }
        out[0] = narrow(a), out[1] = narrow(b), out[2] = narrow(c), out[3] = narrow(d);
    }
    for (; rows > 0; rows--, weight += width, out++) {
        float sum = 0;
        for (int64_t i = 0; i < width; i++) sum += wide(x[i]) * wide(weight[i]);
        *out = narrow(sum);
    }
}

typedef struct {
    const real *x, *down;
    int64_t width, ranks, on, most, low, copies;
    real *out;
} adapter;

static void beside_rows(const void *given, int64_t from, int64_t to, int64_t thread) {
    const adapter *all = given;
    const int64_t size = all->most + all->copies * all->low;
    (void)thread;
    for (int64_t row = from; row < to; row++) {
        const real *x = all->x + row * all->width;
        real *out = all->out + row * size;
        memset(out, 0, size * sizeof(real));
        memcpy(out, x, all->width * sizeof(real));
        if (row >= all->on) continue;
        dots(x, all->down, all->ranks, all->width, out + all->most);
        for (int64_t copy = 1; copy < all->copies; copy++)
            memcpy(out + all->most + copy * all->low, out + all->most, all->ranks * sizeof(real));
    }
}

/* Rows that a weight with an adapter's second matrices beside it reads: x (rows, width), and
   `copies` times what the first ones, `down` (ranks, width), make of it; zeros after row `on`. Each
   part is filled up with zeros to a multiple of `group`. */
void beside(const real *x, const real *down, int64_t rows, int64_t width, int64_t ranks, int64_t on,
            int64_t group, int64_t copies, real *out, share *with, int64_t threads) {
    int64_t most = (width + group - 1) / group * group, low = (ranks + group - 1) / group * group;
    adapter all = {x, down, width, ranks, on, most, low, copies, out};
    divide(beside_rows, &all, rows, 1, with, threads);
}

typedef struct {
    const real *both;
    int64_t width;
    real *out;
} gates;

static void silu_rows(const void *given, int64_t from, int64_t to, int64_t thread) {
    const gates *all = given;
    const int64_t width = all->width;
    (void)thread;
    for (int64_t row = from; row < to; row++) {
        const real *restrict both = all->both + 2 * row * width;
        real *restrict out = all->out + row * width;
        for (int64_t i = 0; i < width; i++) {
            float gate = wide(both[i]);
            out[i] = narrow(gate / (1.0f + exponential(-gate)) * wide(both[width + i]));
        }
    }
}

/* silu(gate) * up, for rows that hold `gate` (width,) and then `up` (width,). */
void silu_times(const real *both, int64_t rows, int64_t width, real *out, share *with,
                int64_t threads) {
    gates all = {both, width, out};
    divide(silu_rows, &all, rows, 1, with, threads);
}

/* A head x (dim,) with its rotary embedding, normed before unless `weight` is NULL. */
INLINE void turned(const real *restrict x, const real *restrict weight, float eps,
                   const real *restrict cosine, const real *restrict sine, int64_t dim,
                   real *restrict out) {
    int64_t half = dim / 2;
    float scale = 1;
    if (weight) {
        float sum = 0;
        for (int64_t i = 0; i < dim; i++) sum += wide(x[i]) * wide(x[i]);
        scale = 1.0f / sqrtf(sum / dim + eps);
    }
    for (int64_t i = 0; i < half; i++) {
        float low = wide(x[i]), high = wide(x[i + half]);
        if (weight) {
            low *= scale * wide(weight[i]);
            high *= scale * wide(weight[i + half]);
        }
        out[i] = narrow(low * wide(cosine[i]) + high * wide(sine[i]));
        out[i + half] = narrow(high * wide(cosine[i + half]) + low * wide(sine[i + half]));
    }
}

typedef struct {
    const real *heads, *cosine, *sine, *query_norm, *key_norm;
    float query_eps, key_eps;
    const int64_t *slots;
    int64_t queries, pairs, dim, own;
    real *keys, *values, *out;
} tokens;

static void place_lanes(const void *given, int64_t from, int64_t to, int64_t thread) {
    const tokens *all = given;
    const int64_t dim = all->dim, own = all->own;
    (void)thread;
    for (int64_t lane = from; lane < to; lane++) {
        const real *heads = all->heads + lane * (all->queries + 2 * all->pairs) * dim;
        const real *cosine = all->cosine + lane * dim, *sine = all->sine + lane * dim;
        real *out = all->out + lane * all->queries * dim;
        const int64_t at = (lane * all->pairs * own + all->slots[lane]) * dim;
        real *keys = all->keys + at, *values = all->values + at;
        for (int64_t head = 0; head < all->queries; head++, heads += dim, out += dim)
            turned(heads, all->query_norm, all->query_eps, cosine, sine, dim, out);
        for (int64_t head = 0; head < all->pairs; head++, heads += dim, keys += own * dim)
            turned(heads, all->key_norm, all->key_eps, cosine, sine, dim, keys);
        for (int64_t head = 0; head < all->pairs; head++, heads += dim, values += own * dim)
            memcpy(values, heads, dim * sizeof(real));
    }
}

/* Reads the new token of each lane, heads of queries, keys and values (lanes, queries + 2 * pairs,
   dim): turned queries go to `out` (lanes, queries, dim), keys and values to the lane's `slots` in
   a layer's cache, `keys` and `values` (lanes, pairs, own, dim). `cosine` and `sine` are (lanes,
   dim); the norms of queries and keys are (dim,) or NULL. */
void place(const real *heads, const real *cosine, const real *sine, const real *query_norm,
           float query_eps, const real *key_norm, float key_eps, const int64_t *slots,
           int64_t lanes, int64_t queries, int64_t pairs, int64_t dim, int64_t own, real *keys,
           real *values, real *out, share *with, int64_t threads) {
    tokens all = {heads, cosine, sine, query_norm, key_norm, query_eps, key_eps, slots,
                  queries, pairs, dim, own, keys, values, out};
    divide(place_lanes, &all, lanes, 1, with, threads);
}

/* Scores `gap` apart, (queries, count), of keys (count, dim) with queries (queries, dim). */
INLINE void score(const float *restrict q, const real *restrict keys, int64_t queries,
                  int64_t count, int64_t dim, float *restrict scores, int64_t gap) {
    for (int64_t t = 0; t < count; t++)
        for (int64_t i = 0; i < queries; i++) {
            const real *restrict key = keys + t * dim;
            const float *restrict query = q + i * dim;
            float parts[WIDTH] = {0}, sum = 0;
            for (int64_t d = 0; d < dim; d += WIDTH)
                for (int w = 0; w < WIDTH; w++) parts[w] += query[d + w] * wide(key[d + w]);
            for (int w = 0; w < WIDTH; w++) sum += parts[w];
            scores[i * gap + t] = sum;
        }
}

/* Adds to `size` columns of `out` those of values (count, dim), weighted: so many sums at once as a
   processor has registers for. */
INLINE void mix_columns(const float *restrict weights, const real *restrict values, int64_t count,
                        int64_t dim, float *restrict out, const int size) {
    float sums[64] = {0};
    for (int64_t t = 0; t < count; t++)
        for (int w = 0; w < size; w++) sums[w] += weights[t] * wide(values[t * dim + w]);
    for (int w = 0; w < size; w++) out[w] += sums[w];
}

/* Adds to `out` (queries, dim) the sums of values (count, dim), weighted. */
INLINE void mix(const float *restrict weights, const real *restrict values, int64_t queries,
                int64_t count, int64_t dim, float *restrict out, int64_t gap) {
    for (int64_t i = 0; i < queries; i++, weights += gap, out += dim) {
        int64_t d = 0;
        for (; d + 64 <= dim; d += 64) mix_columns(weights, values + d, count, dim, out + d, 64);
        for (; d < dim; d += WIDTH) mix_columns(weights, values + d, count, dim, out + d, WIDTH);
    }
}

typedef struct {
    const real *q;
    const int64_t *about, *contexts;
    const real *keys, *values;
    int64_t pairs, each, dim, own;
    float scale;
    float *work;
    int64_t room;
    real *out;
} attention;

/* For pairs of key and value heads, of all lanes. */
static void attend_pairs(const void *given, int64_t from, int64_t to, int64_t thread) {
    const attention *all = given;
    const int64_t each = all->each, dim = all->dim, pairs = all->pairs, own = all->own;
    float *query = all->work + thread * all->room, *found = query + each * dim;
    float *weights = found + each * dim;
    for (int64_t at = from; at < to; at++) {
        const int64_t lane = at / pairs, pair = at % pairs;
        const int64_t *about = all->about + 3 * lane, *contexts = all->contexts + 2 * lane;
        const real *q = all->q + at * each * dim;
        real *out = all->out + at * each * dim;
        const int64_t first = about[0], mine = about[1] - first, shared = about[2];
        const int64_t count = shared + mine, base = (at * own + first) * dim;
        const real *k = (const real *)contexts[0] + pair * shared * dim;
        const real *v = (const real *)contexts[1] + pair * shared * dim;
        for (int64_t i = 0; i < each * dim; i++) query[i] = wide(q[i]) * all->scale;
        score(query, k, each, shared, dim, weights, count);
        score(query, all->keys + base, each, mine, dim, weights + shared, count);
        memset(found, 0, each * dim * sizeof(float));
        for (int64_t i = 0; i < each; i++) {
            float *w = weights + i * count, most = w[0], sum = 0;
            for (int64_t t = 0; t < count; t++) most = w[t] > most ? w[t] : most;
            for (int64_t t = 0; t < count; t++) w[t] = exponential(w[t] - most);
            for (int64_t t = 0; t < count; t++) sum += w[t];
            for (int64_t t = 0; t < count; t++) w[t] /= sum;
        }
        mix(weights, v, each, shared, dim, found, count);
        mix(weights + shared, all->values + base, each, mine, dim, found, count);
        for (int64_t i = 0; i < each * dim; i++) out[i] = narrow(found[i]);
    }
}

/* What each lane's queries (lanes, pairs * each, dim) find in `shared` tokens of a context, at
   `contexts` (lanes, 2: keys, values), and in its own from `first` to `last`. `about` (lanes, 3) is
   first, last + 1, shared; `out` as the queries. `work` has `room` for each * (2 * dim + tokens)
   for each thread. */
void attend(const real *q, const int64_t *about, const int64_t *contexts, const real *keys,
            const real *values, int64_t lanes, int64_t pairs, int64_t each, int64_t dim,
            int64_t own, float scale, float *work, int64_t room, real *out, share *with,
            int64_t threads) {
    attention all = {q, about, contexts, keys, values, pairs, each, dim, own, scale, work, room, out};
    divide(attend_pairs, &all, lanes * pairs, 1, with, threads);
}
