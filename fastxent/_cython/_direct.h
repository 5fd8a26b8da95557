/* One small call of a row kernel, without Python objects: what `_front` fills in and the
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
    ptrdiff_t rows, classes;
    double scale;
    double total;         /* out: the sum of the losses */
    char *room;           /* or NULL */
    ptrdiff_t room_bytes;
    int declined;         /* out: not 0 if nothing was done, and the general path is wanted */
} fx_direct;

typedef void (*fx_direct_run)(fx_direct *);

#define FX_DIRECT "fastxent.direct"

#endif
