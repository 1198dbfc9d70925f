/* The tokens that a plausibility constraint leaves, and what makes log-probabilities of logits.
   PyTorch writes the log-probabilities of a whole vocabulary, of which few are read. */

#include "common.h"

#define SOME 64 /* logits that are looked at together */

typedef struct {
    const real *logits;
    int64_t gap;
    const int64_t *table;
    int64_t rows, vocab;
    const float *below;
    float *totals;
    int32_t *tokens, *counts, *others;
} vocabulary;

/* The largest of x (count,). NaN is not larger than anything. */
INLINE float largest(const real *restrict x, int64_t count) {
    float parts[SOME], most = -INFINITY;
    for (int i = 0; i < SOME; i++) parts[i] = -INFINITY;
    int64_t at = 0;
    for (; at + SOME <= count; at += SOME)
        for (int i = 0; i < SOME; i++) {
            const float each = wide(x[at + i]);
            parts[i] = each > parts[i] ? each : parts[i];
        }
    for (; at < count; at++) most = wide(x[at]) > most ? wide(x[at]) : most;
    for (int i = 0; i < SOME; i++) most = parts[i] > most ? parts[i] : most;
    return most;
}

/* Log of the sum of e^x, for x (count,) of which `most` is the largest. */
INLINE float log_sum(const real *restrict x, int64_t count, float most) {
    float sum = 0;
    for (int64_t i = 0; i < count; i++) sum += exponential(wide(x[i]) - most);
    return most + logf(sum);
}

/* Finds the places of x (count,) that are at least `floor`, and the first that is not. */
INLINE int32_t find(const real *restrict x, int64_t count, float floor, int32_t *restrict places,
                    int32_t *restrict other) {
    int32_t found = 0;
    for (int64_t start = 0; start < count; start += SOME) {
        const int64_t size = count - start < SOME ? count - start : SOME;
        int32_t any = 0;
        for (int64_t i = 0; i < size; i++) any |= wide(x[start + i]) >= floor;
        for (int64_t i = 0; any && i < size; i++)
            if (wide(x[start + i]) >= floor) places[found++] = (int32_t)(start + i);
    }
    for (*other = 0; *other < found && places[*other] == *other;) ++*other;
    return found;
}

/* For rows of streams, the expert's first. */
static void read_rows(const void *given, int64_t from, int64_t to, int64_t thread) {
    const vocabulary *all = given;
    const int64_t vocab = all->vocab;
    (void)thread;
    for (int64_t row = from; row < to; row++) {
        const real *x = all->logits + all->table[row] * all->gap;
        const float most = largest(x, vocab);
        all->totals[row] = log_sum(x, vocab, most);
        if (row < all->rows)
            all->counts[row] = find(x, vocab, most - all->below[row], all->tokens + row * vocab,
                                    all->others + row);
    }
}

/* For streams of rows, whose logits (vocab,) are those rows of `logits`, `gap` apart, that `table`
   (streams, rows) says: `totals` (streams, rows) are what is to be subtracted from them for
   log-probabilities. `tokens` (rows, vocab) are those that are for the first stream at most `below`
   (rows,) under its best, in order, and `counts` (rows,) how many. `others` (rows,) is one that is
   not among them, if there is one. */
void likely(const real *logits, int64_t gap, const int64_t *table, int64_t streams, int64_t rows,
            int64_t vocab, const float *below, float *totals, int32_t *tokens, int32_t *counts,
            int32_t *others, share *with, int64_t threads) {
    vocabulary all = {logits, gap, table, rows, vocab, below, totals, tokens, counts, others};
    divide(read_rows, &all, streams * rows, 1, with, threads);
}
