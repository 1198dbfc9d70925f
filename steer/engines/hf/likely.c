/* The tokens that a plausibility constraint leaves, and what makes log-probabilities of logits.
   PyTorch writes the log-probabilities of a whole vocabulary, of which few are read. */

#include "common.h"

#define SOME 64 /* logits that are looked at together */

typedef struct {
    const real *logits;
    int64_t rows, vocab;
    const float *below;
    float *totals;
    int64_t *tokens, *counts, *others;
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
INLINE int64_t find(const real *restrict x, int64_t count, float floor, int64_t *restrict places,
                    int64_t *restrict other) {
    int64_t found = 0;
    for (int64_t start = 0; start < count; start += SOME) {
        const int64_t size = count - start < SOME ? count - start : SOME;
        int32_t any = 0;
        for (int64_t i = 0; i < size; i++) any |= wide(x[start + i]) >= floor;
        for (int64_t i = 0; any && i < size; i++)
            if (wide(x[start + i]) >= floor) places[found++] = start + i;
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
        const real *x = all->logits + row * vocab;
        const float most = largest(x, vocab);
        all->totals[row] = log_sum(x, vocab, most);
        if (row < all->rows)
            all->counts[row] = find(x, vocab, most - all->below[row], all->tokens + row * vocab,
                                    all->others + row);
    }
}

/* For logits (streams, rows, vocab), `totals` (streams, rows) are what is to be subtracted from them
   for log-probabilities. `tokens` (rows, vocab) are the first stream's that are at most `below`
   (rows,) under its best, in order: `counts` (rows,) of them. `others` (rows,) is one that is not
   among them, if there is one. */
void likely(const real *logits, int64_t streams, int64_t rows, int64_t vocab, const float *below,
            float *totals, int64_t *tokens, int64_t *counts, int64_t *others, share *with,
            int64_t threads) {
    vocabulary all = {logits, rows, vocab, below, totals, tokens, counts, others};
    divide(read_rows, &all, streams * rows, 1, with, threads);
}
