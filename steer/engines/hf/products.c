/* Products of a few rows, which take as long as their weights are read from memory. Weights are in
   the order that they are read in, two places at once. Weights of four and eight bits are multiplied
   as whole numbers, with rows that are rounded to eight bits in groups of columns; words (bf16, fp16,
   fp32) in fp32. PyTorch's kernels read half as fast. */

#include "common.h"

#ifdef __AVX2__
#include <immintrin.h>

#define STEP (4 * OUTPUTS) /* bytes of an instruction for each of them */
#define PLACES 2           /* that are read at once */
#define SUMS 4             /* that one row of words is summed to, as each addition takes a while */
#define CHUNKS 6           /* of rows that are multiplied with what was read once, at most */
#define AHEAD 1024         /* bytes to fetch before they are read */

#ifdef __AVX512BW__
#define PARTS 1 /* registers for all `OUTPUTS` */
#define ROWS 8  /* rows of a chunk, as there are registers for their sums */
typedef __m512i ints;
typedef __m512 reals;
#define DO(name) _mm512_##name
#define AND _mm512_and_si512
#define AS_REALS _mm512_castsi512_ps
#define LOAD _mm512_loadu_si512
#define LOAD_SHORTS(from) _mm256_loadu_si256((const __m256i *)(from))
#else
#define PARTS 2
#define ROWS 4
typedef __m256i ints;
typedef __m256 reals;
#define DO(name) _mm256_##name
#define AND _mm256_and_si256
#define AS_REALS _mm256_castsi256_ps
#define LOAD(from) _mm256_loadu_si256((const __m256i *)(from))
#define LOAD_SHORTS(from) _mm_loadu_si128((const __m128i *)(from))
#endif
#define LANES (OUTPUTS / PARTS)

#ifdef BF16
#define TOGETHER 2 /* columns of words that stand side by side */
#else
#define TOGETHER 1
#endif

/* Rows to multiply: in fp32 for words; else rounded, with a scale and a sum for each group. */
typedef struct {
    float *exact;
    int8_t *rounded;
    float *scales;
    int32_t *sums;
} operand;

/* A product. It goes to `found` in fp32, or to `out`. */
typedef struct {
    const operand *x;
    const matrix *weight;
    int64_t rows, row_groups, outputs;
    float *found;
    real *out;
} product;

/* Rounds x (GROUP,) to group `at`. If there is no number in it, its scale is none. */
INLINE void round_group(const float *restrict x, const operand *to, int64_t at) {
    int8_t *restrict rounded = to->rounded + at * GROUP;
    float most = 0, wrong = 0;
    int32_t sum = 0;
    for (int i = 0; i < GROUP; i++) {
        most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
        wrong += x[i] * 0;
    }
    float inverse = most > 1e-30f && wrong == 0 ? 127 / most : 0;
    for (int i = 0; i < GROUP; i++) {
        int32_t value = wrong == 0 ? (int32_t)rintf(x[i] * inverse) : 0;
        rounded[i] = (int8_t)value;
        sum += value;
    }
    to->scales[at] = most / 127 + wrong;
    to->sums[at] = sum;
}

/* Puts what `GET` makes of x (width,) into groups from `at` on. */
#define PUT(GET)                                                                                  \
    for (; width > 0; width -= GROUP, x += GROUP, at++) {                                         \
        float some[GROUP] = {0};                                                                  \
        for (int i = 0; i < GROUP && i < width; i++) some[i] = GET(x[i]);                         \
        if (to->exact) memcpy(to->exact + at * GROUP, some, sizeof some);                         \
        else round_group(some, to, at);                                                           \
    }

static void put_reals(const real *x, int64_t width, const operand *to, int64_t at) { PUT(wide) }
static void put_floats(const float *x, int64_t width, const operand *to, int64_t at) { PUT() }

/* The same four columns of a row for every output. */
INLINE ints four(const int8_t *from) {
    int32_t columns;
    memcpy(&columns, from, sizeof columns);
    return DO(set1_epi32)(columns);
}

/* What a group of columns adds to the sums of `rows` rows from `row` on, for four bits. Sums of 16
   bits hold it: 8 * 2 * 15 * 127. */
