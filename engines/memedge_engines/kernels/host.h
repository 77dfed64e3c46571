/* Row kernels of the CPU fast path: what one instruction set does to one row. The loop nest around them is host.cpp; the
 * arithmetic is that of pixels.h. host_loops.h states every kernel in plain C++; host_vector.h states the three that take
 * the time again, over the few vector operations that host_avx2.h and host_avx512.h define.
 *
 * Rows of the caller (a frame's planes, the target) are read and written exactly; rows of scratch memory may be read and
 * written up to ME_SLACK elements past their end.
 */
#ifndef MEMEDGE_HOST_H
#define MEMEDGE_HOST_H

#include <stddef.h>
#include <string.h>

#include "pixels.h"

typedef unsigned short me_u16;
typedef unsigned int me_u32;

enum {
    ME_SLACK = 128,      /* elements that scratch rows have to spare */
    ME_MOST_ROWS = 64,   /* most source rows that `down` takes at once */
    ME_UNIT = 8          /* taps per unit of `me_taps` */
};

/* The taps across a row, laid out for a kernel that works on 4 * lanes results at a time: weight[block][unit][4][lanes][8],
 * result 4 * lane + k of a block at [k][lane]. Positions count from the row's first sample; results and taps that do not
 * exist have weight 0. */
struct me_taps {
    const me_i32 *first; /* [blocks * 4 * lanes] */
    const me_i16 *weight;
    me_i32 blocks, units;
};

/* The gains of me_color, also cut in two factors that fit 16 bits: luma * 16 = high * 128 + low, chroma = high * 16 + low. */
struct me_gains {
    me_color color;
    me_i32 base;                                         /* of every sum, with the half for rounding */
    me_u32 luma, red_cr, green_cb, green_cr, blue_cb;    /* low in the lower 16 bits, high in the upper */
};

/* One row to R, G, B. Chroma at columns 2 i and 2 i + 1, in sixteenths less 2048, is
 * even * c[0][i] + (4 - even) * c[1][i] and odd * c[2][i] + (4 - odd) * c[3][i]. */
struct me_color_row {
    const me_u8 *luma;
    const me_i16 *cb[4], *cr[4];
    me_i32 even, odd, count;
    const me_gains *gains;
    me_u8 *out[3];
};

struct me_rows {
    const char *name;
    me_i32 lanes;

    /* between[i] = me_between(sum of weight[t] * row[t][i]); at most ME_MOST_ROWS taps, weights that add up to 1. */
    void (*down)(const me_u8 *const *row, const me_i16 *weight, me_i32 taps, me_i32 count, me_i16 *between);
    /* sum[i] += weight * row[i], and the last step of it, for windows of more rows. */
    void (*add)(const me_u8 *row, me_i32 weight, me_i32 count, me_i32 *sum);
    void (*finish)(const me_i32 *sum, me_i32 count, me_i16 *between);
    /* level[i] = me_level(sum over the taps of i). */
    void (*across)(const me_i16 *between, const me_taps *taps, me_u8 *level);
    /* The same where each result is its sample. */
    void (*narrow)(const me_i16 *between, me_i32 count, me_u8 *level);

    void (*color)(const me_color_row *row);
    void (*gray)(const me_u8 *const rgb[3], me_i32 count, me_u8 *level);
    /* out[i] = (4 - quarter) * upper[i] + quarter * lower[i] - 512; `blend2` of two interleaved rows. */
    void (*blend)(const me_u8 *upper, const me_u8 *lower, me_i32 quarter, me_i32 count, me_i16 *out);
    void (*blend2)(const me_u8 *upper, const me_u8 *lower, me_i32 quarter, me_i32 count, me_i16 *first, me_i16 *second);

    /* Samples apart: of three interleaved rows between the passes, of three and of two rows of bytes; and together. */
    void (*apart)(const me_i16 *triples, me_i32 count, me_i16 *const out[3]);
    void (*apart3)(const me_u8 *triples, me_i32 count, me_u8 *const out[3]);
    void (*apart2)(const me_u8 *pairs, me_i32 count, me_u8 *first, me_u8 *second);
    void (*together)(const me_u8 *const row[3], me_i32 count, me_u8 *triples);
};

#endif
