/* A plain call of a row kernel, without Python objects: what `_front` fills in and the
 * kernels' `direct` computes.  All arrays are C-contiguous, aligned and of native byte order. */
#ifndef FASTXENT_DIRECT_H
#define FASTXENT_DIRECT_H

#include <stddef.h>

typedef enum { LOGSUMEXP, SOFTMAX, LOG_SOFTMAX, INDEX, DENSE } fx_op;

typedef struct {
    fx_op op;
    int bytes;            /* of a logit: float or double; also of losses and gradients */
    int label_bytes;      /* of an index label: 4 or 8 */
    const char *x, *y;    /* y: NULL, index labels, or a distribution in the logits' dtype */
    char *loss, *grad;    /* or NULL */
    ptrdiff_t rows, classes, inner; /* inner: rows that lie side by side, 1 if classes do */
    double scale;
    int stream;
    double *totals;       /* out: the sum of the losses of each block */
} fx_direct;

/* Computes the rows first <= row < stop, a block.  0, or 1 if there is no kernel for such a call,
 * which no rows at all tell as well. */
typedef int (*fx_direct_run)(const fx_direct *, ptrdiff_t first, ptrdiff_t stop, ptrdiff_t block,
                             char *room, ptrdiff_t room_bytes);

#define FX_DIRECT "fastxent.direct"

#endif