INLINE void add_four(const product *p, const uint8_t *values, const uint32_t *scales, int64_t group,
                     int64_t row, const int rows, reals (*sums)[ROWS]) {
    const ints low = DO(set1_epi8)(15), ones = DO(set1_epi16)(1);
    for (int part = 0; part < PARTS; part++) {
        ints weights[8], both = LOAD(scales + part * LANES);
        for (int step = 0; step < 4; step++) {
            ints bytes = LOAD(values + step * STEP + part * 4 * LANES);
            weights[step] = AND(bytes, low);
            weights[4 + step] = AND(DO(srli_epi16)(bytes, 4), low);
        }
        reals scale = AS_REALS(DO(slli_epi32)(both, 16));
        reals middle = AS_REALS(AND(both, DO(set1_epi32)((int32_t)0xffff0000)));
        for (int i = 0; i < rows; i++) {
            int64_t place = (row + i) * p->row_groups + group;
            const int8_t *x = p->x->rounded + place * GROUP;
            ints pairs = DO(maddubs_epi16)(weights[0], four(x));
            for (int step = 1; step < 8; step++)
                pairs = DO(add_epi16)(pairs, DO(maddubs_epi16)(weights[step], four(x + 4 * step)));
            int32_t sum = p->x->sums[place];
            ints whole = DO(sub_epi32)(DO(madd_epi16)(pairs, ones), DO(set1_epi32)(8 * sum));
            reals beside = DO(mul_ps)(middle, DO(set1_ps)((float)sum));
            reals value = DO(fmadd_ps)(DO(cvtepi32_ps)(whole), scale, beside);
            sums[part][i] = DO(fmadd_ps)(value, DO(set1_ps)(p->x->scales[place]), sums[part][i]);
        }
    }
}

/* The same for eight bits, four and four. */
INLINE void add_eight(const product *p, const uint8_t *values, int64_t group, int64_t row,
                      const int rows, reals (*sums)[ROWS]) {
    const ints low = DO(set1_epi8)(15), ones = DO(set1_epi16)(1), sixteens = DO(set1_epi16)(16);
    for (int part = 0; part < PARTS; part++) {
        ints lower[ROWS], upper[ROWS];
        for (int i = 0; i < rows; i++) lower[i] = upper[i] = DO(set1_epi32)(0);
        for (int step = 0; step < 8; step++) {
            ints bytes = LOAD(values + step * STEP + part * 4 * LANES);
            ints below = AND(bytes, low), above = AND(DO(srli_epi16)(bytes, 4), low);
            for (int i = 0; i < rows; i++) {
                int64_t place = (row + i) * p->row_groups + group;
                ints x = four(p->x->rounded + place * GROUP + 4 * step);
                lower[i] = DO(add_epi16)(lower[i], DO(maddubs_epi16)(below, x));
                upper[i] = DO(add_epi16)(upper[i], DO(maddubs_epi16)(above, x));
            }
        }
        for (int i = 0; i < rows; i++) {
            int64_t place = (row + i) * p->row_groups + group;
            ints whole = DO(madd_epi16)(upper[i], sixteens);
            whole = DO(add_epi32)(whole, DO(madd_epi16)(lower[i], ones));
            whole = DO(sub_epi32)(whole, DO(set1_epi32)(128 * p->x->sums[place]));
            reals value = DO(cvtepi32_ps)(whole);
            sums[part][i] = DO(fmadd_ps)(value, DO(set1_ps)(p->x->scales[place]), sums[part][i]);
        }
    }
}

/* The same for words, to `SUMS` / `rows` sums of each row where those are `apart`. */
INLINE void add_words(const product *p, const uint8_t *values, int64_t group, int64_t row,
                      const int rows, const int bits, const int apart,
                      reals (*sums)[PARTS][ROWS]) {
    const float *x = p->x->exact + (row * p->row_groups + group) * GROUP;
    const int64_t next = p->row_groups * GROUP;
    const int some = apart ? SUMS / rows : 1;
    reals mine[SUMS][PARTS][ROWS]; /* in registers */
    for (int sum = 0; sum < some; sum++)
        for (int part = 0; part < PARTS; part++)
            for (int i = 0; i < rows; i++) mine[sum][part][i] = sums[sum][part][i];
    for (int step = 0; step < GROUP / TOGETHER; step++)
        for (int part = 0; part < PARTS; part++) {
            const uint8_t *at = values + (step * OUTPUTS + part * LANES) * TOGETHER * bits / 8;
#ifdef BF16
            const ints both = LOAD(at);
            const reals first = AS_REALS(DO(slli_epi32)(both, 16));
            const reals second = AS_REALS(AND(both, DO(set1_epi32)((int32_t)0xffff0000)));
#else
            const reals first = bits == 32 ? DO(loadu_ps)((const float *)at)
                                           : DO(cvtph_ps)(LOAD_SHORTS(at));
#endif
            for (int i = 0; i < rows; i++) {
                const float *columns = x + i * next + step * TOGETHER;
                reals *sum = &mine[step % some][part][i];
                *sum = DO(fmadd_ps)(first, DO(set1_ps)(columns[0]), *sum);
#ifdef BF16
                *sum = DO(fmadd_ps)(second, DO(set1_ps)(columns[1]), *sum);
#endif
            }
        }
    for (int sum = 0; sum < some; sum++)
        for (int part = 0; part < PARTS; part++)
            for (int i = 0; i < rows; i++) sums[sum][part][i] = mine[sum][part][i];
}

/* Writes `OUTPUTS` of a row from output `at` on, which is the `i`th of its chunk: the total of its
   first `count` sums. */
INLINE void write_row(const product *p, int64_t at, int64_t row, int i, const int count,
                      const int bits, reals (*sums)[PARTS][ROWS]) {
    float found[OUTPUTS];
    for (int part = 0; part < PARTS; part++) {
        reals sum = sums[0][part][i];
        for (int more = 1; more < count; more++) sum = DO(add_ps)(sum, sums[more][part][i]);
        if (bits == 8) {
            const float *scales = (const float *)p->weight->scales + at;
            sum = DO(mul_ps)(sum, DO(loadu_ps)(scales + part * LANES));
        }
        DO(storeu_ps)(found + part * LANES, sum);
    }
    const int64_t to = row * p->outputs + at;
    for (int64_t k = 0; k < OUTPUTS && at + k < p->outputs; k++)
        if (p->found) p->found[to + k] = found[k];
        else p->out[to + k] = narrow(found[k]);
}

/* `OUTPUTS` from output `at` on, and those `gap` after them, of `chunks` times `rows` rows from
   `row` on. */
INLINE void of(const product *p, int64_t at, int64_t gap, int64_t row, int64_t chunks,
               const int rows, const int bits) {
    const int64_t groups = p->weight->groups, size = OUTPUTS * GROUP * bits / 8;
    const int apart = bits > 8 && rows < 3;
    reals sums[PLACES][CHUNKS][PARTS][ROWS]; /* of one chunk `SUMS`, where those are apart */
    for (int place = 0; place < PLACES; place++)
        for (int64_t sum = 0; sum < (apart ? SUMS : chunks); sum++)
            for (int part = 0; part < PARTS; part++)
                for (int i = 0; i < rows; i++) sums[place][sum][part][i] = DO(setzero_ps)();
    for (int64_t group = 0; group < groups; group++)
        for (int place = 0; place < PLACES; place++) {
            const int64_t block = (at + place * gap) * groups + group * OUTPUTS;
            const uint8_t *values = p->weight->values + block / OUTPUTS * size;
            for (int64_t byte = 0; byte < size; byte += 64)
                __builtin_prefetch(values + AHEAD + byte);
            for (int64_t chunk = 0; chunk < chunks; chunk++) {
                const int64_t first = row + chunk * rows;
                reals(*own)[PARTS][ROWS] = sums[place] + chunk;
                if (bits == 4) {
                    const uint32_t *scales = (const uint32_t *)p->weight->scales + block;
                    add_four(p, values, scales, group, first, rows, *own);
                } else if (bits == 8) add_eight(p, values, group, first, rows, *own);
                else add_words(p, values, group, first, rows, bits, apart, own);
            }
        }
    for (int place = 0; place < PLACES; place++)
        for (int64_t chunk = 0; chunk < chunks; chunk++)
            for (int i = 0; i < rows && row + chunk * rows + i < p->rows; i++)
                write_row(p, at + place * gap, row + chunk * rows + i, i, apart ? SUMS / rows : 1,
                          bits, sums[place] + chunk);
}

#define FOR_ROWS(BITS)                                                                            \
    switch (each) {                                                                               \
    case 1: of(p, at, gap, row, chunks, 1, BITS); break;                                          \
    case 2: of(p, at, gap, row, chunks, 2, BITS); break;                                          \
    case 3: of(p, at, gap, row, chunks, 3, BITS); break;                                          \
    case 4: of(p, at, gap, row, chunks, 4, BITS); break;                                          \
    case 5:                                                                                       \
    case 6: of(p, at, gap, row, chunks, ROWS < 6 ? ROWS : 6, BITS); break;                        \
    default: of(p, at, gap, row, chunks, ROWS, BITS);                                             \
    }                                                                                             \
    break;

/* All rows, in chunks of about the same size. */
static void all_rows(const product *p, int64_t at, int64_t gap) {
    for (int64_t row = 0; row < p->rows; row += CHUNKS * ROWS) {
        const int64_t left = p->rows - row, rows = left < CHUNKS * ROWS ? left : CHUNKS * ROWS;
        const int64_t chunks = (rows + ROWS - 1) / ROWS, each = (rows + chunks - 1) / chunks;
        switch (p->weight->bits) {
        case 4: FOR_ROWS(4)
        case 8: FOR_ROWS(8)
        case 16: FOR_ROWS(16)
#ifndef BF16
        case 32: FOR_ROWS(32)
#endif
        }
    }
}

/* For blocks of outputs. */
static void multiply_blocks(const void *given, int64_t from, int64_t to, int64_t thread) {
    const int64_t gap = (to - from) / PLACES;
    (void)thread;
    for (int64_t pair = 0; pair < gap; pair++)
        all_rows(given, (from + pair) * OUTPUTS, gap * OUTPUTS);
    if (to - from > PLACES * gap) all_rows(given, (to - 1) * OUTPUTS, 0);
}

/* What `weight` makes of x (rows, width), `out` (rows, outputs). With `down`, x has beside it what
   that one makes of its first `on` rows, zeros after them, `copies` times. Each part is filled up to
   whole groups. `work` has room for 40 bytes for each group of `weight` and row, 128 if it is of
   words, and 4 for each output of `down` and row, for `ROWS` or a multiple of them. */
void multiply(const real *x, int64_t rows, int64_t width, const matrix *down, int64_t on,
              int64_t copies, const matrix *weight, share *with, int64_t threads, void *work,
              int64_t outputs, real *out) {
    const int64_t filled = (rows + ROWS - 1) / ROWS * ROWS;
    const int64_t groups = weight->groups, all = filled * groups;
    const int64_t first = (width + GROUP - 1) / GROUP;
    const int64_t ranks = down ? down->outputs : 0, more = (ranks + GROUP - 1) / GROUP;
    float *low = work, *rest = low + filled * ranks;
    operand to = {NULL, NULL, NULL, NULL};
    if (weight->bits > 8)
        to.exact = rest;
    else {
        to.scales = rest;
        to.sums = (int32_t *)(rest + all);
        to.rounded = (int8_t *)(rest + 2 * all);
    }
    for (int64_t row = 0; row < rows; row++) put_reals(x + row * width, width, &to, row * groups);
    const int64_t each = to.exact ? GROUP : 1; /* what fills up would be slow if it were denormal */
    memset(rest + rows * groups * each, 0, (all - rows * groups) * each * sizeof(float));
    if (down && on) {
        product p = {&to, down, on, groups, ranks, low, NULL};
        divide(multiply_blocks, &p, ranks / OUTPUTS, PLACES, with, threads);
    }
    for (int64_t row = 0; row < rows && down; row++) {
        if (row >= on) memset(low + row * ranks, 0, ranks * sizeof(float));
        for (int64_t copy = 0; copy < copies; copy++)
            put_floats(low + row * ranks, ranks, &to, row * groups + first + copy * more);
    }
    product p = {&to, weight, rows, groups, outputs, NULL, out};
    divide(multiply_blocks, &p, weight->outputs / OUTPUTS, PLACES, with, threads);
}
#endif
